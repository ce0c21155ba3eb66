"""Published paired data sets: found by their names, checked, one lesion class; what is missing or mixed up is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import Ellipsoid, MakeImage

from NoisyLabelSegLib.errors import InputError
from training.__main__ import main
from training.data.adapters import ADAPTERS
from training.data.cases import DataSet, read_dataset

Images = dict[str, sitk.Image]
ADAPTED = ("hecktor", "autopet", "apis", "ms_flair_t1")
PLAIN, CONTRAST = (
    "08-25-2003-NA-PET-CT Ganzkoerper nativ-22953",
    "03-23-2003-NA-PET-CT Ganzkoerper  primaer mit KM-10445",
)
FILES = {
    "hecktor": ("imagesTr/CHUM-001__CT.nii.gz", "imagesTr/CHUM-001__PT.nii.gz", "labelsTr/CHUM-001.nii.gz"),
    "autopet": tuple(f"PETCT_0011f3deaf/{PLAIN}/{kind}.nii.gz" for kind in ("CTres", "SUV", "SEG")),
    "apis": tuple(
        f"train_000/{kind}.nii.gz" for kind in ("train_000_ncct", "train_000_adc", "masks/train_000_r1_mask")
    ),
    "ms_flair_t1": ("imagesTr/patient07_t1.nii.gz", "imagesTr/patient07_flair.nii.gz", "labelsTr/patient07.nii.gz"),
}
"""The weak image, the strong one and the label of the first case."""
PATIENTS = {"hecktor": "CHUM-001", "autopet": "PETCT_0011f3deaf", "apis": "train_000", "ms_flair_t1": "patient07"}


@pytest.fixture(scope="module")
def images(ellipsoid: Ellipsoid, make_image: MakeImage) -> Images:
    """A body in every modality: CT at 4 mm, the others at 5 mm on a smaller field of view, labels 1 and 2."""

    def of(spacing: float, inside: float, outside: float) -> sitk.Image:
        size = int(160 / spacing)
        shape, radii = (size,) * 3, (0.4 * size, 0.3 * size, 0.35 * size)
        body = ellipsoid(shape, (size / 2,) * 3, radii)
        voxels = np.where(body, inside, outside) + np.random.default_rng(0).normal(0, 0.01 * inside, shape)
        return make_image(voxels.astype(np.float32), (spacing,) * 3)

    labels = np.zeros((32, 32, 32), np.uint8)
    labels[14:17, 14:17, 14:17], labels[14:17, 20:22, 14:17] = 1, 2
    strong = {"PET": of(5, 1, 0.01), "ADC": of(5, 900, 1)}
    return {"CT": of(4, 40, -1000), "MR": of(4, 900, 0), "label": make_image(labels, (5, 5, 5)), **strong}


MODALITIES = {"hecktor": ("CT", "PET"), "autopet": ("CT", "PET"), "apis": ("CT", "ADC"), "ms_flair_t1": ("MR", "MR")}


@pytest.fixture(params=ADAPTED)
def adapter(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def write(source: Path, adapter: str, images: Images, case: tuple[str, str] = ("", "")) -> Path:
    """Write the first case; ``case``: what to replace in its files' names, for another one."""
    for name, kind in zip(FILES[adapter], (*MODALITIES[adapter], "label"), strict=True):
        path = source / (name.replace(*case) if case[0] else name)
        path.parent.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(images[kind], str(path))
    return source


def adapted(source: Path, adapter: str) -> DataSet:
    return ADAPTERS[adapter](source, source.parent / "target")


def test_a_case_as_published(tmp_path: Path, adapter: str, images: Images) -> None:
    dataset = adapted(write(tmp_path / "source", adapter, images), adapter)
    (case,) = dataset.cases
    assert case.patient == PATIENTS[adapter] and list(dataset.labels) == [1] and dataset.licence
    assert case.image == tmp_path / "source" / FILES[adapter][0]
    assert case.strong == tmp_path / "source" / FILES[adapter][1]
    label, weak = (sitk.ReadImage(str(path)) for path in (case.label, case.image))
    assert label.GetSize() == weak.GetSize() and label.GetSpacing() == weak.GetSpacing(), "on the weak image's grid"
    array = sitk.GetArrayFromImage(label)
    assert set(np.unique(array)) == {0, 1}, "one lesion class"
    assert float(array.sum()) * 4**3 == pytest.approx((27 + 18) * 5**3, rel=0.3)


def test_prepare_writes_a_data_set_that_can_be_read(tmp_path: Path, adapter: str, images: Images) -> None:
    source = write(tmp_path / "source", adapter, images)
    assert main(["prepare", adapter, str(source), "--data", str(tmp_path), "--name", "made"]) == 0
    (case,) = read_dataset(tmp_path / "made").cases
    assert case.strong and case.strong.is_file() and case.image.is_file() and case.label and case.label.is_file()


@pytest.mark.parametrize(("which", "told"), [(1, "None of the 1 cases"), (2, "1 of the 2 files")])
def test_missing_files_are_counted_and_the_first_is_named(
    tmp_path: Path, adapter: str, images: Images, which: int, told: str
) -> None:
    source = write(tmp_path / "source", adapter, images)
    (source / FILES[adapter][which]).unlink()
    with pytest.raises(InputError) as caught:
        adapted(source, adapter)
    assert told in str(caught.value) and str(source / FILES[adapter][which]) in str(caught.value)


def test_cases_without_a_strong_image_are_kept_and_counted(
    tmp_path: Path, images: Images, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "source", "hecktor", images)
    write(source, "hecktor", images, ("CHUM-001", "CHUM-002"))
    (source / "imagesTr" / "CHUM-002__PT.nii.gz").unlink()
    dataset = adapted(source, "hecktor")
    assert [case.strong is None for case in dataset.cases] == [False, True]
    assert "1 of 2 cases have no PET, the first is 'CHUM-002'" in capsys.readouterr().err


def test_another_folder_is_said_to_be_one(tmp_path: Path, adapter: str) -> None:
    with pytest.raises(InputError, match="is this the data set's folder"):
        adapted(tmp_path, adapter)


@pytest.mark.parametrize("adapter", ["hecktor", "autopet", "apis"])
def test_swapped_modalities_are_refused(tmp_path: Path, adapter: str, images: Images) -> None:
    source = write(tmp_path / "source", adapter, images)
    weak, strong = (source / name for name in FILES[adapter][:2])
    swapped = sitk.ReadImage(str(strong)), sitk.ReadImage(str(weak))
    for path, image in zip((weak, strong), swapped, strict=True):
        sitk.WriteImage(image, str(path))
    with pytest.raises(InputError, match="swapped"):
        adapted(source, adapter)


def test_a_shifted_strong_image_is_refused(tmp_path: Path, adapter: str, images: Images) -> None:
    source = write(tmp_path / "source", adapter, images)
    path = source / FILES[adapter][1]
    image = sitk.ReadImage(str(path))
    image.SetOrigin(np.add(image.GetOrigin(), (40, 0, 0)).tolist())
    sitk.WriteImage(image, str(path))
    with pytest.raises(InputError, match=r"(36|40|44) mm \(.* right\)"):
        adapted(source, adapter)


def test_autopet_leaves_studies_with_contrast_agent_out(
    tmp_path: Path, images: Images, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "source", "autopet", images, (PLAIN, CONTRAST))
    with pytest.raises(InputError, match="All 1 studies"):
        adapted(source, "autopet")
    write(source, "autopet", images)
    second = PLAIN.replace("2003", "2004")
    write(source, "autopet", images, (PLAIN, second))
    cases = adapted(source, "autopet").cases
    assert [case.image.parent.name for case in cases] == [PLAIN, second]
    assert {case.patient for case in cases} == {"PETCT_0011f3deaf"} and len({case.split for case in cases}) == 1
    assert "1 studies with contrast agent are left out" in capsys.readouterr().err


def test_apis_in_another_unit_is_converted(tmp_path: Path, images: Images) -> None:
    scaled = {**images, "ADC": images["ADC"] * 1e-6}
    (case,) = adapted(write(tmp_path / "source", "apis", scaled), "apis").cases
    assert case.strong == tmp_path / "target" / "strongTr" / "train_000.nii.gz"
    assert np.percentile(sitk.GetArrayFromImage(sitk.ReadImage(str(case.strong))), 99) == pytest.approx(900, rel=0.1)


def test_each_ms_patient_is_left_out_once(tmp_path: Path, images: Images) -> None:
    names = ("patient07", "patient19", "patient26")
    for name in names:
        write(tmp_path / "source", "ms_flair_t1", images, ("patient07", name))
    adapted(tmp_path / "source", "ms_flair_t1")
    for name in names:
        dataset, strong = (read_dataset(tmp_path / "target" / name / f"ms_flair_t1{end}") for end in ("", "_strong"))
        assert [case.patient for case in dataset.part("test")] == [name]
        for part in (dataset.part("train"), dataset.part("val")):
            assert {case.patient for case in part} == set(names) - {name}
        assert all(case.image.is_file() and case.strong and case.strong.is_file() for case in dataset.cases)
        assert [(case.image, case.split) for case in strong.cases] == [(c.strong, c.split) for c in dataset.cases]


def test_the_strong_images_alone_become_a_data_set_on_the_weak_ones_grid(tmp_path: Path, images: Images) -> None:
    source = write(tmp_path / "source", "hecktor", images)
    where = ["--data", str(tmp_path)]
    assert main(["prepare", "hecktor", str(source), *where]) == 0
    assert main(["strong", "hecktor", *where]) == 0
    (pair,), (alone,) = (read_dataset(tmp_path / name).cases for name in ("hecktor", "hecktor_strong"))
    assert (alone.label, alone.split, alone.strong) == (pair.label, pair.split, None)
    image, weak = sitk.ReadImage(str(alone.image)), sitk.ReadImage(str(pair.image))
    assert image.GetSize() == weak.GetSize() and image.GetOrigin() == weak.GetOrigin()
    middle = [size // 2 for size in image.GetSize()]
    assert image[middle] == pytest.approx(images["PET"][[size // 2 for size in images["PET"].GetSize()]], abs=0.1)
