"""Calibration figures are what their definitions say, however the voxels are spread over cases."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from NoisyLabelSegLib.calibration import BINS, FIGURES, CalibrationCounts, RegionName, calibration, counts_of
from NoisyLabelSegLib.errors import InputError

Case = tuple[NDArray[np.float64], NDArray[np.int64]]
REGIONS: tuple[RegionName, ...] = ("all", "predicted", "foreground", "union")

HALF, SURE, WRONG = (0.5, 0.5, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
# Probabilities and label of each voxel, region; ECE, CECE, Brier score.
BY_HAND: list[tuple[list[tuple[tuple[float, float, float], int]], RegionName, tuple[float, float, float]]] = [
    ([(SURE, 1)], "all", (0, 0, 0)),
    ([(WRONG, 1)], "all", (1, 1, 2)),
    ([(SURE, 1), (WRONG, 1)], "all", (0.5, 0.5, 1)),
    ([(HALF, 1)], "all", (0.5, 0.25, 0.5)),
    ([(HALF, 1), (HALF, 0)], "all", (0, 0, 0.5)),
    ([(HALF, 1), (HALF, 0)], "foreground", (0.5, 0.25, 0.5)),
    ([(HALF, 1), (SURE, 0)], "predicted", (1, 0.5, 2)),
    ([(HALF, 1), (SURE, 0)], "union", (0.75, 0.375, 1.25)),
    ([(HALF, 1), (SURE, 0), (HALF, 0)], "union", (0.75, 0.375, 1.25)),
]


def random_case(seed: int, classes: int = 4, shape: tuple[int, ...] = (7, 6, 5), sharpness: float = 2) -> Case:
    generator = np.random.default_rng(seed)
    scores = np.exp(sharpness * generator.normal(size=(classes, *shape)))
    return scores / scores.sum(axis=0), generator.integers(0, classes, shape)


def calibrated_case(radius: float = 8, sharpness: float = 1, seed: int = 0) -> Case:
    """A ball with a soft border, and labels drawn from just these probabilities."""
    axes = np.mgrid[-20:20:50j, -20:20:50j, -20:20:50j]
    structure = 1 / (1 + np.exp(sharpness * (np.sqrt((axes**2).sum(axis=0)) - radius)))
    labels = np.random.default_rng(seed).random(structure.shape) < structure
    return np.stack([1 - structure, structure]), labels.astype(np.int64)


def slow_figures(probabilities: NDArray[Any], labels: NDArray[Any], region: RegionName) -> dict[str, float]:
    """The definitions, one voxel after the other."""
    classes, voxels = len(probabilities), []
    for place in np.ndindex(labels.shape):
        p, label = [float(probabilities[c][place]) for c in range(classes)], int(labels[place])
        predicted = p.index(max(p))
        inside = {"all": True, "predicted": predicted > 0, "foreground": label > 0, "union": label + predicted > 0}
        if inside[region]:
            voxels.append((p, label, predicted))
    classwise = [_slow_error([(p[c], label == c) for p, label, _ in voxels]) for c in range(1, classes)]
    return {
        "ece": _slow_error([(max(p), label == predicted) for p, label, predicted in voxels]),
        "cece": sum(classwise) / len(classwise),
        "nll": -sum(math.log(p[label]) for p, label, _ in voxels) / len(voxels),
        "brier": sum((q - (c == label)) ** 2 for p, label, _ in voxels for c, q in enumerate(p)) / len(voxels),
    }


def _slow_error(pairs: list[tuple[float, bool]]) -> float:
    error = 0.0
    for k in range(BINS):
        members = [(p, hit) for p, hit in pairs if k / BINS < p <= (k + 1) / BINS or (k == 0 and p == 0)]
        if members:
            accuracy = sum(hit for _, hit in members) / len(members)
            confidence = sum(p for p, _ in members) / len(members)
            error += len(members) / len(pairs) * abs(accuracy - confidence)
    return error


@pytest.mark.parametrize(("voxels", "region", "expected"), BY_HAND)
def test_values_worked_out_by_hand(
    voxels: list[tuple[tuple[float, float, float], int]], region: RegionName, expected: tuple[float, float, float]
) -> None:
    probabilities, labels = np.array([p for p, _ in voxels]).T, np.array([label for _, label in voxels])
    counts = counts_of(probabilities, labels, region)
    assert (counts.ece, counts.cece, counts.brier) == pytest.approx(expected)


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize(("classes", "shape"), [(2, (40,)), (3, (9, 8)), (4, (7, 6, 5)), (9, (4, 5, 6))])
def test_figures_are_those_of_the_definitions(classes: int, shape: tuple[int, ...], region: RegionName) -> None:
    probabilities, labels = random_case(classes, classes, shape)
    counts = counts_of(probabilities, labels, region)
    assert {name: getattr(counts, name) for name in FIGURES} == pytest.approx(
        slow_figures(probabilities, labels, region), rel=1e-12
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_top_label_error_is_that_of_torchmetrics(seed: int) -> None:
    # There, a bin has its lower edge instead of its upper one: no probability lies on an edge here.
    torch, classification = pytest.importorskip("torch"), pytest.importorskip("torchmetrics.classification")
    probabilities, labels = random_case(seed, shape=(30, 30, 30))
    metric = classification.MulticlassCalibrationError(len(probabilities), n_bins=BINS, norm="l1")
    for part in np.array_split(np.arange(30), 3):
        batch = torch.from_numpy(probabilities[:, part].reshape(len(probabilities), -1).T.copy())
        metric.update(batch, torch.from_numpy(labels[part].ravel()))
    assert counts_of(probabilities, labels, "all").ece == pytest.approx(float(metric.compute()), rel=1e-5)


@pytest.mark.parametrize("bins", [1, 2, 10, 15])
def test_a_bin_has_its_upper_edge_and_the_first_has_0_too(bins: int) -> None:
    edges = np.linspace(0, 1, bins + 1)
    counts = counts_of(np.stack([1 - edges, edges]), np.ones(bins + 1, np.int64), "all", bins)
    assert counts.voxels[2].tolist() == [2, *[1] * (bins - 1)]


@pytest.mark.parametrize("region", REGIONS)
def test_counts_of_parts_add_up_to_those_of_the_whole(region: RegionName) -> None:
    probabilities, labels = random_case(3)
    whole = counts_of(probabilities, labels, region)
    parts = counts_of(probabilities[:, :3], labels[:3], region) + counts_of(probabilities[:, 3:], labels[3:], region)
    for name in FIGURES:
        assert getattr(parts, name) == pytest.approx(getattr(whole, name), rel=1e-12)
    assert parts.total == whole.total


def test_pooled_figures_and_means_over_cases_are_two_numbers() -> None:
    right, wrong = np.array([[0.0] * 3, [1.0] * 3]), np.array([[1.0], [0.0]])
    found = calibration([counts_of(right, np.ones(3, int)), counts_of(wrong, np.ones(1, int))])
    assert (found["ece"], found["ece_by_case"]) == (0.25, 0.5)
    assert (found["cece"], found["cece_by_case"]) == (0.25, 0.5)
    assert set(found) == {name + suffix for name in FIGURES for suffix in ("", "_by_case")}


def test_a_case_without_voxels_is_left_out() -> None:
    probabilities, labels = random_case(0)
    full, empty = counts_of(probabilities, labels), counts_of(probabilities, np.zeros_like(labels))
    assert empty.total == 0
    assert all(math.isnan(getattr(empty, name)) for name in FIGURES)
    assert calibration([empty, full, empty]) == pytest.approx(calibration([full]))


def test_without_any_voxel_there_are_no_figures_but_bins_of_no_share() -> None:
    empty = counts_of(np.ones((2, 3)) / 2, np.zeros(3, int))
    assert all(map(math.isnan, calibration([empty, empty]).values()))
    assert empty.bins().share.tolist() == [0] * BINS
    assert np.isnan(empty.bins().accuracy).all()


def test_bins_give_the_top_label_error_again() -> None:
    counts = counts_of(*random_case(5))
    confidence, accuracy, share = counts.bins()
    assert share.sum() == pytest.approx(1)
    assert np.nansum(share * np.abs(accuracy - confidence)) == pytest.approx(counts.ece)


@pytest.mark.parametrize("region", ["all", "predicted"])
def test_a_calibrated_model_has_no_error_where_the_region_does_not_depend_on_the_reference(region: RegionName) -> None:
    counts = counts_of(*calibrated_case(), region)
    assert counts.ece < 0.015
    assert counts.cece < 0.015


@pytest.mark.parametrize("region", ["foreground", "union"])
def test_a_region_chosen_by_the_reference_makes_a_calibrated_model_seem_too_sure(region: RegionName) -> None:
    counts = counts_of(*calibrated_case(), region)
    assert counts.confidence[0].sum() > 1.1 * counts.correct[0].sum()
    assert counts.ece > 0.08


def test_what_was_found_too_much_counts_in_the_union_alone() -> None:
    labels = np.array([1, 1, 0, 0])
    modest = np.array([[0, 0, 1, 1], [1, 1, 0, 0]], float)
    greedy = np.array([[0, 0, 0, 1], [1, 1, 1, 0]], float)
    assert counts_of(greedy, labels, "foreground").ece == counts_of(modest, labels, "foreground").ece == 0
    assert counts_of(greedy, labels, "union").ece == pytest.approx(1 / 3)


def test_a_probability_of_0_for_the_label_keeps_the_likelihood_finite() -> None:
    assert counts_of(np.array([[1.0], [0.0]]), np.array([1])).nll == pytest.approx(12 * math.log(10))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_low_precision_is_summed_in_high_precision(dtype: type) -> None:
    probabilities, labels = random_case(1, shape=(40, 40, 40))
    low: NDArray[Any] = probabilities.astype(dtype)
    assert counts_of(low, labels).confidence.sum() == pytest.approx(
        low[:, labels > 0].astype(float).sum() + low[:, labels > 0].astype(float).max(axis=0).sum(), rel=1e-12
    )


@pytest.mark.parametrize("labels_type", [np.bool_, np.uint8, np.int16])
def test_labels_may_be_of_any_whole_type(labels_type: type) -> None:
    probabilities, labels = random_case(2, classes=2)
    assert counts_of(probabilities, labels.astype(labels_type)).nll == counts_of(probabilities, labels).nll


FITTING = np.full((3, 4), 1 / 3)
BAD_INPUT: list[tuple[Any, Any, Any, str]] = [
    (FITTING, np.zeros(5, int), "all", "do not fit"),
    (FITTING[:1], np.zeros(4, int), "all", "do not fit|softmax"),
    (FITTING, np.array([0, 1, 2, 3]), "all", "0 to 3, but the model's 3 classes are 0 to 2"),
    (FITTING, np.array([0, -1, 2, 2]), "all", "-1 to 2"),
    (FITTING, np.zeros(4), "all", "whole numbers"),
    (FITTING * 2, np.zeros(4, int), "all", "softmax"),
    (FITTING * np.nan, np.zeros(4, int), "all", "softmax"),
    (np.array([[1.5], [-0.5]]), np.zeros(1, int), "all", "softmax"),
    (FITTING, np.zeros(4, int), "border", "'border' is no region"),
]


@pytest.mark.parametrize(("probabilities", "labels", "region", "message"), BAD_INPUT)
def test_bad_input_is_said_in_one_sentence(probabilities: Any, labels: Any, region: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        counts_of(probabilities, labels, region)


def test_no_cases_are_bad_input() -> None:
    with pytest.raises(InputError, match="no cases"):
        calibration([])


@pytest.mark.parametrize(("classes", "bins"), [(3, BINS), (4, 1)])
def test_counts_of_other_classes_or_bins_cannot_be_added(classes: int, bins: int) -> None:
    other: CalibrationCounts = counts_of(*random_case(0, classes), "all", bins)
    with pytest.raises(ValueError, match="cannot be added"):
        counts_of(*random_case(0, 4), "all") + other
