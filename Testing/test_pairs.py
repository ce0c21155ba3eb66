"""Pairs of a weak and a strong image: samples, alignment, and values that their modalities cannot have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from conftest import Ellipsoid, MakeImage
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.inference.preprocessing import Intensity, Preprocessing
from training.data.cases import Case, DataSet, read_dataset, write_dataset
from training.data.modalities import Modality, checked
from training.data.pairing import require_aligned, strong_of
from training.data.patches import Patches
from training.data.windows import Augmentation, Starts, Windows
from training.recipes.image_alone import NO_MASK
from training.recipes.parts import NetworkSettings, OptimizerSettings, Parts

PLAIN = Intensity("window", low=0, high=100)
TWO = Preprocessing(2, (16, 24), 4, (), 8, PLAIN)
THREE = Preprocessing(3, (8, 16, 24), 4, (1.5, 1.2, 1.2), 8, PLAIN)
ALL = pytest.mark.parametrize("kind", [Windows, Patches])
BOTH = pytest.mark.parametrize("preprocessing", [TWO, THREE], ids=["2D", "3D"])


def data_of(
    kind: type[Windows], cases: list[Case], preprocessing: Preprocessing, strong: Intensity | None, **more: Any
) -> Windows:
    settings = {"jitter": 2, "affine": 1.0, "patches": 4 if kind is Patches else 0, **more}
    return kind(cases, preprocessing, NO_MASK, Augmentation(**settings), 7, strong)


@pytest.fixture
def cases(tiny_dataset: Path) -> list[Case]:
    """Two cases whose strong image is the weak one, and one without."""
    first, second, third = read_dataset(tiny_dataset / "tiny").part("train")[:3]
    return [replace(first, strong=first.image), replace(second, strong=second.image), third]


# Samples


@ALL
@BOTH
def test_the_strong_image_changes_nothing_else(cases: list[Case], kind: type[Windows], preprocessing: Any) -> None:
    without, asked = (data_of(kind, cases, preprocessing, strong) for strong in (None, PLAIN))
    assert len(without) == len(asked) and without.unpaired == [] and asked.unpaired == [cases[2].id]
    for index in range(len(without)):
        one, other = without[3, index], asked[3, index]
        assert other.keys() - one.keys() == {"strong", "paired"}
        assert all(torch.equal(one[key], other[key]) for key in one)


@ALL
@BOTH
def test_both_images_move_together_and_vary_apart(cases: list[Case], kind: type[Windows], preprocessing: Any) -> None:
    data = data_of(kind, cases[:2], preprocessing, PLAIN)
    data.transforms.transforms = data.transforms.transforms[:-6]  # type: ignore[union-attr]
    moved = [data[1, index] for index in range(len(data))]
    assert all(torch.equal(sample["image"], sample["strong"]) for sample in moved)
    varied = data_of(kind, cases[:2], preprocessing, PLAIN)
    samples = [varied[1, index] for index in range(len(varied))]
    assert not all(torch.allclose(sample["image"], sample["strong"]) for sample in samples)
    assert all(s["strong"].shape == s["image"].shape and s["strong"].dtype == torch.float32 for s in samples)


@ALL
@BOTH
def test_a_case_without_a_strong_image_has_zeros(cases: list[Case], kind: type[Windows], preprocessing: Any) -> None:
    data = data_of(kind, cases, preprocessing, PLAIN)
    seen = {True: 0, False: 0}
    for batch in DataLoader(data, 3):
        assert batch["paired"].dtype == torch.bool
        for strong, paired, index in zip(batch["strong"], batch["paired"], batch["index"], strict=True):
            assert bool(paired) == (data.names_of(index[None]) != [cases[2].id])
            assert bool(strong.any()) == bool(paired), "no noise is added to what is missing"
            seen[bool(paired)] += 1
    assert min(seen.values()) > 0


@ALL
def test_the_strong_image_has_intensities_of_its_own(cases: list[Case], kind: type[Windows]) -> None:
    data = kind(cases[:1], TWO, NO_MASK, None, 0, Intensity("window", low=0, high=200))
    sample = data[len(data) // 2]
    inside = (sample["image"] > 0) & (sample["image"] < 1)
    assert torch.allclose(sample["strong"][inside], sample["image"][inside] / 2, atol=1e-3)


@BOTH
def test_a_strong_image_on_another_grid_is_brought_to_the_weak_one(
    cases: list[Case], preprocessing: Preprocessing, tmp_path: Path
) -> None:
    weak = sitk.ReadImage(str(cases[0].image))
    ramp = sitk.GetImageFromArray(np.broadcast_to(np.arange(32.0, dtype=np.float32), (16, 32, 32)).copy())
    ramp.CopyInformation(weak)
    size, spacing = [40, 40, 24], [1.7, 1.3, 2.9]
    other = sitk.Resample(ramp, size, sitk.Transform(), sitk.sitkLinear, weak.GetOrigin(), spacing, weak.GetDirection())
    for name, image in (("weak", ramp), ("strong", other)):
        sitk.WriteImage(image, str(tmp_path / f"{name}.nii.gz"))
    case = replace(cases[0], image=tmp_path / "weak.nii.gz", strong=tmp_path / "strong.nii.gz")
    sample = Windows([case], preprocessing, NO_MASK, None, 0, PLAIN)[4 if preprocessing is TWO else 0]
    assert sample["image"].std() > 0.01
    assert torch.allclose(sample["strong"], sample["image"], atol=0.02)


def test_a_sample_without_coarse_mask_and_with_two_weak_channels_has_one_strong(cases: list[Case]) -> None:
    case = replace(cases[0], channels=(cases[0].image,), coarse=None)
    sample = Windows([case], TWO, NO_MASK, None, 0, PLAIN)[0]
    assert (sample["image"].shape[0], sample["strong"].shape[0]) == (2, 1)


def test_strong_images_survive_writing_and_reading(cases: list[Case], tmp_path: Path) -> None:
    dataset = DataSet("pairs", {1: "lesion"}, tuple(cases))
    write_dataset(tmp_path, dataset)
    assert [case.strong for case in read_dataset(tmp_path).cases] == [case.strong for case in cases]


def test_a_recipe_s_windows_have_the_strong_image_where_asked(cases: list[Case]) -> None:
    dataset = DataSet("pairs", {1: "lesion"}, tuple(replace(case, split="train") for case in cases))
    parts = Parts(dataset, TWO, NetworkSettings(), OptimizerSettings(), 0, Augmentation(jitter=1))
    assert "strong" not in parts.windows("train", Starts(), augment=True)[0]
    assert "strong" in parts.windows("train", Starts(), augment=True, strong=PLAIN)[0]


# Alignment


def head(ellipsoid: Ellipsoid, *, brain: bool = False) -> NDArray[np.float32]:
    """A CT of a head at 3 mm, with nose; or the ADC of its brain."""
    shape = (60, 80, 70)
    whole = ellipsoid(shape, (30, 40, 35), (22, 28, 22)) | ellipsoid(shape, (24, 12, 35), (5, 5, 5))
    inner = ellipsoid(shape, (31, 41, 35), (17, 22, 18))
    noise = np.random.default_rng(0).normal(0, 20, shape)
    voxels = np.where(inner, 800.0, 0) if brain else np.where(inner, 35, np.where(whole, 400, -1000))
    return (voxels + noise * (inner | (not brain))).astype(np.float32)


def moved(image: sitk.Image, millimetres: tuple[float, ...]) -> sitk.Image:
    image = sitk.Image(image)
    image.SetOrigin(np.add(image.GetOrigin(), millimetres).tolist())
    return image


@pytest.fixture(scope="module")
def ct(ellipsoid: Ellipsoid, make_image: MakeImage) -> sitk.Image:
    return make_image(head(ellipsoid), (3, 3, 3))


@pytest.fixture(scope="module")
def adc(ellipsoid: Ellipsoid, make_image: MakeImage) -> sitk.Image:
    return make_image(head(ellipsoid, brain=True), (3, 3, 3))


def pet_of(ct: sitk.Image) -> sitk.Image:
    """Background, tissue at 1 SUV, a hot spot of 40."""
    values = np.where(sitk.GetArrayFromImage(ct) > -500, 1.0, 0.02).astype(np.float32)
    values[30:33, 40:43, 30:33] = 40
    pet = sitk.GetImageFromArray(values)
    pet.CopyInformation(ct)
    return pet


@pytest.mark.parametrize("shift", [(0.0, 0, 0), (4, -3, 2)])
@pytest.mark.parametrize("kind", ["ct", "pet", "adc"])
def test_pairs_in_one_place_pass(ct: sitk.Image, adc: sitk.Image, kind: str, shift: tuple[float, ...]) -> None:
    strong = {"ct": ct, "pet": pet_of(ct), "adc": adc}[kind]
    require_aligned("a", ct, moved(strong, shift))


@pytest.mark.parametrize(
    ("shift", "said"),
    [((30.0, 0, 0), "30 mm (30 mm right)"), ((0, -30, 0), "30 mm (30 mm back)"), ((0, 0, 45), "45 mm (45 mm down)")],
)
@pytest.mark.parametrize("kind", ["ct", "pet"])
def test_a_shift_is_measured_and_refused(ct: sitk.Image, kind: str, shift: tuple[float, ...], said: str) -> None:
    strong = {"ct": ct, "pet": pet_of(ct)}[kind]
    with pytest.raises(InputError) as caught:
        require_aligned("case 7", ct, moved(strong, shift))
    for text in ("'case 7'", said, "register the strong image to the weak one, or leave it out"):
        assert text in str(caught.value)


def test_a_shift_is_told_in_the_patient_s_directions(ct: sitk.Image) -> None:
    turned = sitk.DICOMOrient(ct, "SRA")
    with pytest.raises(InputError, match=r"30 mm \(30 mm right\)"):
        require_aligned("a", turned, moved(ct, (30, 0, 0)))


@pytest.mark.parametrize("strong", ["ct", "adc"])
def test_a_part_of_the_field_of_view_passes_and_is_refused_when_shifted(
    ct: sitk.Image, adc: sitk.Image, strong: str
) -> None:
    part = {"ct": ct, "adc": adc}[strong][10:60, 5:75, 20:50]
    require_aligned("a", ct, part)
    with pytest.raises(InputError, match="is not where"):
        require_aligned("a", ct, moved(part, (90, 0, 0)))


def test_an_image_elsewhere_is_refused(ct: sitk.Image) -> None:
    with pytest.raises(InputError, match="'a' lies beside its weak one"):
        require_aligned("a", ct, moved(ct, (900, 0, 0)))


def test_what_lies_outside_the_strong_image_has_its_least_value(ct: sitk.Image, tmp_path: Path) -> None:
    sitk.WriteImage(ct[:, :, 20:50], str(tmp_path / "part.nii.gz"))
    strong = sitk.GetArrayFromImage(strong_of(Case("a", Path("x"), strong=tmp_path / "part.nii.gz"), ct))
    whole = sitk.GetArrayFromImage(ct)
    assert np.allclose(strong[20:50], whole[20:50], atol=1e-3)
    assert np.allclose(strong[:20], whole[20:50].min())


@ALL
def test_training_refuses_a_pair_that_is_not_one(cases: list[Case], tmp_path: Path, kind: type[Windows]) -> None:
    away = moved(sitk.ReadImage(str(cases[0].image)), (0, 500, 0))
    sitk.WriteImage(away, str(tmp_path / "away.nii.gz"))
    with pytest.raises(InputError, match=f"'{cases[0].id}' lies beside"):
        kind([replace(cases[0], strong=tmp_path / "away.nii.gz")], TWO, NO_MASK, None, 0, PLAIN)[0]
    with pytest.raises(InputError, match="gone"):
        kind([replace(cases[0], strong=tmp_path / "gone.nii.gz")], TWO, NO_MASK, None, 0, PLAIN)[0]


# Values


def values(fill: float, **places: float) -> sitk.Image:
    """20³ voxels, of which so many (by their value) differ: ``values(40, n500=-1000)``."""
    array, start = np.full(8000, fill, np.float32), 0
    for count, value in places.items():
        array[start : start + int(count[1:])] = value
        start += int(count[1:])
    return sitk.GetImageFromArray(array.reshape(20, 20, 20))


@pytest.mark.parametrize(
    ("modality", "image"),
    [
        ("CT", values(40, n4000=-1000)),
        ("CT", values(40, n3000=-1000, n1000=-3024)),
        ("CT", values(40, n3000=-1000, n1000=-2000)),
        ("CT", values(40, n3000=-1000, n5=30000)),
        ("PET", values(0.1, n1000=1, n20=15)),
        ("PET", values(0.1, n1000=1, n10=-0.3)),
        ("ADC", values(0, n3000=800, n200=3200)),
        ("MR", values(0, n3000=2500)),
    ],
)
def test_values_of_the_modality_pass(modality: Modality, image: sitk.Image) -> None:
    assert checked(image, modality, "it") is image


@pytest.mark.parametrize(
    ("modality", "image", "said"),
    [
        ("CT", values(40, n4000=-1000, n50=-1500, n51=-1700, n52=-1900), "down to -1900, which no CT has"),
        ("CT", values(40, n4000=-1000, n100=9000), "too many values above 4000"),
        ("CT", values(0, n1000=5), "is it swapped with the strong image"),
        ("CT", values(1064, n4000=24), "rescale intercept"),
        ("CT", values(40, n4000=-1000, n1=np.nan), "not a number"),
        ("PET", values(40, n4000=-1000), "PET and CT swapped"),
        ("PET", values(0), "empty PET"),
        ("PET", values(100, n1000=8000), "no SUV"),
        ("PET", values(1, n1=np.nan), "not a number"),
        ("ADC", values(40, n4000=-1000), "ADC and CT swapped"),
        ("ADC", values(0, n3000=8e-7), "which is no ADC"),
        ("ADC", values(0), "which is no ADC"),
        ("MR", values(3), "same value everywhere"),
    ],
)
def test_values_of_another_modality_or_unit_are_refused(modality: Modality, image: sitk.Image, said: str) -> None:
    with pytest.raises(InputError, match=f"it .*{said}"):
        checked(image, modality, "it")


@pytest.mark.parametrize("factor", [1e3, 1e6])
def test_adc_in_another_unit_is_converted_and_told(factor: float, capsys: pytest.CaptureFixture[str]) -> None:
    published = values(0, n3000=800 / factor, n200=3200 / factor)
    assert sitk.GetArrayFromImage(checked(published, "ADC", "it")).max() == pytest.approx(3200)
    assert "it is in" in capsys.readouterr().err
