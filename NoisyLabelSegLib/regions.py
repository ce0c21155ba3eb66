"""Masks and maps in a box of a large grid, so that work on a small structure costs what the structure costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from NoisyLabelSegLib.segmentations import Segmentation

Box = tuple[slice, ...]
"""A half-open range of indices for each array axis (K, J, I)."""


@dataclass(frozen=True, eq=False)
class Region:
    """An array in a box of a grid; outside of it everything is 0.

    Attributes:
        box: where; a box without voxels is empty along every axis.
        values: of the box's shape.
    """

    box: Box
    values: NDArray[Any]

    def cut(self, box: Box) -> NDArray[Any]:
        """The values in another box of the same grid, as a new array."""
        result = np.zeros([side.stop - side.start for side in box], self.values.dtype)
        shared = intersection(self.box, box)
        result[within(shared, box)] = self.values[within(shared, self.box)]
        return result

    def trimmed(self) -> Region:
        """The same in the smallest box."""
        inner = box_of(self.values)
        starts = [side.start for side in self.box]
        box = tuple(slice(s.start + start, s.stop + start) for s, start in zip(inner, starts, strict=True))
        return Region(box, self.values[inner])


NOTHING = Region((slice(0, 0),) * 3, np.zeros((0, 0, 0), bool))
"""A mask without a voxel."""


def box_of(array: NDArray[Any]) -> Box:
    """The smallest box around everything that is not 0."""
    box: list[slice] = []
    # The slowest axis first: the later, slower passes then see a thin part of the volume only.
    for axis in range(array.ndim):
        others = tuple(other for other in range(array.ndim) if other != axis)
        occupied = np.flatnonzero(array[tuple(box)].any(axis=others))
        box.append(slice(int(occupied[0]), int(occupied[-1]) + 1) if occupied.size else slice(0, 0))
    return tuple(box)


def is_empty(box: Box) -> bool:
    """Whether a box holds no voxel."""
    return any(side.start >= side.stop for side in box)


def union(boxes: Iterable[Box]) -> Box:
    """The smallest box around all boxes, of which there must be at least one; empty ones do not count."""
    every = list(boxes)
    filled = [box for box in every if not is_empty(box)] or every[:1]
    return tuple(slice(min(s.start for s in sides), max(s.stop for s in sides)) for sides in zip(*filled, strict=True))


def intersection(a: Box, b: Box) -> Box:
    """What two boxes share."""
    starts = [max(s.start, t.start) for s, t in zip(a, b, strict=True)]
    stops = [min(s.stop, t.stop) for s, t in zip(a, b, strict=True)]
    return tuple(slice(start, max(start, stop)) for start, stop in zip(starts, stops, strict=True))


def within(box: Box, outer: Box) -> Box:
    """A box counted from the start of another one around it."""
    if is_empty(box):
        return tuple(slice(0, 0) for _ in box)
    return tuple(slice(s.start - o.start, s.stop - o.start) for s, o in zip(box, outer, strict=True))


def region_of(image: sitk.Image) -> Region:
    """What of an image is not 0."""
    array = sitk.GetArrayViewFromImage(image)
    box = box_of(array)
    return Region(box, array[box].copy())  # the view dies with the image


def masks_of(segmentation: Segmentation) -> list[Region]:
    """Each segment's mask, bool, in the smallest box around it."""
    array = sitk.GetArrayViewFromImage(segmentation.image)
    layers = array[..., None] if array.ndim == 3 else array
    boxes = {layer: box_of(layers[..., layer]) for layer in {segment.layer for segment in segmentation.segments}}
    return [
        Region(boxes[s.layer], layers[..., s.layer][boxes[s.layer]] == s.label).trimmed() for s in segmentation.segments
    ]


def joined(masks: Sequence[Region], values: Mapping[int, int]) -> Region:
    """Masks as one label map (uint8): each mask, by its place, with its value; where some overlap the last counts."""
    box = union(masks[place].box for place in values)
    labels = np.zeros([side.stop - side.start for side in box], np.uint8)
    for place, value in values.items():
        labels[within(masks[place].box, box)][masks[place].values] = value
    return Region(box, labels)


def together(masks: Sequence[Region]) -> Region:
    """Where any of the masks is, bool: `NOTHING` without one."""
    if not masks:
        return NOTHING
    labels = joined(masks, dict.fromkeys(range(len(masks)), 1))
    return Region(labels.box, labels.values > 0)


def overlap(masks: Iterable[Region]) -> bool:
    """Whether two masks share a voxel."""
    masks = [mask for mask in masks if not is_empty(mask.box)]
    if len(masks) < 2:
        return False
    whole = union(mask.box for mask in masks)
    taken = np.zeros([side.stop - side.start for side in whole], bool)
    for mask in masks:
        place = within(mask.box, whole)
        if (taken[place] & mask.values).any():
            return True
        taken[place] |= mask.values
    return False
