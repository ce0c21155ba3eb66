"""Coarse masks: made from an expert's, or the most deviating of several raters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from conftest import Ellipsoid

from training.data.coarse import (
    CoarseSettings,
    blobs,
    calibrate_warp,
    drop_slices,
    grow,
    mean_dice,
    perspective_warp,
    simulate,
)
from training.data.raters import consensus, most_deviating

Operator = Callable[[np.ndarray, np.random.Generator], np.ndarray]
OPERATORS: dict[str, Operator] = {
    "warp": lambda labels, rng: perspective_warp(labels, 0.2, rng),
    "dilate": lambda labels, rng: grow(labels, 2),
    "erode": lambda labels, rng: grow(labels, -2),
    "keep": lambda labels, rng: grow(labels, 0),
    "blobs": lambda labels, rng: blobs(labels, 2.0, rng),
    "drop": lambda labels, rng: drop_slices(labels, 0.5, rng),
    "all": lambda labels, rng: simulate(labels, CoarseSettings(0.2, 2, 2.0, 0.2), rng),
}


@pytest.fixture
def labels(ellipsoid: Ellipsoid) -> np.ndarray:
    """Two touching structures, 1 and 3."""
    mask = ellipsoid((16, 30, 32), (8, 14, 16), (5, 8, 9)).astype(np.uint8)
    mask[:, :, 17:] *= 3
    return mask


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("shape", [(12, 14), (6, 12, 14)], ids=["2D", "3D"])
def test_empty_stays_empty(name: str, shape: tuple[int, ...]) -> None:
    coarse = OPERATORS[name](np.zeros(shape, np.uint8), np.random.default_rng(0))
    assert coarse.shape == shape
    assert not coarse.any()


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_operators_keep_shape_type_and_labels_and_never_write_to_what_they_are_given(
    name: str, dimensions: int, seed: int, labels: np.ndarray
) -> None:
    labels = labels if dimensions == 3 else labels[8]
    before = labels.copy()
    coarse = OPERATORS[name](labels, np.random.default_rng(seed))
    assert np.array_equal(labels, before)
    assert (coarse.shape, coarse.dtype) == (labels.shape, np.uint8)
    assert set(np.unique(coarse)) <= {0, 1, 3}
    assert np.array_equal(coarse, OPERATORS[name](labels, np.random.default_rng(seed))), "the seed decides all"


def test_blobs_of_a_mask_that_fills_the_image_are_defined() -> None:
    coarse = blobs(np.ones((8, 9, 10), np.uint8), 2.0, np.random.default_rng(0))
    assert coarse.mean() > 0.5


def test_growing_adds_to_the_background_and_shrinking_takes_away(labels: np.ndarray) -> None:
    for radius in (1, 3):
        larger, smaller = grow(labels, radius), grow(labels, -radius)
        assert np.array_equal(larger[labels > 0], labels[labels > 0])
        assert (larger > 0).sum() > (labels > 0).sum() > (smaller > 0).sum()
        assert np.array_equal(smaller[smaller > 0], labels[smaller > 0])
    point = np.zeros((9, 9), np.uint8)
    point[4, 4] = 2
    assert grow(point, 1).sum() == 2 * 5
    assert not grow(point, -1).any()


@pytest.mark.parametrize(("probability", "kept"), [(0.0, 16), (1.0, 0)])
def test_dropping_takes_whole_slices(labels: np.ndarray, probability: float, kept: int) -> None:
    coarse = drop_slices(labels, probability, np.random.default_rng(0))
    assert sum(np.array_equal(a, b) for a, b in zip(coarse, labels, strict=True)) == max(kept, 16 - 11)


def test_dropped_slices_are_empty_and_the_others_whole(labels: np.ndarray) -> None:
    coarse = drop_slices(labels, 0.5, np.random.default_rng(0))
    whole = [np.array_equal(a, b) for a, b in zip(coarse, labels, strict=True)]
    assert all(w or not a.any() for w, a in zip(whole, coarse, strict=True))
    assert (coarse > 0).sum() < (labels > 0).sum()


def test_stronger_damage_is_further_from_the_expert(labels: np.ndarray) -> None:
    def score(settings: CoarseSettings) -> float:
        return float(
            np.mean([mean_dice(labels, simulate(labels, settings, np.random.default_rng(s))) for s in range(8)])
        )

    nothing = CoarseSettings(warp=0)
    assert score(nothing) == 1
    for weak, strong in [
        (CoarseSettings(warp=0.05), CoarseSettings(warp=0.3)),
        (CoarseSettings(warp=0, grow=1), CoarseSettings(warp=0, grow=5)),
        (CoarseSettings(warp=0, blobs=0.5), CoarseSettings(warp=0, blobs=4)),
        (CoarseSettings(warp=0, drop=0.1), CoarseSettings(warp=0, drop=0.7)),
    ]:
        assert 1 > score(weak) > score(strong)


def test_mean_dice_by_hand() -> None:
    a, b = np.array([1, 1, 2, 0], np.uint8), np.array([1, 0, 2, 2], np.uint8)
    assert mean_dice(a, b) == pytest.approx((2 * 1 / 3 + 2 * 1 / 3) / 2)
    assert mean_dice(a * 0, b * 0) == 1
    assert mean_dice(a, b * 0) == 0


def test_the_warp_is_calibrated_to_a_mean_dice(ellipsoid: Ellipsoid) -> None:
    rng = np.random.default_rng(5)
    masks = [
        ellipsoid((20, 28, 28), tuple(rng.uniform(9, 16, 3)), tuple(rng.uniform(4, 7, 3))).astype(np.uint8)
        for _ in range(24)
    ]
    strength = calibrate_warp(masks, 0.6)
    scores = [
        mean_dice(mask, simulate(mask, CoarseSettings(warp=strength), np.random.default_rng((0, number))))
        for number, mask in enumerate(masks)
    ]
    assert np.mean(scores) == pytest.approx(0.6, abs=0.03)


def test_the_consensus_needs_more_than_half_of_the_raters() -> None:
    votes = np.arange(5)[None] > np.arange(4)[:, None]  # Voxel n is marked by n of four raters.
    assert consensus(votes[:, None, None]).ravel().tolist() == [False, False, False, True, True]
    assert consensus(votes[:3, None, None]).ravel().tolist() == [False, False, True, True, True]


@pytest.mark.parametrize(
    ("raters", "expert", "expected"),
    [
        ([[1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 0]], [1, 1, 0, 0], [1, 0, 0, 0]),
        ([[1, 1, 0, 0], [0, 0, 0, 0]], [1, 1, 0, 0], [0, 0, 0, 0]),
        ([[0, 0, 0, 0], [0, 0, 1, 1]], [1, 1, 0, 0], [0, 0, 1, 1]),
        ([[0, 0, 0, 0], [0, 0, 0, 1]], [0, 0, 0, 0], [0, 0, 0, 1]),
        ([[0, 0, 0, 1], [0, 1, 1, 1]], [0, 0, 0, 0], [0, 1, 1, 1]),
        ([[1, 0, 0, 0], [1, 0, 0, 0]], [1, 0, 0, 0], [1, 0, 0, 0]),
    ],
    ids=["lowest Dice", "one missed it", "tie at 0", "expert empty", "expert empty, tie", "all agree"],
)
def test_the_most_deviating_rater_of_a_slice(raters: list[list[int]], expert: list[int], expected: list[int]) -> None:
    masks = np.array(raters, bool)[:, None, None]
    assert most_deviating(masks, np.array(expert, bool)[None, None]).ravel().tolist() == expected


def test_each_slice_has_its_own_most_deviating_rater() -> None:
    raters = np.zeros((3, 2, 1, 4), bool)
    raters[:, :, 0, :2] = True
    raters[0, 0], raters[2, 1] = False, True
    coarse = most_deviating(raters, consensus(raters))
    assert np.array_equal(coarse[0], raters[0, 0])
    assert np.array_equal(coarse[1], raters[2, 1])


def test_raters_of_several_labels() -> None:
    raters = np.zeros((3, 1, 1, 4), np.uint8)
    raters[:, 0, 0] = [[1, 1, 2, 2], [1, 1, 2, 0], [1, 2, 2, 2]]
    expert = consensus(raters)
    assert expert.ravel().tolist() == [1, 1, 2, 2]
    assert most_deviating(raters, expert).ravel().tolist() == [1, 2, 2, 2]
