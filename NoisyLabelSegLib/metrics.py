"""How well a mask agrees with a reference: one definition each of the overlap, volume and surface distance measures.

P is the prediction, R the reference, |P| a number of voxels. Both are NumPy arrays of one shape, 2D or 3D, bool or
holding only 0 and 1. ``spacing`` is the voxel size in mm for each *array* axis (for an array from
``SimpleITK.GetArrayFromImage``: ``image.GetSpacing()[::-1]``); without it a voxel measures 1 along each axis.
A wrong shape, value or spacing raises ``InputError``.

With empty masks:

==========================  ====  ===  =========  ======  ====  ====  =====================
masks                       dice  iou  precision  recall  hd95  assd  relative_volume_error
==========================  ====  ===  =========  ======  ====  ====  =====================
both empty                  1     1    1          1       0     0     0
only the prediction empty   0     0    0          0       inf   inf   -1
only the reference empty    0     0    0          0       inf   inf   inf
==========================  ====  ===  =========  ======  ====  ====  =====================
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_erosion
from scipy.spatial import cKDTree

from NoisyLabelSegLib.errors import InputError

Mask = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]
Distances = npt.NDArray[np.float64]


def dice(prediction: Mask, reference: Mask) -> float:
    """Return the Dice coefficient, 2 |P and R| / (|P| + |R|), from 0 to 1 (Dice, Ecology 1945)."""
    return _dice(*_crop(prediction, reference))


def iou(prediction: Mask, reference: Mask) -> float:
    """Return the intersection over union, |P and R| / |P or R|, from 0 to 1 (Jaccard, 1912)."""
    return _iou(*_crop(prediction, reference))


def precision(prediction: Mask, reference: Mask) -> float:
    """Return the part of the prediction that is in the reference, |P and R| / |P|, from 0 to 1."""
    return _precision(*_crop(prediction, reference))


def recall(prediction: Mask, reference: Mask) -> float:
    """Return the part of the reference that was found (sensitivity), |P and R| / |R|, from 0 to 1."""
    return _recall(*_crop(prediction, reference))


def relative_volume_error(prediction: Mask, reference: Mask) -> float:
    """Return (|P| - |R|) / |R|: negative where the prediction is too small, at least -1, 0 where the volumes agree."""
    return _relative_volume_error(*_crop(prediction, reference))


def hd95(prediction: Mask, reference: Mask, spacing: Sequence[float] | None = None) -> float:
    """Return the 95th percentile Hausdorff distance in mm: the larger of the percentiles of the two directions.

    Percentiles are interpolated linearly. The value is that of ``monai.metrics.compute_hausdorff_distance`` with
    ``percentile=95`` (Huttenlocher et al., Comparing images using the Hausdorff distance, TPAMI 1993).
    """
    return _hd95(*surface_distances(prediction, reference, spacing))


def assd(prediction: Mask, reference: Mask, spacing: Sequence[float] | None = None) -> float:
    """Return the average symmetric surface distance in mm: the mean over all edge voxels of both masks together.

    The value is that of ``monai.metrics.compute_average_surface_distance`` with ``symmetric=True``
    (Heimann et al., Comparison and evaluation of methods for liver segmentation, TMI 2009).
    """
    return _assd(*surface_distances(prediction, reference, spacing))


def surface_distances(
    prediction: Mask, reference: Mask, spacing: Sequence[float] | None = None
) -> tuple[Distances, Distances]:
    """Return the distances in mm from each edge voxel of a mask to the nearest edge voxel of the other.

    An edge voxel is a voxel of the mask with a face neighbour outside the mask or outside the array.

    Returns:
        Two float64 arrays, one value an edge voxel: from the prediction to the reference, and back. That of an empty
        mask has no values; those of the other mask are then ``inf``.
    """
    return _surface_distances(*_crop(prediction, reference), spacing)


def evaluate(prediction: Mask, reference: Mask, spacing: Sequence[float] | None = None) -> dict[str, float]:
    """Return all measures of this module by name, for about the price of ``hd95``."""
    cropped = _crop(prediction, reference)
    distances = _surface_distances(*cropped, spacing)
    return {
        "dice": _dice(*cropped),
        "iou": _iou(*cropped),
        "hd95": _hd95(*distances),
        "assd": _assd(*distances),
        "precision": _precision(*cropped),
        "recall": _recall(*cropped),
        "relative_volume_error": _relative_volume_error(*cropped),
    }


def _crop(prediction: Mask, reference: Mask) -> tuple[BoolArray, BoolArray]:
    """Return both masks as bool, cut to the box around everything in either: all that the measures depend on."""
    if prediction.shape != reference.shape:
        raise InputError(
            f"The prediction has shape {prediction.shape} but the reference {reference.shape}; "
            "resample one to the grid of the other."
        )
    if prediction.ndim not in (2, 3):
        raise InputError(f"A mask must be 2D or 3D, not of shape {prediction.shape}; give one mask at a time.")
    masks = [prediction, reference]
    # The slowest axis first: the later, slower passes then see a thin part of the volume only.
    for axis in range(prediction.ndim):
        others = tuple(other for other in range(prediction.ndim) if other != axis)
        occupied = np.flatnonzero(np.any(masks[0], axis=others) | np.any(masks[1], axis=others))
        box = slice(occupied[0], occupied[-1] + 1) if occupied.size else slice(0)
        masks = [mask[(slice(None),) * axis + (box,)] for mask in masks]
    return _as_bool(masks[0], "prediction"), _as_bool(masks[1], "reference")


def _as_bool(mask: Mask, name: str) -> BoolArray:
    result = mask.astype(bool)
    if mask.dtype != bool and not np.array_equal(mask, result):
        raise InputError(f"The {name} holds values other than 0 and 1; choose one label or apply a threshold first.")
    return result


def _count(mask: BoolArray) -> int:
    # NumPy's own integer would make every ratio a NumPy scalar, which JSON does not take.
    return int(np.count_nonzero(mask))


def _dice(prediction: BoolArray, reference: BoolArray) -> float:
    total = _count(prediction) + _count(reference)
    return 2 * _count(prediction & reference) / total if total else 1.0


def _iou(prediction: BoolArray, reference: BoolArray) -> float:
    union = _count(prediction | reference)
    return _count(prediction & reference) / union if union else 1.0


def _precision(prediction: BoolArray, reference: BoolArray) -> float:
    volume = _count(prediction)
    return _count(prediction & reference) / volume if volume else float(not reference.any())


def _recall(prediction: BoolArray, reference: BoolArray) -> float:
    return _precision(reference, prediction)


def _relative_volume_error(prediction: BoolArray, reference: BoolArray) -> float:
    volume = _count(reference)
    difference = _count(prediction) - volume
    if volume:
        return difference / volume
    return math.inf if difference else 0.0


def _surface_distances(
    prediction: BoolArray, reference: BoolArray, spacing: Sequence[float] | None
) -> tuple[Distances, Distances]:
    voxel = np.ones(prediction.ndim) if spacing is None else np.asarray(spacing, dtype=np.float64)
    if voxel.shape != (prediction.ndim,) or not np.all(np.isfinite(voxel) & (voxel > 0)):
        raise InputError(
            f"The spacing {spacing} does not fit a {prediction.ndim}D mask; "
            "give one positive size in mm for each array axis."
        )
    predicted, expected = (np.argwhere(mask ^ binary_erosion(mask)) * voxel for mask in (prediction, reference))
    # A tree without points answers inf, which is the stated value for one empty mask. Edge voxels are found faster in
    # leaves of 32 points than of 16, the default.
    trees = [cKDTree(points, leafsize=32) for points in (expected, predicted)]
    return trees[0].query(predicted)[0], trees[1].query(expected)[0]


def _hd95(forward: Distances, backward: Distances) -> float:
    if forward.size and backward.size:
        return float(max(np.percentile(forward, 95), np.percentile(backward, 95)))
    return math.inf if forward.size or backward.size else 0.0


def _assd(forward: Distances, backward: Distances) -> float:
    both = np.concatenate([forward, backward])
    return float(both.mean()) if both.size else 0.0
