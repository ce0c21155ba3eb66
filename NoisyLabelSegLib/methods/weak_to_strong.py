"""Weak-to-strong: lesions from the weak modality alone, by a network that learnt beside a strong one (thesis, ch. 5).

The strong modality and everything that knew it (its encoder, ARM, PKT's heads) exist in training only: what is here is
a segmentation of one image, slice by slice for a 2D network, and what a bundle says about how to read it. A network
that RefineSeg taught is read in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from NoisyLabelSegLib.bundle.strict_json import convert
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.regions import Box


@dataclass(frozen=True)
class Arguments:
    """What a bundle's ``method_arguments`` hold.

    Attributes:
        temperatures: the logits are divided by it: fitted on validation data at export.
        mirror: axes of the network's input over whose flips predictions may be averaged.
        smallest_mm3: objects below this volume are taken for noise and left out; 0 keeps all.
        one_object: what it knows hangs together and lies within the image, as the parts of a heart do: of all that is
            found only that is kept, see `one_object`.
        needs_region: it was trained on crops about what it knows and is of no use on a whole image.
    """

    temperatures: tuple[float, ...] = (1.0,)
    mirror: tuple[int, ...] = ()
    smallest_mm3: float = 0.0
    one_object: bool = False
    needs_region: bool = False

    def __post_init__(self) -> None:
        if len(self.temperatures) != 1 or not 0.01 <= self.temperatures[0] <= 100:
            raise InputError("temperatures must be a single one between 0.01 and 100.")
        if not 0 <= self.smallest_mm3 <= 1e6:
            raise InputError(f"smallest_mm3 must lie between 0 and 1,000,000 mm³, not {self.smallest_mm3:g}.")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Arguments:
        """Read a bundle's mapping; an unknown or wrong key is an `InputError`."""
        return convert(cls, dict(values), "The method_arguments of a segmentation")


def without_small_objects(mask: NDArray[np.bool_], least_voxels: float) -> tuple[NDArray[np.bool_], int]:
    """A mask without its connected objects (over faces, edges and corners) of fewer voxels, and how many those were.

    Args:
        mask: (K, J, I).
        least_voxels: smallest size that is kept; may be a fraction.
    """
    if least_voxels <= 1 or not mask.any():
        return mask, 0
    labels, sizes = _objects(mask)
    small = (sizes < least_voxels) & (np.arange(len(sizes)) > 0)
    return mask & ~small[labels], int(small.sum())


def one_object(mask: NDArray[np.bool_], border: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], int]:
    """The largest connected object (over faces, edges and corners) of those that do not touch the border.

    If all of them do, it is the largest of all. What nobody drew on, far from what was drawn, a network may take for
    anything, and its largest mistakes are there: in the air, about the body's surface.

    Args:
        mask: (K, J, I).
        border: of the same shape, see `slices_border`.

    Returns:
        The object, and how many others there were.
    """
    if not mask.any():
        return mask, 0
    labels, sizes = _objects(mask)
    sizes[0] = 0
    within = sizes.copy()
    within[np.unique(labels[border])] = 0
    kept: NDArray[np.bool_] = labels == (within if within.any() else sizes).argmax()
    return kept, int(np.count_nonzero(sizes)) - 1


def slices_border(box: Box, shape: tuple[int, ...], slice_axis: int) -> NDArray[np.bool_]:
    """Which voxels of an image's box are the first or last of their rows or columns, in every slice.

    Args:
        box: of the image's array.
        shape: the image's, (K, J, I).
        slice_axis: the voxel axis (0 = I, 1 = J, 2 = K) along which slices follow each other.
    """
    along = [np.arange(side.start, side.stop) for side in box]
    ends = [
        (place == 0) | (place == size - 1) if axis != 2 - slice_axis else np.zeros(len(place), bool)
        for axis, (place, size) in enumerate(zip(along, shape, strict=True))
    ]
    return ends[0][:, None, None] | ends[1][:, None] | ends[2]


def _objects(mask: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The number of each voxel's object, and each object's voxels; the background is number 0."""
    objects = sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8)), True)
    labels = sitk.GetArrayFromImage(objects)
    return labels, np.bincount(labels.ravel())
