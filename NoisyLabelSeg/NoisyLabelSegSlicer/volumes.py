"""A volume node's voxels and the grid on which they lie, without a copy of the whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import vtk
from numpy.typing import NDArray
from vtk.util.numpy_support import vtk_to_numpy

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.regions import Box, Region
from NoisyLabelSegSlicer.transforms import Matrix, array_of
from NoisyLabelSegSlicer.translation import _

_SHEAR = 1e-3  # Cosine of the angle between two axes; headers in single precision reach 1e-6.
_TO_LPS = np.array([-1.0, -1.0, 1.0])


def grid_of(volume: Any) -> Grid:
    """The grid of a scalar volume in its own coordinates, that is without its parent transform.

    Raises:
        InputError: the node has no voxels, several values per voxel, or axes that are not at right angles.
    """
    image = _image(volume)
    directions = vtk.vtkMatrix4x4()
    volume.GetIJKToRASDirectionMatrix(directions)
    axes = array_of(directions)[:3, :3]
    if np.abs(axes.T @ axes - np.eye(3)).max() > _SHEAR:
        text = _(
            "The axes of '{name}' are not at right angles to each other, which cannot be refined: "
            "resample the volume first (module Resample Scalar Volume)."
        )
        raise InputError(text.format(name=volume.GetName()))
    direction = (_TO_LPS[:, None] * axes).ravel().tolist()
    x, y, z = (_TO_LPS * volume.GetOrigin()).tolist()
    return Grid(tuple(image.GetDimensions()), tuple(volume.GetSpacing()), (x, y, z), tuple(direction))


def ijk_to_ras(grid: Grid) -> Matrix:
    """The matrix (4, 4) from a grid's indices to RAS."""
    matrix = np.eye(4)
    matrix[:3, :3] = _TO_LPS[:, None] * np.reshape(grid.direction, (3, 3)) * grid.spacing
    matrix[:3, 3] = _TO_LPS * grid.origin
    return matrix


def voxels_of(volume: Any, box: Box) -> Region:
    """A part of the volume in its own voxel type; a view of the node's memory where it is the whole."""
    return Region(box, np.ascontiguousarray(view_of(_image(volume))[box]))


def view_of(image: Any) -> NDArray[Any]:
    """A vtkImageData's voxels (K, J, I) where they are: changing them changes the image."""
    return np.asarray(vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1]))


def value_range(volume: Any) -> tuple[float, float]:
    """The smallest and the largest value of the whole volume; VTK keeps them until the voxels change."""
    low, high = _image(volume).GetScalarRange()
    return low, high


def _image(volume: Any) -> Any:
    """The volume's vtkImageData, which is known to hold one value a voxel."""
    image = volume.GetImageData()
    name = volume.GetName()
    if image is None or not image.GetNumberOfPoints() or image.GetPointData().GetScalars() is None:
        raise InputError(
            _("The volume '{name}' has no voxels: load an image, or choose another volume.").format(name=name)
        )
    if image.GetNumberOfScalarComponents() > 1 or not volume.IsA("vtkMRMLScalarVolumeNode"):
        text = _("The volume '{name}' has several values per voxel (colour, vectors or time): choose a scalar volume.")
        raise InputError(text.format(name=name))
    return image
