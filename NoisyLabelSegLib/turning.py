"""The same voxels in another order: 3D Slicer turns left-handed axes when it loads a volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.outcome import Outcome
from NoisyLabelSegLib.regions import Region, is_empty

_TOLERANCE = 0.01


def turned_axes(grid: Grid, other: Grid) -> tuple[int, ...] | None:
    """The axes (0 = I, 1 = J, 2 = K) that run the other way in another grid of the same voxels.

    None where its voxels lie elsewhere, by more than a hundredth of a voxel, or its axes have another order.
    """
    if grid.size != other.size:
        return None
    last = np.array(grid.size, float) - 1
    corners = np.array(np.meshgrid(*((0, n) for n in last))).reshape(3, 8).T
    found = other.to_index(grid.to_physical(corners))
    turned = np.abs(found[0] - corners[0]) > last / 2
    fits = np.abs(found - np.where(turned, last - corners, corners)).max() <= _TOLERANCE
    return tuple(np.flatnonzero(turned).tolist()) if fits else None


def turned(outcome: Outcome, size: Sequence[int], axes: Sequence[int]) -> Outcome:
    """What was found, in the order of the other grid, but for the suspects' voxels, which nothing that is read has.

    Args:
        outcome: on a grid.
        size: the grid's, in voxels along I, J, K.
        axes: see `turned_axes`.
    """
    if not axes:
        return outcome
    return replace(
        outcome,
        stages=tuple(tuple(_region(mask, size, axes) for mask in stage) for stage in outcome.stages),
        maps=tuple(replace(one, region=_region(one.region, size, axes)) for one in outcome.maps),
        suspects=tuple({**row, "index": _index(row["index"], size, axes)} for row in outcome.suspects),
        regions=(),
    )


def _region(region: Region, size: Sequence[int], axes: Sequence[int]) -> Region:
    if is_empty(region.box):
        return region
    box, places = list(region.box), tuple(2 - axis for axis in axes)
    for axis, place in zip(axes, places, strict=True):
        box[place] = slice(size[axis] - box[place].stop, size[axis] - box[place].start)
    return Region(tuple(box), np.flip(region.values, places))


def _index(index: Sequence[int], size: Sequence[int], axes: Sequence[int]) -> list[int]:
    return [size[axis] - 1 - value if axis in axes else value for axis, value in enumerate(index)]
