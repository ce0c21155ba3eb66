"""Drawings in the data format: read, simulated, laid into training windows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import Ellipsoid, MakeImage
from numpy.typing import NDArray

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import write_image
from NoisyLabelSegLib.inference.preprocessing import Preprocessing
from training.__main__ import main
from training.data.adapters.acdc import scribbles
from training.data.cases import Case, DataSet, Drawing, read_dataset, write_dataset
from training.data.drawings import (
    Strategy,
    contradictions,
    drawn_foreground,
    drawn_voxels,
    read_drawings,
    strategies_of,
)
from training.data.drawn import complements, draw_dataset, eroded
from training.data.windows import Augmentation, Starts, Windows

SHAPE = (3, 40, 44)
CLASSES = 3
NO_MASK = Starts(coarse=0, empty=1)


@pytest.fixture(scope="module")
def labels(ellipsoid: Ellipsoid) -> NDArray[np.uint8]:
    """A ring, 1, about a core, 2."""
    outer, inner = (ellipsoid(SHAPE, (1, 20, 22), (9, radius, radius)) for radius in (14, 8))
    return (outer.astype(np.uint8) + inner).astype(np.uint8)


@pytest.fixture
def dataset(tmp_path: Path, labels: NDArray[np.uint8], make_image: MakeImage) -> DataSet:
    cases = []
    for name, split in (("a", "train"), ("b", "val")):
        for kind, array in (("image", labels * 100.0), ("label", labels)):
            write_image(tmp_path / f"{name}_{kind}.nii.gz", make_image(array))
        files = [tmp_path / f"{name}_{kind}.nii.gz" for kind in ("image", "label")]
        cases.append(Case(name, files[0], files[1], patient=name, split=split))  # type: ignore[arg-type]
    return DataSet("rings", {1: "ring", 2: "core"}, tuple(cases))


def read(case: Case) -> sitk.Image:
    return sitk.ReadImage(str(case.image))


def test_what_is_drawn_is_true_and_leaves_the_borders_out(
    dataset: DataSet, labels: NDArray[Any], tmp_path: Path
) -> None:
    drawn = draw_dataset(dataset, tmp_path / "drawn", 2, 3)
    case = read_dataset(tmp_path / "drawn").cases[0]
    assert case == drawn.cases[0], "it can be read again"
    strategies = strategies_of([case])
    assert strategies == [Strategy("eroded", False), Strategy("eroded", True)]
    positive, excluded = read_drawings(case, read(case), strategies)
    assert np.array_equal(positive[positive > 0] - 1, labels[positive > 0])
    assert not ((excluded >> labels) & 1).any(), "no voxel is said not to be what it is"
    for value in range(CLASSES):
        share = (positive == value + 1).sum() / (labels == value).sum()
        assert 0.1 < share < 0.95
        assert ((excluded >> value) & 1).any()
    assert contradictions(np.stack([positive, excluded]), strategies) == 0


def test_a_part_that_would_vanish_keeps_its_inmost_voxels() -> None:
    mask = np.zeros((2, 20, 20), bool)
    mask[0, 2:5, 2:5] = mask[0, 8:18, 8:18] = True
    kept = eroded(mask, 3)
    assert kept[0, 3, 3] and kept[0, :6, :6].sum() == 1
    assert kept[0, 8:18, 8:18].sum() == 16 and kept[0, 11, 11]
    assert not kept[1].any() and not (kept & ~mask).any()
    assert np.array_equal(eroded(mask, 0), mask)
    assert eroded(np.ones((1, 4, 4), bool), 9).all()


def test_complements_of_a_map_are_the_other_classes(labels: NDArray[Any]) -> None:
    numbers, means = complements(labels, [0, 1, 2], 0)
    for number, classes in means.items():
        (true,) = np.unique(labels[numbers == number])
        assert set(classes) == {0, 1, 2} - {true}


def write_mscmrseg(folder: Path, make_image: MakeImage) -> Path:
    for part, kind in (("train", "scribble"), ("val", "manual"), ("TestSet", "manual")):
        for name, values in ((f"images/{part}_DE", [7, 8, 9]), (f"labels/{part}_DE_{kind}", [0, 1, 4])):
            target = folder / part / f"{name}.nii.gz"
            target.parent.mkdir(parents=True, exist_ok=True)
            write_image(target, make_image(np.array([[values]], np.uint8)))
    return folder


def test_mscmrseg_trains_on_scribbles_alone(tmp_path: Path, make_image: MakeImage) -> None:
    source = write_mscmrseg(tmp_path / "published", make_image)
    where = ["prepare", "mscmrseg", str(source), "--data", str(tmp_path / "data")]
    assert main(where) == 0
    cases = read_dataset(tmp_path / "data" / "mscmrseg").cases
    assert [(case.id, case.split, case.has_expert) for case in cases] == [
        ("train_DE", "train", False),
        ("val_DE", "val", True),
        ("TestSet_DE", "test", True),
    ]
    strategies = strategies_of(cases)
    assert list(map(str, strategies)) == ["scribbles (positive)", "scribbles (complementary)", "strokes (positive)"]
    codes = read_drawings(cases[0], read(cases[0]), strategies)
    assert codes[:, 0, 0].tolist() == [[0, 2, 0], [0b1110, 0, 0], [1, 2, 0]]


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("val/labels/val_DE_manual.nii.gz", "val_DE_manual.nii.gz' is missing from the data set"),
        ("TestSet/images/TestSet_DE.nii.gz", "There are no '*_DE.nii.gz' files in"),
    ],
)
def test_what_mscmrseg_lacks_is_named(
    tmp_path: Path, make_image: MakeImage, gone: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_mscmrseg(tmp_path / "published", make_image)
    (source / gone).unlink()
    assert main(["prepare", "mscmrseg", str(source), "--data", str(tmp_path / "data")]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "ignore", "means", "expected"),
    [
        ("positive", 9, {}, [1, 2, 3, 0]),
        ("positive", 9, {0: ()}, [0, 2, 3, 0]),
        ("positive", 9, {2: (1,)}, [1, 2, 2, 0]),
        ("complementary", 9, {}, [1, 2, 4, 0]),
        ("complementary", 9, {0: (1, 2), 1: (), 2: ()}, [6, 0, 0, 0]),
    ],
)
def test_values_become_codes(
    tmp_path: Path, make_image: MakeImage, kind: Any, ignore: int, means: Any, expected: list[int]
) -> None:
    image = make_image(np.array([0, 1, 2, 9], np.uint8).reshape(1, 1, 4))
    write_image(tmp_path / "drawing.nrrd", image)
    case = Case("a", tmp_path / "a", drawings=(Drawing(tmp_path / "drawing.nrrd", "x", kind, ignore, means),))
    assert read_drawings(case, image, strategies_of([case]))[0].ravel().tolist() == expected


def test_a_full_drawing_says_something_everywhere(tmp_path: Path, make_image: MakeImage) -> None:
    image = make_image(np.array([0, 1, 2, 0], np.uint8).reshape(1, 1, 4))
    write_image(tmp_path / "drawing.nrrd", image)
    case = Case("a", tmp_path / "a", drawings=(Drawing(tmp_path / "drawing.nrrd", "x", "full"),))
    assert read_drawings(case, image, strategies_of([case]))[0].ravel().tolist() == [1, 2, 3, 1]


def test_scribbles_are_structures_and_what_is_none_of_them(tmp_path: Path, make_image: MakeImage) -> None:
    image = make_image(np.array([0, 1, 2, 3, 4], np.uint8).reshape(1, 1, 5))
    write_image(tmp_path / "scribble.nii.gz", image)
    case = Case("a", tmp_path / "a", drawings=scribbles(tmp_path / "scribble.nii.gz"))
    codes = read_drawings(case, image, strategies_of([case]))
    assert codes.reshape(3, -1).tolist() == [[0, 2, 3, 4, 0], [0b1110, 0, 0, 0, 0], [1, 2, 3, 4, 0]]
    assert scribbles(tmp_path / "none.nii.gz") == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "negative"}, "must be one of positive, complementary, full"),
        ({"ignore": None}, "needs 'ignore'"),
        ({"kind": "full"}, "needs 'ignore'"),
        ({"means": {"1": [1, 2]}}, "means several classes"),
        ({"author": "x"}, "needs 'path' and 'annotator'"),
    ],
)
def test_a_drawing_that_makes_no_sense_is_refused(
    dataset: DataSet, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    write_dataset(tmp_path, dataset)
    file = tmp_path / "dataset.json"
    content = json.loads(file.read_text("utf-8"))
    drawing = {"path": "a_label.nii.gz", "annotator": "x", "kind": "positive", "ignore": 9} | change
    content["training"][0]["drawings"] = [{key: value for key, value in drawing.items() if value is not None}]
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match=said):
        read_dataset(tmp_path)


def test_a_drawing_on_another_grid_is_brought_and_one_beside_the_image_refused(
    tmp_path: Path, labels: NDArray[Any], make_image: MakeImage
) -> None:
    image, half = make_image(labels * 1.0), make_image(labels[:, ::2, ::2], (2, 2, 1))
    half.SetOrigin(image.GetOrigin())
    half.SetSpacing((2 * image.GetSpacing()[0], 2 * image.GetSpacing()[1], image.GetSpacing()[2]))
    write_image(tmp_path / "half.nrrd", half)
    case = Case("a", tmp_path / "a", drawings=(Drawing(tmp_path / "half.nrrd", "x", "positive", 9),))
    found = read_drawings(case, image, strategies_of([case]))[0]
    assert ((found - 1) == labels)[found > 0].mean() > 0.9 and (found > 0).mean() > 0.9
    half.SetOrigin((5000, 0, 0))
    write_image(tmp_path / "half.nrrd", half)
    with pytest.raises(InputError, match="lies beside its image"):
        read_drawings(case, image, strategies_of([case]))


def test_a_value_that_is_no_class_is_refused(tmp_path: Path, make_image: MakeImage) -> None:
    image = make_image(np.full((1, 1, 4), 77, np.uint8))
    write_image(tmp_path / "drawing.nrrd", image)
    case = Case("a", tmp_path / "a", drawings=(Drawing(tmp_path / "drawing.nrrd", "x", "positive", 9),))
    with pytest.raises(InputError, match="value 77"):
        read_drawings(case, image, strategies_of([case]))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 1.0, 254.999], "has the value 254.999, which is no class"),
        ([0.0, 0.5, 1.0], "has the value 0.5"),
        ([0.0, 1.0, 255.0], [1, 2, 0]),
    ],
)
def test_values_between_numbers_are_no_classes(
    tmp_path: Path, make_image: MakeImage, values: list[float], expected: Any
) -> None:
    image = make_image(np.zeros((1, 1, 3), np.float32))
    write_image(tmp_path / "drawing.nrrd", make_image(np.array([[values]], np.float32)))
    case = Case("a", tmp_path / "a", drawings=(Drawing(tmp_path / "drawing.nrrd", "x", "positive", 255),))
    if isinstance(expected, list):
        assert read_drawings(case, image, strategies_of([case]))[0].ravel().tolist() == expected
        return
    with pytest.raises(InputError, match=expected):
        read_drawings(case, image, strategies_of([case]))


@pytest.mark.parametrize(
    ("value", "kind", "ignore", "expected"),
    [(1, "full", None, [2, 2, 2, 0, 0, 0]), (255, "positive", 255, [0] * 6)],
)
def test_a_drawing_says_nothing_where_it_does_not_reach(
    tmp_path: Path, make_image: MakeImage, value: int, kind: Any, ignore: int | None, expected: list[int]
) -> None:
    image = make_image(np.zeros((1, 1, 6), np.uint8))
    write_image(tmp_path / "half.nrrd", sitk.RegionOfInterest(image * 0 + value, [3, 1, 1], [0, 0, 0]))
    case = Case("a", tmp_path / "a", drawings=(Drawing(tmp_path / "half.nrrd", "x", kind, ignore),))
    assert read_drawings(case, image, strategies_of([case]))[0].ravel().tolist() == expected


def test_what_lies_outside_the_image_is_told(
    tmp_path: Path, make_image: MakeImage, capsys: pytest.CaptureFixture[str]
) -> None:
    image = make_image(np.zeros((1, 1, 6), np.uint8))
    shifted = image + 1
    shifted.SetOrigin(image.TransformIndexToPhysicalPoint((3, 0, 0)))
    write_image(tmp_path / "shifted.nrrd", shifted)
    case = Case("a", tmp_path / "a", drawings=(Drawing(tmp_path / "shifted.nrrd", "x", "positive", 9),))
    assert read_drawings(case, image, strategies_of([case]))[0].ravel().tolist() == [0, 0, 0, 2, 2, 2]
    assert "50% of the drawing" in capsys.readouterr().err


def test_two_classes_by_one_annotator_are_refused(tmp_path: Path, make_image: MakeImage) -> None:
    image = make_image(np.zeros((1, 1, 3), np.uint8))
    for name, values in (("a", [1, 1, 9]), ("b", [9, 2, 2]), ("c", [9, 1, 2])):
        write_image(tmp_path / f"{name}.nrrd", make_image(np.array([[values]], np.uint8)))
    a, b, c = (Drawing(tmp_path / f"{name}.nrrd", "x", "positive", 9) for name in "abc")
    case = Case("a", tmp_path / "a", drawings=(a, c))
    assert read_drawings(case, image, strategies_of([case]))[0].ravel().tolist() == [2, 2, 3]
    with pytest.raises(InputError, match="another one of 'x' say that 1 voxels are of two classes"):
        read_drawings(replace(case, drawings=(a, b)), image, strategies_of([case]))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"means": {"x": [1]}}, "needs a list of classes for each value"),
        ({"means": {"0": 1}}, "needs a list of classes for each value"),
        ({"ignore": "255"}, "must be a whole number, not '255'"),
    ],
)
def test_a_drawing_s_entry_is_checked(tmp_path: Path, entry: dict[str, Any], message: str) -> None:
    drawing = {"path": "d.nrrd", "annotator": "x", "kind": "positive", "ignore": 9, **entry}
    content = {"labels": {"0": "background", "1": "a"}, "training": [{"image": "i.nrrd", "drawings": [drawing]}]}
    (tmp_path / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_dataset(tmp_path)


def test_contradictions_and_voxels_are_counted() -> None:
    strategies = [Strategy("a", False), Strategy("b", True)]
    codes = np.array([[[[1, 2, 3, 0]]], [[[0b001, 0b001, 0b110, 0b111]]]], np.int32)
    assert contradictions(codes, strategies) == 2
    assert drawn_voxels(codes, strategies, 3).tolist() == [1, 1, 1]
    assert drawn_foreground(codes, strategies).ravel().tolist() == [0, 1, 2, 0]


def test_training_windows_show_drawings_and_nothing_of_the_expert(dataset: DataSet, tmp_path: Path) -> None:
    drawn = draw_dataset(dataset, tmp_path / "drawn", 2, 2)
    strategies = strategies_of(drawn.cases)
    preprocessing = Preprocessing(2, (32, 32), 0)
    windows = Windows(drawn.part("train"), preprocessing, NO_MASK, Augmentation(jitter=2), 0, drawings=strategies)
    sample = windows[(1, 1)]
    assert sample["drawn"].shape == (2, 32, 32)
    positive = sample["drawn"][0]
    assert set(positive.unique().tolist()) == {0, 1, 2, 3}
    assert not ((sample["expert"] > 0) & (positive == 0)).any(), "the label is what is drawn"
    case = replace(drawn.part("train")[0], label=None)
    alone = Windows([case], preprocessing, NO_MASK, Augmentation(jitter=2), 0, drawings=strategies)
    for name, value in alone[(1, 1)].items():
        assert value.equal(sample[name])
    validation = Windows(drawn.part("val"), preprocessing, NO_MASK, None, 0, drawings=strategies)
    assert (validation[1]["expert"] > 0).sum() > (validation[1]["drawn"][0] > 1).sum(), "validation knows the expert"


def test_the_command_draws(dataset: DataSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_dataset(tmp_path / "rings", dataset)
    assert main(["draw", "rings", "--name", "coarse", "--inside", "3", "--data", str(tmp_path)]) == 0
    copy = read_dataset(tmp_path / "coarse")
    assert copy.simulation == {"eroded": 3.0, "complements_eroded": 2.0} and len(copy.cases[0].drawings) == 2
    assert main(["draw", "rings", "--name", "coarse", "--data", str(tmp_path)]) == 2
    assert "is a data set already" in capsys.readouterr().err
