"""A Markups ROI as a part of a volume's grid: turned as it likes, under its own parent transform."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.regions import Box, Region, is_empty
from NoisyLabelSegSlicer.footprint import footprint
from NoisyLabelSegSlicer.transforms import Between, Matrix, Points, array_of, moved
from NoisyLabelSegSlicer.translation import _
from NoisyLabelSegSlicer.volumes import grid_of, ijk_to_ras

_HAIR = 1e-6  # mm; a voxel centre on the face of the ROI is inside.


def inside(roi: Any, volume: Any, box: Box) -> Region:
    """Which voxels of a box of the volume's grid have their centres in the ROI, bool.

    Raises:
        InputError: the ROI is not placed, or a parent transform cannot be inverted.
    """
    half, to_object = _half_size(roi), np.linalg.inv(_object_to_node(roi))
    grid, to_roi = grid_of(volume), Between(volume, roi)
    if to_roi.matrix is not None:
        found = _inside_straight(to_object @ to_roi.matrix @ ijk_to_ras(grid), box, half)
    else:
        found = np.stack(
            [_inside_slice(k, box, grid, to_roi, to_object, half) for k in range(box[0].start, box[0].stop)]
        )
    return Region(box, ~found if roi.GetInsideOut() else found)


def region_of_roi(roi: Any, volume: Any) -> Region:
    """The volume's voxels that are `inside` the ROI, in their smallest box, bool.

    Raises:
        InputError: no voxel of the volume is inside; see also `inside`.
    """
    half, to_node = _half_size(roi), _object_to_node(roi)
    grid, to_volume = grid_of(volume), Between(roi, volume)
    to_ijk = np.linalg.inv(ijk_to_ras(grid))
    box = footprint(-half, half, lambda points: moved(to_ijk, to_volume(moved(to_node, points))), grid)
    if roi.GetInsideOut():
        box = grid.whole_box()
    found = Region(box, np.zeros((0, 0, 0), bool)) if is_empty(box) else inside(roi, volume, box).trimmed()
    if is_empty(found.box):
        text = _("The ROI '{roi}' lies outside of the volume '{name}': move it, or choose no ROI.")
        raise InputError(text.format(roi=roi.GetName(), name=volume.GetName()))
    return found


def _half_size(roi: Any) -> Points:
    size = np.array(roi.GetSize())
    if not (size > 0).all():
        raise InputError(
            _("The ROI '{name}' has no size: place it first, or choose no ROI.").format(name=roi.GetName())
        )
    return size / 2


def _object_to_node(roi: Any) -> Matrix:
    return array_of(roi.GetObjectToNodeMatrix())


def _inside_straight(to_object: Matrix, box: Box, half: Points) -> NDArray[np.bool_]:
    """For a matrix from indices (I, J, K) to the ROI's axes."""
    k, j, i = np.ogrid[box]
    found = np.ones([side.stop - side.start for side in box], bool)
    for row, most in zip(to_object[:3], half, strict=True):
        found &= np.abs(row[0] * i + row[1] * j + row[2] * k + row[3]) <= most + _HAIR
    return found


def _inside_slice(k: int, box: Box, grid: Grid, to_roi: Between, to_object: Matrix, half: Points) -> NDArray[np.bool_]:
    j, i = np.mgrid[box[1:]]
    index = np.stack([i, j, np.full_like(i, k)], axis=-1).reshape(-1, 3).astype(float)
    points = moved(to_object, to_roi(moved(ijk_to_ras(grid), index)))
    return np.asarray((np.abs(points) <= half + _HAIR).all(axis=1).reshape(i.shape))
