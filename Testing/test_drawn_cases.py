"""Drawn cases: what was drawn as segments becomes a training set that RefineSeg learns from as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from conftest import MakeImage
from numpy.typing import NDArray
from tiny_models import contents

from NoisyLabelSegLib.correction_pairs import add_pair
from NoisyLabelSegLib.drawn_cases import add_drawings
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import read_image, write_image
from NoisyLabelSegLib.segmentations import Segment, Segmentation, write_segmentation
from training.__main__ import main
from training.data.cases import read_dataset, split_of
from training.data.drawings import Strategy, read_drawings, strategies_of

SHAPE = (4, 32, 36)
Mask = NDArray[np.bool_]
INSIDE, OUTSIDE = Strategy("annotator", False), Strategy("annotator", True)


def box(*sides: tuple[int, int]) -> Mask:
    mask = np.zeros(SHAPE, bool)
    mask[tuple(slice(*side) for side in sides)] = True
    return mask


RING, CORE, RIM = box((1, 3), (4, 8), (4, 30)), box((1, 3), (12, 20), (10, 24)), box((0, 4), (28, 32), (0, 36))
DRAWN = {"ring": RING, "core": CORE, "background": RIM, "not core": RING | RIM, "not ring": CORE | RIM}


def picture(make_image: MakeImage) -> sitk.Image:
    noise = np.random.default_rng(0).normal(0, 5, SHAPE)
    return make_image((noise + 60 * CORE + 30 * RING).astype(np.float32))


def segmentation(make_image: MakeImage, masks: dict[str, Mask]) -> Segmentation:
    layers = [make_image(mask.astype(np.uint8)) for mask in masks.values()]
    return Segmentation(
        sitk.Compose(layers) if len(layers) > 1 else layers[0],
        tuple(Segment(name, 1, layer) for layer, name in enumerate(masks)),
    )


def codes(folder: Path, number: int = 0) -> dict[str, NDArray[np.int32]]:
    """What the training reads of a case, by strategy."""
    case = read_dataset(folder).cases[number]
    strategies = strategies_of([case])
    found = read_drawings(case, read_image(case.image), strategies)
    return {str(strategy): one for strategy, one in zip(strategies, found, strict=True)}


EXPECTED = {
    str(INSIDE): 2 * RING + 3 * CORE + 1 * RIM,
    str(OUTSIDE): (1 << 2) * (RING | RIM) + (1 << 1) * (CORE | RIM),
}


def test_drawings_come_back_as_they_were(tmp_path: Path, make_image: MakeImage) -> None:
    folder = tmp_path / "our site ü" / "drawn"
    add_drawings(folder, "case 1", "P1", picture(make_image), segmentation(make_image, DRAWN))
    dataset = read_dataset(folder)
    (case,) = dataset.cases
    assert (case.id, case.patient, case.split, case.label) == ("case 1", "P1", split_of("P1"), None)
    assert dataset.labels == {1: "ring", 2: "core"}
    found = codes(folder)
    assert found.keys() == EXPECTED.keys()
    for strategy, expected in EXPECTED.items():
        assert np.array_equal(found[strategy], expected)


def test_annotators_are_strategies(tmp_path: Path, make_image: MakeImage) -> None:
    masks = {"core": CORE, "core @ben": CORE, "not ring @ben": RIM}
    add_drawings(tmp_path, "a", "P1", picture(make_image), segmentation(make_image, masks))
    assert list(codes(tmp_path)) == ["annotator (positive)", "ben (positive)", "ben (complementary)"]


def test_a_structure_has_one_value_in_pairs_and_drawings(tmp_path: Path, make_image: MakeImage) -> None:
    image, core = picture(make_image), segmentation(make_image, {"core": CORE})
    add_pair(tmp_path, "pair", "P1", image, core, core)
    add_drawings(tmp_path, "drawn", "P2", image, segmentation(make_image, {"not ring": RIM, "core": CORE}))
    add_drawings(tmp_path, "outside", "P3", image, segmentation(make_image, {"background": RIM}))
    assert read_dataset(tmp_path).labels == {1: "core", 2: "ring"}
    assert set(np.unique(codes(tmp_path, 1)[str(INSIDE)])) == {0, 2}
    assert set(np.unique(codes(tmp_path, 1)[str(OUTSIDE)])) == {0, 4}


def test_a_case_is_replaced_with_all_its_files(tmp_path: Path, make_image: MakeImage) -> None:
    image, core = picture(make_image), segmentation(make_image, {"core": CORE})
    drawn = segmentation(make_image, {"core": CORE, "not core": RIM})

    def files() -> list[str]:
        return sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.nii.gz"))

    add_drawings(tmp_path, "a", "P1", image, drawn)
    add_drawings(tmp_path, "a_1", "P1", image, core)
    others = ["drawings/a_1_1.nii.gz", "images/a.nii.gz", "images/a_1.nii.gz"]
    assert files() == sorted([*others, "drawings/a_1.nii.gz", "drawings/a_2.nii.gz"])
    before = contents(tmp_path)
    with pytest.raises(InputError, match="has the case 'a' already"):
        add_drawings(tmp_path, "a", "P1", image, core)
    assert contents(tmp_path) == before
    add_drawings(tmp_path, "a", "P1", image, core, overwrite=True)
    assert files() == sorted([*others, "drawings/a_1.nii.gz"])
    add_pair(tmp_path, "a", "P1", image, core, core, overwrite=True)
    assert files() == sorted([*others, "labels/a.nii.gz", "coarse/a.nii.gz"])
    assert [case.id for case in read_dataset(tmp_path).cases] == ["a_1", "a"]


def test_drawings_of_others_are_not_replaced(tmp_path: Path, make_image: MakeImage) -> None:
    (tmp_path / "drawings").mkdir()
    (tmp_path / "drawings" / "a_3.nii.gz").write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(InputError, match=r"a_3\.nii\.gz exists already and belongs to no case"):
        add_drawings(tmp_path, "a", "P1", picture(make_image), segmentation(make_image, {"core": CORE}), overwrite=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("masks", "patient", "said"),
    [
        ({"ring": RING, "core": RING}, "P1", "overlap in 208 voxels"),
        ({"ring": RING, "core": box((0, 0))}, "P1", "'core' has no voxel"),
        ({"not": RING}, "P1", "does not say what is drawn"),
        ({"not background": RING}, "P1", "which structure it is"),
        ({"ring": RING}, " ", "patient's identifier is empty"),
    ],
)
def test_what_cannot_be_learned_from_is_refused_and_nothing_written(
    tmp_path: Path, make_image: MakeImage, masks: dict[str, Mask], patient: str, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        add_drawings(tmp_path / "new", "a", patient, picture(make_image), segmentation(make_image, masks))
    assert list(tmp_path.iterdir()) == []


def test_drawings_on_another_grid_are_refused(tmp_path: Path, make_image: MakeImage) -> None:
    drawn = segmentation(make_image, {"core": CORE})
    drawn.image.SetOrigin((0, 0, 0))
    with pytest.raises(InputError, match="not on the image's grid"):
        add_drawings(tmp_path, "a", "P1", picture(make_image), drawn)


def test_a_full_disk_leaves_the_drawings_as_they_were(
    tmp_path: Path, make_image: MakeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = segmentation(make_image, DRAWN)
    add_drawings(tmp_path, "a", "P1", picture(make_image), drawn)
    before = contents(tmp_path)

    def fail(*_: Any) -> None:
        raise RuntimeError("ITK could not write")

    monkeypatch.setattr(sitk, "WriteImage", fail)
    for overwrite, case in ((True, "a"), (False, "b")):
        with pytest.raises(InputError, match="cannot be written"):
            add_drawings(tmp_path, case, "P1", picture(make_image), drawn, overwrite=overwrite)
    assert contents(tmp_path) == before


EXPERIMENT = """\
recipe: refineseg
data: drawn
preprocessing: {dimensions: 2, window: [32, 32], margin: 0, intensity: {rule: z-score}}
augmentation: {jitter: 0, affine: 0}
network: {name: unet, arguments: {features: [2, 2, 2, 2, 2, 2]}}
engine: {epochs: 1, batch_size: 2, accelerator: cpu, devices: 1, threads: 1}
"""


def train(folder: Path) -> None:
    (folder / "teach.yaml").write_text(EXPERIMENT, encoding="utf-8")
    threads = torch.get_num_threads()
    assert main(["train", str(folder / "teach.yaml"), "--data", str(folder), "--runs", str(folder / "runs")]) == 0
    torch.set_num_threads(threads)
    assert (folder / "runs" / "teach-full-seed0" / "best.ckpt").is_file()


PATIENTS = {part: next(f"P{n}" for n in range(1000) if split_of(f"P{n}") == part) for part in ("train", "val")}


def test_refineseg_learns_from_the_folder_as_it_is(tmp_path: Path, make_image: MakeImage) -> None:
    for case, patient in PATIENTS.items():
        add_drawings(tmp_path / "drawn", case, patient, picture(make_image), segmentation(make_image, DRAWN))
    train(tmp_path)


def saved(folder: Path, make_image: MakeImage, ending: str = ".nii.gz", **drawn: dict[str, Mask]) -> Path:
    """A folder with images and segmentations beside them, as a person leaves it."""
    folder.mkdir()
    for name, masks in drawn.items():
        write_image(folder / f"{name}{ending}", picture(make_image))
        write_segmentation(folder / f"{name}.seg.nrrd", segmentation(make_image, masks))
    return folder


def prepare(source: Path, data: Path) -> int:
    return main(["prepare", "segments", str(source), "--data", str(data), "--name", "drawn"])


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd"])
def test_a_folder_of_segmentations_is_prepared_and_trained_on(
    tmp_path: Path, make_image: MakeImage, ending: str
) -> None:
    names = {f"{patient}_frame01": DRAWN for patient in PATIENTS.values()}
    source = saved(tmp_path / "source", make_image, ending, **names)
    write_image(source / "undrawn.nrrd", picture(make_image))
    assert prepare(source, tmp_path) == 0
    dataset = read_dataset(tmp_path / "drawn")
    assert dataset.labels == {1: "ring", 2: "core"}
    assert [(case.id, case.patient) for case in dataset.cases] == sorted((f"{p}_frame01", p) for p in PATIENTS.values())
    found = codes(tmp_path / "drawn")
    for strategy, expected in EXPECTED.items():
        assert np.array_equal(found[strategy], expected)
    train(tmp_path)


def test_a_cropped_segmentation_is_brought_to_its_image(
    tmp_path: Path, make_image: MakeImage, capsys: pytest.CaptureFixture[str]
) -> None:
    source = saved(tmp_path / "source", make_image, a={"core": CORE})
    whole = segmentation(make_image, {"core": CORE})
    write_segmentation(source / "a.seg.nrrd", Segmentation(whole.image[8:28, 10:24, :], whole.segments))
    assert prepare(source, tmp_path) == 0
    assert np.array_equal(codes(tmp_path / "drawn")[str(INSIDE)], 2 * CORE)
    assert "a: The mask was on another grid" in capsys.readouterr().err


def misplace(source: Path) -> None:
    image = sitk.ReadImage(str(source / "a.nii.gz"))
    image.SetOrigin((5000, 0, 0))
    sitk.WriteImage(image, str(source / "a.nii.gz"))


@pytest.mark.parametrize(
    ("drawn", "spoil", "said"),
    [
        ({}, lambda f: None, "There are no '*.seg.nrrd' files"),
        ({"a": DRAWN}, lambda f: (f / "a.nii.gz").unlink(), "put 'a.nii.gz' or 'a.nrrd' beside it"),
        ({"a": DRAWN}, misplace, "a.seg.nrrd: The mask lies outside of the image"),
        ({"a": DRAWN}, lambda f: (f / "a.seg.nrrd").rename(f / "(a).seg.nrrd"), "which cannot name a file"),
        ({"a": {"not": CORE}}, lambda f: None, "a.seg.nrrd: The segment 'not' does not say what is drawn"),
        ({"a": {"ring": CORE, "core": CORE}}, lambda f: None, "a.seg.nrrd: The segments 'ring' and 'core' overlap"),
        ({"a": {f"s{n}": CORE for n in range(24)}}, lambda f: None, "24 structures are drawn"),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, make_image: MakeImage, capsys: pytest.CaptureFixture[str], drawn: Any, spoil: Any, said: str
) -> None:
    source = saved(tmp_path / "source", make_image, **drawn)
    spoil(source)
    assert prepare(source, tmp_path) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "drawn" / "dataset.json").exists()


def test_the_list_says_what_numbers_mean(tmp_path: Path, make_image: MakeImage) -> None:
    add_drawings(tmp_path, "a", "P1", picture(make_image), segmentation(make_image, {"core": CORE, "not core": RIM}))
    (entry,) = json.loads((tmp_path / "dataset.json").read_text(encoding="utf-8"))["training"]
    assert entry["drawings"] == [
        {"path": "drawings/a_1.nii.gz", "annotator": "annotator", "kind": "positive", "ignore": 255},
        {
            "path": "drawings/a_2.nii.gz",
            "annotator": "annotator",
            "kind": "complementary",
            "ignore": 255,
            "means": {"0": [1]},
        },
    ]
