"""How nodes lie to each other in space: matrices, parent transforms and points, all RAS in mm unless said otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegSlicer.translation import _

Matrix = NDArray[np.floating[Any]]
Points = NDArray[np.floating[Any]]
"""(N, 3)"""


def array_of(matrix: Any) -> Matrix:
    """A vtkMatrix4x4 as an array (4, 4), which is a copy."""
    return np.array(slicer.util.arrayFromVTKMatrix(matrix), float)


def moved(matrix: Matrix, points: Points) -> Points:
    """Points after a matrix (4, 4)."""
    return np.asarray(points @ matrix[:3, :3].T + matrix[:3, 3])


class Between:
    """From the coordinates that one node's data has to those of another one's: both parent transforms, of any kind.

    Attributes:
        transform: vtkGeneralTransform.
        matrix: the same as a matrix (4, 4); None where it is not linear.

    Raises:
        InputError: a parent transform of one of the nodes cannot be inverted.
    """

    def __init__(self, source: Any, target: Any) -> None:
        """From one transformable node to another one; None is the world."""
        parents = [node.GetParentTransformNode() if node else None for node in (source, target)]
        for parent in parents:
            _require_invertible(parent)
        self.transform = vtk.vtkGeneralTransform()
        slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(*parents, self.transform)
        linear = vtk.vtkTransform()
        is_linear = slicer.vtkMRMLTransformNode.IsGeneralTransformLinear(self.transform, linear)
        self.matrix = array_of(linear.GetMatrix()) if is_linear else None

    def __call__(self, points: Points) -> Points:
        """Where points of the source lie for the target."""
        if self.matrix is not None:
            return moved(self.matrix, points)
        given, found = vtk.vtkPoints(), vtk.vtkPoints()
        for container in (given, found):
            container.SetDataTypeToDouble()
        given.SetData(numpy_to_vtk(np.ascontiguousarray(points, float)))
        self.transform.TransformPoints(given, found)
        return np.array(vtk_to_numpy(found.GetData()))


def same_place() -> Between:
    """For nodes with the same parent transform."""
    return Between(None, None)


def _require_invertible(parent: Any) -> None:
    while parent:
        matrix = vtk.vtkMatrix4x4()
        # A transform that is not linear has no matrix: its inverse is found point by point.
        if parent.IsLinear() and parent.GetMatrixTransformToParent(matrix):
            linear = array_of(matrix)[:3, :3]
            if abs(np.linalg.det(linear)) < 1e-9 * max(1e-9, np.linalg.norm(linear) ** 3):
                text = _(
                    "The transform '{name}' flattens space and cannot be inverted: correct it, or move the data out."
                )
                raise InputError(text.format(name=parent.GetName()))
        parent = parent.GetParentTransformNode()
