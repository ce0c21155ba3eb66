"""Slicer's labelmaps (vtkOrientedImageData) and regions of a grid, to and fro, whatever lies between them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.regions import Box, Region, box_of, intersection, is_empty, within
from NoisyLabelSegSlicer.footprint import footprint
from NoisyLabelSegSlicer.transforms import Between, Matrix, Points, array_of, moved
from NoisyLabelSegSlicer.volumes import ijk_to_ras, view_of

EMPTY = Region((slice(0, 0),) * 3, np.zeros((0, 0, 0), np.uint8))
_NEAREST = 0.49  # Of a voxel: up to here the nearest voxel is always the same.


def labelmap_of(region: Region, grid: Grid) -> Any:
    """A labelmap of a region's box alone: bool becomes 0 and 1, integers keep their values."""
    image = slicer.vtkOrientedImageData()
    values = region.values.astype(np.uint8) if region.values.dtype == bool else region.values
    image.SetExtent(_extent(region.box))
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(values).ravel(), deep=True))
    image.SetImageToWorldMatrix(slicer.util.vtkMatrixFromArray(ijk_to_ras(grid)))
    return image


def on_grid(image: Any, labels: Sequence[int], to_volume: Between, grid: Grid) -> Region:
    """The voxels of some labels of a labelmap on a volume's grid, in their smallest box; elsewhere 0.

    Voxels are copied as they are wherever the nearest voxel is the same all over: in the usual case, where the labelmap
    lies on the volume's lattice. Else each voxel of the grid gets the label of the nearest one of the labelmap.

    Args:
        image: vtkOrientedImageData in the coordinates of its segmentation node.
        labels: the wanted voxel values.
        to_volume: from the segmentation's coordinates to the volume's.
        grid: the volume's.
    """
    chosen = _chosen(image, labels)
    if is_empty(chosen.box):
        return EMPTY
    offset = _whole_voxels(image, chosen.box, to_volume, grid)
    if offset is None:
        return _resampled(image, chosen, to_volume, grid)
    box = tuple(slice(side.start + step, side.stop + step) for side, step in zip(chosen.box, offset[::-1], strict=True))
    inside = intersection(box, grid.whole_box())
    return Region(inside, chosen.values[within(inside, box)]).trimmed()


def _chosen(image: Any, labels: Sequence[int]) -> Region:
    """The voxels of some labels, 0 elsewhere, in their box of the labelmap's own indices, which may be negative."""
    if image.GetPointData().GetScalars() is None or not image.GetNumberOfPoints():
        return EMPTY
    view = view_of(image)
    # Slice by slice, so that nothing of the size of the whole labelmap is made.
    occupied = [k for k, plane in enumerate(view) if np.isin(plane, labels).any()]
    if not occupied:
        return EMPTY
    slab = view[occupied[0] : occupied[-1] + 1]
    wanted = np.isin(slab, labels)
    inner = box_of(wanted)
    values = np.where(wanted[inner], slab[inner], slab.dtype.type(0))
    i, _, j, _, k, _ = image.GetExtent()
    starts = (k + occupied[0], j, i)
    return Region(tuple(slice(s.start + o, s.stop + o) for s, o in zip(inner, starts, strict=True)), values)


def _whole_voxels(image: Any, box: Box, to_volume: Between, grid: Grid) -> list[int] | None:
    """The step (I, J, K) in whole voxels from the labelmap's indices to the grid's; None where there is no such."""
    if to_volume.matrix is None:
        return None
    corners = np.array(list(product(*((side.start, side.stop - 1) for side in box[::-1]))), float)
    steps = _to_index(image, to_volume, grid)(corners) - corners
    step = np.rint(steps.mean(axis=0))
    return step.astype(int).tolist() if np.abs(steps - step).max() <= _NEAREST else None


def _to_index(image: Any, to_volume: Between, grid: Grid) -> Any:
    """From the labelmap's indices to the grid's."""
    to_ras, to_ijk = _matrix(image), np.linalg.inv(ijk_to_ras(grid))

    def to_index(points: Points) -> Points:
        return moved(to_ijk, to_volume(moved(to_ras, points)))

    return to_index


def _resampled(image: Any, chosen: Region, to_volume: Between, grid: Grid) -> Region:
    low = np.array([side.start for side in chosen.box[::-1]]) - 0.5
    high = np.array([side.stop for side in chosen.box[::-1]]) - 0.5
    box = footprint(low, high, _to_index(image, to_volume, grid), grid)
    if is_empty(box):
        return EMPTY
    source, reference, found = (slicer.vtkOrientedImageData() for _ in range(3))
    source.SetExtent(_extent(chosen.box))
    source.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(chosen.values).ravel()))
    source.CopyDirections(image)
    source.SetSpacing(image.GetSpacing())
    source.SetOrigin(image.GetOrigin())
    reference.SetExtent(_extent(box))
    reference.SetImageToWorldMatrix(slicer.util.vtkMatrixFromArray(ijk_to_ras(grid)))
    slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(
        source, reference, found, False, False, to_volume.transform
    )
    return Region(box, view_of(found).copy()).trimmed()


def _matrix(image: Any) -> Matrix:
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    return array_of(matrix)


def _extent(box: Box) -> list[int]:
    """VTK's extent: the first and the last index along I, J and K; 0 and -1 where there are none."""
    if is_empty(box):
        return [0, -1] * 3
    return [index for side in box[::-1] for index in (side.start, side.stop - 1)]
