"""Small scenes of 3D Slicer's data model without its application: volumes, segmentations and transforms of any kind."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("slicer", reason="slicer-core has no wheel for this Python or machine")

import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

Array = NDArray[Any]
LOGICS = (
    "vtkSlicerVolumesLogic",
    "vtkSlicerSegmentationsModuleLogic",
    "vtkSlicerSubjectHierarchyModuleLogic",
    "vtkSlicerMarkupsLogic",
    "vtkSlicerTablesLogic",
    "vtkMRMLColorLogic",
    "vtkSlicerTransformLogic",
)


def new_scene() -> Any:
    """An empty scene that knows the node classes of Slicer's modules, with a crosshair."""
    scene = slicer.vtkMRMLScene()
    scene.RegisterNodeClass(slicer.vtkMRMLColorLegendDisplayNode())
    application = slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    scene.logics = [application, *(getattr(slicer, name)() for name in LOGICS)]  # they live as long as the scene
    for logic in scene.logics[1:]:
        logic.SetMRMLApplicationLogic(application)
        logic.SetMRMLScene(scene)
    crosshair = slicer.vtkMRMLCrosshairNode()
    crosshair.SetCrosshairName("default")
    scene.AddNode(crosshair)
    return scene


def geometry(
    spacing: tuple[float, ...] = (0.7, 0.9, 2.5),
    angles: tuple[float, ...] = (0, 0, 0),
    flip: tuple[int, ...] = (1, 1, 1),
    origin: tuple[float, ...] | Array = (-31.5, 17.25, 104.125),
) -> Array:
    """A matrix (4, 4) from indices to RAS: turned by angles (degrees) about R, A and S, axes flipped where -1."""
    turn = vtk.vtkTransform()
    for rotate, angle in zip((turn.RotateX, turn.RotateY, turn.RotateZ), angles, strict=True):
        rotate(angle)
    matrix = np.array([[turn.GetMatrix().GetElement(row, column) for column in range(4)] for row in range(4)])
    matrix[:3, :3] = matrix[:3, :3] * flip * spacing
    matrix[:3, 3] = origin
    return matrix


def vtk_matrix(matrix: Array) -> Any:
    return slicer.util.vtkMatrixFromArray(matrix)


def add_volume(scene: Any, array: Array, matrix: Array, name: str = "image") -> Any:
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    image = vtk.vtkImageData()
    image.SetDimensions(array.shape[2::-1])
    flat = np.ascontiguousarray(array).reshape(-1, *array.shape[3:])
    image.GetPointData().SetScalars(numpy_to_vtk(flat, deep=True))
    node.SetAndObserveImageData(image)
    node.SetIJKToRASMatrix(vtk_matrix(matrix))
    return node


def labelmap(array: Array, matrix: Array, start: tuple[int, int, int] = (0, 0, 0)) -> Any:
    """A vtkOrientedImageData of an array (K, J, I) whose first voxel has the index ``start`` (I, J, K)."""
    image = slicer.vtkOrientedImageData()
    image.SetExtent([v for s, n in zip(start, array.shape[::-1], strict=True) for v in (s, s + n - 1)])
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(array, np.uint8).ravel(), deep=True))
    image.SetImageToWorldMatrix(vtk_matrix(matrix))
    return image


def add_segmentation(scene: Any, masks: Mapping[str, Array | Any], matrix: Array, name: str = "coarse") -> Any:
    """A segmentation node with a segment, of the key as name and ID, for each array or labelmap."""
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    for number, (key, mask) in enumerate(masks.items()):
        image = labelmap(mask, matrix) if isinstance(mask, np.ndarray) else mask
        node.AddSegmentFromBinaryLabelmapRepresentation(image, key, [0.1 * number, 0.5, 0.25], key)
    return node


def add_linear(scene: Any, matrix: Array) -> Any:
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "linear")
    node.SetMatrixTransformToParent(vtk_matrix(matrix))
    return node


SHEAR = np.array([[1, 0, 0.1, 3], [0, 1, -0.35, -5], [0, 0, 1, 2], [0, 0, 0, 1]], float)
"""What the slices of a tilted gantry need, and a shift."""


def shear(centre: Array) -> Array:
    """The same with a turn, about a point, which moves by little."""
    matrix = geometry((1, 1, 1), (0, 0, 7), origin=(0, 0, 0)) @ SHEAR
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre + np.array((0.3, -1.1, 0.6))
    return matrix


def add_grid(scene: Any, centre: Array, reach: float = 60.0) -> Any:
    """A displacement field about a point that bends as well as it shears; smooth, and zero far away."""
    node = scene.AddNewNodeByClass("vtkMRMLGridTransformNode", "grid")
    count = 13
    steps = np.linspace(-reach, reach, count)
    z, y, x = np.meshgrid(steps, steps, steps, indexing="ij")
    fade = np.exp(-(x**2 + y**2 + z**2) / (0.6 * reach) ** 2)
    field = np.stack([1.45 * np.sin(z / 9) * fade, 0.35 * z * fade, 2.0 * np.cos(x / 11) * fade], axis=-1)
    image = vtk.vtkImageData()
    image.SetDimensions(count, count, count)
    image.SetOrigin(*(centre - reach))
    image.SetSpacing(*(3 * [steps[1] - steps[0]]))
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(field.reshape(-1, 3)), deep=True))
    transform = slicer.vtkOrientedGridTransform()
    transform.SetDisplacementGridData(image)
    transform.SetInterpolationModeToCubic()
    node.SetAndObserveTransformToParent(transform)
    return node


def parents(scene: Any, centre: Array) -> dict[str, Any]:
    """Parent transforms by what they are, all about a point: none, linear, grid, and a grid under a linear one."""
    found = {"none": None, "linear": add_linear(scene, shear(centre)), "grid": add_grid(scene, centre)}
    found["both"] = add_grid(scene, centre)
    put_under(found["both"], found["linear"])
    return found


def put_under(node: Any, parent: Any | None) -> None:
    node.SetAndObserveTransformNodeID(parent.GetID() if parent else None)


def matrix_of(node: Any) -> Array:
    """A volume's matrix from indices to its own RAS."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def to_world(volume: Any, index: Array) -> Array:
    """Where voxels (N, 3) in the order I, J, K lie in the scene, point by point as Slicer has it."""
    matrix, found = matrix_of(volume), []
    for i, j, k in index:
        point = [0.0, 0.0, 0.0]
        volume.TransformPointToWorld((matrix @ (i, j, k, 1))[:3], point)
        found.append(point)
    return np.array(found)


def seen_at(node: Any, identifier: str, world: Array) -> tuple[Array, Array]:
    """Whether a segment covers points (N, 3) of the scene: the slow reference, by the voxel nearest to each.

    Returns:
        Two arrays of bool (N,): covered or not, and whether that is sure, not midway between two voxels.
    """
    segment = node.GetSegmentation().GetSegment(identifier)
    image, label = segment.GetRepresentation("Binary labelmap"), segment.GetLabelValue()
    matrix = vtk.vtkMatrix4x4()
    image.GetWorldToImageMatrix(matrix)
    view = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])
    extent = np.reshape(image.GetExtent(), (3, 2))
    seen, sure = np.zeros(len(world), bool), np.ones(len(world), bool)
    for n, point in enumerate(world):
        local = [0.0, 0.0, 0.0]
        node.TransformPointFromWorld(point, local)
        exact = np.array(matrix.MultiplyPoint((*local, 1))[:3]) + 0.5
        index = np.floor(exact).astype(int)
        sure[n] = np.abs(exact - np.rint(exact)).min() > 1e-4
        if ((index >= extent[:, 0]) & (index <= extent[:, 1])).all():
            seen[n] = view[tuple((index - extent[:, 0])[::-1])] == label
    return seen, sure


def state(node: Any) -> dict[str, Any]:
    """All that a segmentation node holds: for a comparison of before and after."""
    segmentation = node.GetSegmentation()
    found: dict[str, Any] = {"name": node.GetName(), "parent": node.GetTransformNodeID(), "time": node.GetMTime()}
    for number in range(segmentation.GetNumberOfSegments()):
        identifier = segmentation.GetNthSegmentID(number)
        segment = segmentation.GetSegment(identifier)
        for kind in ("Binary labelmap", "Closed surface"):
            data = segment.GetRepresentation(kind)
            if data is not None:
                scalars = data.GetPointData().GetScalars() if kind == "Binary labelmap" else data.GetPoints().GetData()
                values = b"" if scalars is None else vtk_to_numpy(scalars).tobytes()
                found[f"{identifier} {kind}"] = (data.__this__, data.GetMTime(), values)
        found[identifier] = (number, segment.GetName(), segment.GetColor(), segment.GetLabelValue(), segment.GetMTime())
    return found


def save_bundle(scene: Any, path: Path) -> Path:
    """Write a scene as Slicer's .mrb; return it."""
    assert scene.WriteToMRB(str(path), None)
    return path


def load_bundle(path: Path) -> Any:
    """A new scene from a .mrb, which is unpacked beside it."""
    with zipfile.ZipFile(path) as archive:
        archive.extractall(path.with_suffix(""))
    [found] = path.with_suffix("").rglob("*.mrml")
    return _load(found)


def save_files(scene: Any, path: Path) -> Path:
    """Write a scene as .mrml with a file beside it for each node that has one, as Slicer's Save dialog does."""
    scene.SetRootDirectory(str(path.parent))
    scene.SetURL(str(path))
    for number in range(scene.GetNumberOfNodesByClass("vtkMRMLStorableNode")):
        node = scene.GetNthNodeByClass(number, "vtkMRMLStorableNode")
        if node.GetSaveWithScene() and not node.GetHideFromEditors() and node.AddDefaultStorageNode():
            storage = node.GetStorageNode()
            storage.SetFileName(str(path.parent / f"{node.GetName()}.{storage.GetDefaultWriteFileExtension()}"))
            assert storage.WriteData(node)
    assert scene.Commit()
    return path


def load_files(path: Path) -> Any:
    return _load(path)


def _load(path: Path) -> Any:
    scene = new_scene()
    scene.SetURL(str(path))
    assert scene.Connect()
    return scene
