"""The measures: values worked out by hand, empty masks, properties, and agreement with MONAI."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from NoisyLabelSegLib import metrics
from NoisyLabelSegLib.errors import InputError

NAMES = ("dice", "iou", "hd95", "assd", "precision", "recall", "relative_volume_error")
EMPTY, DOT, BAR = [[0, 0, 0, 0, 0]], [[1, 0, 0, 0, 0]], [[1, 1, 1, 1, 0]]

# prediction, reference, spacing, then the values in the order of NAMES
BY_HAND = [
    (DOT, DOT, None, (1, 1, 0, 0, 1, 1, 0)),
    # Distances from the bar: 0, 1, 2, 3, whose 95th percentile is 2.85; from the dot: 0.
    (BAR, DOT, None, (0.4, 0.25, 2.85, 6 / 5, 0.25, 1, 3)),
    (DOT, BAR, None, (0.4, 0.25, 2.85, 6 / 5, 1, 0.25, -0.75)),
    (BAR, DOT, (1, 2), (0.4, 0.25, 5.7, 12 / 5, 0.25, 1, 3)),
    ([[1, 0], [0, 0]], [[0, 0], [0, 1]], (3, 4), (0, 0, 5, 5, 0, 0, 0)),
    # A full 3 x 3 square, all but its centre on the border of the image, against that centre.
    (np.ones((3, 3)), [[0, 0, 0], [0, 1, 0], [0, 0, 0]], None,
     (0.2, 1 / 9, math.sqrt(2), (5 + 4 * math.sqrt(2)) / 9, 1 / 9, 1, 8)),
    ([[[1]], [[0]]], [[[0]], [[1]]], (2.5, 0.7, 0.7), (0, 0, 2.5, 2.5, 0, 0, 0)),
    (EMPTY, EMPTY, None, (1, 1, 0, 0, 1, 1, 0)),
    (EMPTY, DOT, None, (0, 0, math.inf, math.inf, 0, 0, -1)),
    (DOT, EMPTY, None, (0, 0, math.inf, math.inf, 0, 0, math.inf)),
    (BAR, EMPTY, None, (0, 0, math.inf, math.inf, 0, 0, math.inf)),
]  # fmt: skip

GRIDS = [((17, 14), None), ((13, 18), (0.5, 2.0)), ((7, 9, 8), None), ((6, 12, 10), (2.5, 0.7, 0.9))]


def random_pair(shape: Sequence[int], seed: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Two overlapping boxes with some noise on them; many touch the border of the image, some miss each other."""
    generator = np.random.default_rng(seed)
    masks = []
    for _ in range(2):
        mask = generator.random(shape) < generator.choice([0, 0.02])
        low = [generator.integers(0, size - 1) for size in shape]
        high = [generator.integers(start + 1, size + 1) for start, size in zip(low, shape, strict=True)]
        box = tuple(slice(start, stop) for start, stop in zip(low, high, strict=True))
        mask[box] |= generator.random(mask[box].shape) < 0.95
        mask[tuple(low)] = True
        masks.append(mask)
    return masks[0], masks[1]


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float32])
@pytest.mark.parametrize(("prediction", "reference", "spacing", "expected"), BY_HAND)
def test_values_worked_out_by_hand(
    prediction: npt.ArrayLike,
    reference: npt.ArrayLike,
    spacing: Sequence[float] | None,
    expected: Sequence[float],
    dtype: npt.DTypeLike,
) -> None:
    masks = np.asarray(prediction, dtype), np.asarray(reference, dtype)
    assert metrics.evaluate(*masks, spacing) == pytest.approx(dict(zip(NAMES, expected, strict=True)))


@pytest.mark.parametrize(("prediction", "reference", "spacing", "expected"), BY_HAND)
def test_each_function_gives_what_evaluate_gives(
    prediction: npt.ArrayLike, reference: npt.ArrayLike, spacing: Sequence[float] | None, expected: Sequence[float]
) -> None:
    masks = np.asarray(prediction, bool), np.asarray(reference, bool)
    for name, value in zip(NAMES, expected, strict=True):
        arguments = (*masks, spacing) if name in ("hd95", "assd") else masks
        result = getattr(metrics, name)(*arguments)
        assert result == pytest.approx(value)
        assert type(result) is float


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
def test_hd95_and_assd_equal_monai(shape: Sequence[int], spacing: Sequence[float] | None) -> None:
    torch = pytest.importorskip("torch")
    monai_metrics = pytest.importorskip("monai.metrics")
    pairs = [random_pair(shape, seed) for seed in range(50)]
    predictions, references = (torch.from_numpy(np.stack(masks))[:, None] for masks in zip(*pairs, strict=True))
    common = {"include_background": True, "spacing": spacing}
    hd95 = monai_metrics.compute_hausdorff_distance(predictions, references, percentile=95, **common)
    assd = monai_metrics.compute_average_surface_distance(predictions, references, symmetric=True, **common)
    results = [metrics.evaluate(*pair, spacing) for pair in pairs]
    np.testing.assert_allclose([result["hd95"] for result in results], hd95[:, 0], rtol=0, atol=1e-4)
    np.testing.assert_allclose([result["assd"] for result in results], assd[:, 0], rtol=0, atol=1e-4)


@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
@pytest.mark.parametrize("seed", range(5))
def test_swapping_the_masks_swaps_precision_and_recall_only(
    shape: Sequence[int], spacing: Sequence[float] | None, seed: int
) -> None:
    prediction, reference = random_pair(shape, seed)
    there, back = metrics.evaluate(prediction, reference, spacing), metrics.evaluate(reference, prediction, spacing)
    for name in ("dice", "iou", "hd95", "assd"):
        assert there[name] == pytest.approx(back[name])
    assert (there["precision"], there["recall"]) == (back["recall"], back["precision"])
    assert (1 + there["relative_volume_error"]) * (1 + back["relative_volume_error"]) == pytest.approx(1)


@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
@pytest.mark.parametrize("seed", range(5))
def test_distances_scale_with_the_spacing_and_overlap_does_not(
    shape: Sequence[int], spacing: Sequence[float] | None, seed: int
) -> None:
    masks = random_pair(shape, seed)
    voxel = np.ones(len(shape)) if spacing is None else np.asarray(spacing)
    tripled = [3 * float(size) for size in voxel]
    once, thrice = metrics.evaluate(*masks, spacing), metrics.evaluate(*masks, tripled)
    expected = {name: value * (3 if name in ("hd95", "assd") else 1) for name, value in once.items()}
    assert thrice == pytest.approx(expected)


@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
def test_background_around_the_masks_and_the_order_of_memory_change_nothing(
    shape: Sequence[int], spacing: Sequence[float] | None
) -> None:
    masks = random_pair(shape, seed=7)
    prediction, reference = (np.asfortranarray(np.pad(mask, 5)) for mask in masks)
    assert metrics.evaluate(prediction, reference, spacing) == pytest.approx(metrics.evaluate(*masks, spacing))


def test_surface_distances_have_one_value_an_edge_voxel() -> None:
    cube = np.ones((3, 3, 3), bool)
    centre = np.zeros_like(cube)
    centre[1, 1, 1] = True
    forward, backward = metrics.surface_distances(cube, centre)
    assert (forward.size, backward.tolist()) == (26, [1.0])
    assert [array.tolist() for array in metrics.surface_distances(centre, ~cube)] == [[math.inf], []]


def test_the_given_masks_stay_as_they_are() -> None:
    prediction, reference = random_pair((8, 9, 7), seed=3)
    before = prediction.copy(), reference.copy()
    metrics.evaluate(prediction, reference)
    assert np.array_equal(prediction, before[0]) and np.array_equal(reference, before[1])


@pytest.mark.parametrize(
    ("prediction", "reference", "spacing", "message"),
    [
        (np.zeros((2, 3)), np.zeros((3, 2)), None, "shape"),
        (np.zeros(4), np.zeros(4), None, "2D or 3D"),
        (np.zeros((1, 1, 2, 2)), np.zeros((1, 1, 2, 2)), None, "2D or 3D"),
        (np.full((2, 2), 2), np.ones((2, 2)), None, "prediction holds values"),
        (np.ones((2, 2)), np.full((2, 2), 0.5), None, "reference holds values"),
        (np.ones((2, 2)), np.full((2, 2), np.nan), None, "reference holds values"),
        (np.ones((2, 2)), np.ones((2, 2)), (1, 1, 1), "spacing"),
        (np.zeros((2, 2)), np.zeros((2, 2)), (1, 0), "spacing"),
        (np.ones((2, 2)), np.ones((2, 2)), (1, math.nan), "spacing"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_a_sentence(
    prediction: npt.NDArray[Any], reference: npt.NDArray[Any], spacing: Sequence[float] | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        metrics.evaluate(prediction, reference, spacing)
