"""Annotators who err in a known way, label maps made of several raters', and pseudo-labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import MakeImage
from numpy.typing import NDArray

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import write_image
from training.__main__ import main
from training.data.cases import Case, DataSet, Drawing, read_dataset, write_dataset
from training.data.fused import fuse, fuse_dataset
from training.data.misdrawn import Errors, misdraw, misdraw_dataset

SHAPE = (4, 48, 48)
RNG = np.random.default_rng(0)


@pytest.fixture
def labels() -> NDArray[np.uint8]:
    """Two boxes, 1 and 2, in every slice."""
    found = np.zeros(SHAPE, np.uint8)
    found[:, 4:20, 4:44], found[:, 26:46, 6:40] = 1, 2
    return found


@pytest.fixture
def dataset(tmp_path: Path, labels: NDArray[np.uint8], make_image: MakeImage) -> DataSet:
    write_image(tmp_path / "image.nii.gz", make_image(labels * 50.0))
    write_image(tmp_path / "label.nii.gz", make_image(labels))
    files = (tmp_path / "image.nii.gz", tmp_path / "label.nii.gz")
    cases = tuple(Case(f"c{number}", *files, patient=f"p{number}", split="train") for number in range(20))
    dataset = DataSet("boxes", {1: "one", 2: "two"}, cases)
    write_dataset(tmp_path / "boxes", dataset)
    return dataset


@pytest.mark.parametrize(
    ("errors", "lost"),
    [
        (Errors(), {1: 0.0, 2: 0.0}),
        (Errors(miss={1: 0.25}), {1: 0.25, 2: 0.0}),
        (Errors(miss={1: 0.0, 2: 1.0}), {1: 0.0, 2: 1.0}),
        (Errors(erode={2: 2.0}), {1: 0.0, 2: 1 - 16 * 30 / (20 * 34)}),
        (Errors(erode={2: 2.0}, miss={1: 0.1}), {1: 0.1, 2: 1 - 16 * 30 / (20 * 34)}),
    ],
)
def test_what_is_lost_is_what_was_said(labels: NDArray[np.uint8], errors: Errors, lost: dict[int, float]) -> None:
    drawn = misdraw(labels, errors, np.random.default_rng(0))
    for value, share in lost.items():
        assert (drawn[labels == value] == 0).mean() == pytest.approx(share, abs=1e-3)
    assert (drawn[labels == 0] == 0).all() and set(np.unique(drawn[drawn != labels])) <= {0}


def test_pieces_are_contiguous_and_lie_elsewhere_next_time(labels: NDArray[np.uint8]) -> None:
    first, second = (misdraw(labels, Errors(miss={1: 0.2}), np.random.default_rng(seed)) != labels for seed in (0, 1))
    neighbours = (first[:, 1:] & first[:, :-1]).sum() / first.sum()
    assert neighbours > 0.6, "single voxels at random would have 0.2"
    assert (first & second).sum() / first.sum() < 0.6


def test_a_share_of_the_patients_is_drawn_by_the_expert(dataset: DataSet, tmp_path: Path) -> None:
    misdrawn = misdraw_dataset(dataset, tmp_path / "drawn", Errors(miss={1: 0.15}), 0.4, 3)
    assert read_dataset(tmp_path / "drawn") == misdrawn
    annotators = [[drawing.annotator for drawing in case.drawings] for case in misdrawn.cases]
    assert all(one[0] == "planted" for one in annotators)
    assert 4 <= sum("expert" in one for one in annotators) <= 12
    assert misdrawn.simulation == {"miss_1": 0.15, "experts": 0.4, "misdrawn_seed": 3.0}
    again = misdraw_dataset(dataset, tmp_path / "again", Errors(miss={1: 0.15}), 0.4, 3)
    one, other = (sitk.ReadImage(str(each.cases[0].drawings[0].path)) for each in (misdrawn, again))
    assert np.array_equal(sitk.GetArrayFromImage(one), sitk.GetArrayFromImage(other))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--miss", "3=0.1"], "'boxes' has no class 3: it has 1, 2."),
        (["--miss", "1=1.5"], "shares of them missed between 0 and 1"),
        (["--erode", "1=-2"], "eroded by 0 voxels or more"),
        (["--erode", "one=2"], "'one=2' does not say VALUE=NUMBER"),
    ],
)
def test_errors_that_cannot_be_are_refused(
    dataset: DataSet, tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["misdraw", "boxes", "--name", "drawn", "--data", str(tmp_path), *arguments]) == 2
    assert message in capsys.readouterr().err


def raters(shifts: list[int]) -> NDArray[np.uint8]:
    """A square of each rater, shifted."""
    found = np.zeros((len(shifts), 1, 32, 32), np.uint8)
    for rater, shift in zip(found, shifts, strict=True):
        rater[0, 8:24, 8 + shift : 24 + shift] = 1
    return found


def test_the_majority_and_staple_leave_an_outlier_out() -> None:
    drawings = raters([0, 0, 0, 6])
    for by in ("majority", "staple"):
        assert np.array_equal(fuse(drawings, by, RNG), drawings[0]), by


@pytest.mark.parametrize("drawn", [np.zeros((3, 1, 8, 8), np.uint8), np.full((2, 1, 8, 8), 2, np.uint8)])
def test_raters_who_agree_are_taken_at_their_word(drawn: NDArray[np.uint8]) -> None:
    for by in ("majority", "staple"):
        assert np.array_equal(fuse(drawn, by, RNG), drawn[0])


def test_staple_trusts_raters_differently() -> None:
    """Two careful raters and two who draw noise: where it is two against two, the majority has nothing."""
    rng = np.random.default_rng(0)
    truth = raters([0])[0]
    noise = [np.where(rng.random(truth.shape) < 0.45, 1 - truth, truth) for _ in range(2)]
    drawings = np.stack([truth, truth, *noise]).astype(np.uint8)
    assert (fuse(drawings, "staple", RNG) == truth).mean() > 0.99
    assert (fuse(drawings, "majority", RNG) == truth)[truth > 0].mean() < 0.9


def test_training_labels_alone_are_fused(dataset: DataSet, tmp_path: Path, make_image: MakeImage) -> None:
    for number, mask in enumerate(raters([0, 0, 5])):
        write_image(tmp_path / f"rater{number}.nii.gz", make_image(np.repeat(mask, SHAPE[0], axis=0)))
    write_image(tmp_path / "small.nii.gz", make_image(np.zeros((SHAPE[0], 32, 32), np.float32)))
    drawings = tuple(Drawing(tmp_path / f"rater{number}.nii.gz", f"rater {number}", "full") for number in range(3))
    case = replace(dataset.cases[0], image=tmp_path / "small.nii.gz", drawings=drawings)
    given = replace(dataset, cases=(case, replace(case, id="v", split="val")))
    fused = fuse_dataset(given, tmp_path / "fused", "majority")
    assert read_dataset(tmp_path / "fused") == fused
    train, val = fused.cases
    assert val.label == case.label and train.label is not None and train.label != case.label
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(train.label)))
    assert np.array_equal(found[0], raters([0])[0, 0])
    with pytest.raises(InputError, match="The training case 'c1' has no full drawing"):
        fuse_dataset(replace(dataset, cases=dataset.cases[1:2]), tmp_path / "none", "staple")


def test_a_random_rater_is_drawn_for_each_case_and_the_seed_tells_whom(
    dataset: DataSet, tmp_path: Path, make_image: MakeImage
) -> None:
    masks = np.repeat(raters([0, 3, 6])[:, 0][:, None], SHAPE[0], axis=1)
    for number, mask in enumerate(masks):
        write_image(tmp_path / f"rater{number}.nii.gz", make_image(mask))
    write_image(tmp_path / "small.nii.gz", make_image(np.zeros((SHAPE[0], 32, 32), np.float32)))
    drawings = tuple(Drawing(tmp_path / f"rater{number}.nii.gz", f"rater {number}", "full") for number in range(3))
    image = tmp_path / "small.nii.gz"
    cases = tuple(replace(case, image=image, drawings=drawings, verified=True) for case in dataset.cases)

    def drawn(name: str, seed: int) -> list[int]:
        fused = fuse_dataset(replace(dataset, cases=cases), tmp_path / name, "random", seed)
        assert [case.clean for case in fused.cases] == [case.label for case in cases]
        assert not any(case.verified for case in fused.cases)
        labels = [sitk.GetArrayFromImage(sitk.ReadImage(str(case.label))) for case in fused.cases]
        return [next(n for n, mask in enumerate(masks) if np.array_equal(mask, one)) for one in labels]

    first = drawn("first", 0)
    assert set(first) == {0, 1, 2}
    assert drawn("again", 0) == first and drawn("other", 1) != first
