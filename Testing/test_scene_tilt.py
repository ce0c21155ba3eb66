"""A scan with a tilted gantry and uneven slices, as Slicer loads it: a straight volume under a displacement field."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scenes
import SimpleITK as sitk
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from NoisyLabelSegLib.outcome import Outcome
from NoisyLabelSegLib.regions import Region, box_of
from NoisyLabelSegLib.segmentations import Segment
from NoisyLabelSegSlicer.segments import masks_of_segments, segment_records
from NoisyLabelSegSlicer.session import Session

HEAD = Path(__file__).resolve().parents[2] / "shared" / "data" / "dicom" / "head_ct_gantry_tilt"
TO_RAS = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Stack:
    """Slices (K, J, I), the true place (RAS) of each one's first voxel, and the steps of I and J (RAS, mm)."""

    voxels: scenes.Array
    first: scenes.Array
    along_i: scenes.Array
    along_j: scenes.Array

    def true(self, index: scenes.Array) -> scenes.Array:
        """Where voxels (N, 3) in the order I, J, K were measured in the patient."""
        i, j, k = index.T
        return self.first[k] + i[:, None] * self.along_i + j[:, None] * self.along_j

    @property
    def regular(self) -> scenes.Array:
        """The matrix of the straight, even volume that Slicer makes of it."""
        normal = np.cross(self.along_i, self.along_j)
        normal /= np.linalg.norm(normal)
        heights = (self.first - self.first[0]) @ normal
        matrix = np.eye(4)
        matrix[:3, 0], matrix[:3, 1] = self.along_i, self.along_j
        matrix[:3, 2], matrix[:3, 3] = normal * heights[-1] / (len(heights) - 1), self.first[0]
        return matrix


def synthetic() -> Stack:
    tilt = np.radians(20)
    along_i, along_j = np.array([-0.8, 0, 0]), np.array([0, -0.8 * np.cos(tilt), -0.8 * np.sin(tilt)])
    heights = np.array([0, 2, 4, 6, 8, 11, 14, 17, 20, 23.0])
    first = np.array([18.0, 12.0, -40.0]) + heights[:, None] * (0, 0, 1)
    return Stack(np.zeros((10, 36, 44), np.int16), first, along_i, along_j)


def head() -> Stack:
    if not HEAD.is_dir():
        pytest.skip("the tilted head CT is not at hand: it lies outside of the repository")
    slices = [sitk.ReadImage(str(path)) for path in sorted(HEAD.glob("*.dcm"))]
    first = np.array([image.GetOrigin() for image in slices]) * TO_RAS
    slices = [slices[n] for n in np.argsort(first[:, 2])]
    cosines, spacing = np.reshape(slices[0].GetDirection(), (3, 3)), slices[0].GetSpacing()
    voxels = np.concatenate([sitk.GetArrayFromImage(image) for image in slices])
    steps = [cosines[:, axis] * TO_RAS * spacing[axis] for axis in (0, 1)]
    return Stack(voxels, np.array(sorted(first.tolist(), key=lambda p: p[2])), *steps)


def grid_transform(scene: Any, stack: Stack) -> Any:
    """The displacements, at the corners of each slice, from the even volume to the patient."""
    count, (rows, columns) = len(stack.first), stack.voxels.shape[1:]
    corners = np.array([(i, j, k) for k in range(count) for j in (0, rows - 1) for i in (0, columns - 1)])
    even = corners @ stack.regular[:3, :3].T + stack.regular[:3, 3]
    image = vtk.vtkImageData()
    image.SetDimensions(2, 2, count)
    steps = stack.regular[:3, :3] * (columns - 1, rows - 1, 1)
    lengths = np.linalg.norm(steps, axis=0)
    image.SetSpacing(*lengths)
    image.SetOrigin(*stack.first[0])
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(stack.true(corners) - even), deep=True))
    transform = slicer.vtkOrientedGridTransform()
    directions = np.eye(4)
    directions[:3, :3] = steps / lengths
    transform.SetGridDirectionMatrix(scenes.vtk_matrix(directions))
    transform.SetDisplacementGridData(image)
    transform.SetInterpolationModeToLinear()
    node = scene.AddNewNodeByClass("vtkMRMLGridTransformNode", "acquisition")
    node.SetAndObserveTransformToParent(transform)
    return node


@pytest.fixture(params=[synthetic, head], ids=["synthetic", "head CT"])
def stack(request: pytest.FixtureRequest) -> Stack:
    return request.param()


def near_the_middle(stack: Stack) -> tuple[scenes.Array, scenes.Array]:
    """A point of the patient, and the voxels (N, 3) about it."""
    k, j, i = (np.array(stack.voxels.shape) // 2).tolist()
    centre = stack.true(np.array([[i, j, k]]))[0]
    reach = [min(16, n // 2) for n in stack.voxels.shape]
    ranges = [range(c - r, c + r) for c, r in zip((k, j, i), reach, strict=True)]
    return centre, np.array([(a, b, c) for c in ranges[0] for b in ranges[1] for a in ranges[2]])


def test_what_is_drawn_in_the_patient_lands_on_the_tilted_slices(stack: Stack) -> None:
    scene = scenes.new_scene()
    volume = scenes.add_volume(scene, stack.voxels, stack.regular)
    scenes.put_under(volume, grid_transform(scene, stack))
    centre, index = near_the_middle(stack)
    np.testing.assert_allclose(scenes.to_world(volume, index[::97]), stack.true(index[::97]), atol=1e-3)
    radius, fine = 6.0, 0.4
    steps = np.arange(-20, 21) * fine
    z, y, x = np.meshgrid(steps, steps, steps, indexing="ij")
    matrix = np.diag([fine, fine, fine, 1.0])
    matrix[:3, 3] = centre - 20 * fine
    node = scenes.add_segmentation(scene, {"ball": x**2 + y**2 + z**2 <= radius**2}, matrix)
    [mask] = masks_of_segments(node, ["ball"], volume)
    distance = np.linalg.norm(stack.true(index) - centre, axis=1)
    found = mask.cut(tuple(slice(0, n) for n in stack.voxels.shape))[tuple(index[:, ::-1].T)]
    assert found.sum() == mask.values.sum() > 100
    assert found[distance < radius - fine].all() and not found[distance > radius + fine].any()


def test_a_result_of_a_tilted_scan_lies_in_the_patient_voxel_by_voxel(stack: Stack) -> None:
    scene = scenes.new_scene()
    volume = scenes.add_volume(scene, stack.voxels, stack.regular)
    scenes.put_under(volume, grid_transform(scene, stack))
    centre, index = near_the_middle(stack)
    distance = np.linalg.norm(stack.true(index) - centre, axis=1)
    coarse, better = np.zeros((2, *stack.voxels.shape), bool)
    coarse[tuple(index[distance <= 5, ::-1].T)] = True
    better[tuple(index[distance <= 7, ::-1].T)] = True
    given = scenes.add_segmentation(scene, {"ball": coarse}, stack.regular)
    scenes.put_under(given, volume.GetParentTransformNode())
    stages = tuple((Region(box_of(mask), mask[box_of(mask)]),) for mask in (coarse, better))
    segments: tuple[Segment, ...] = segment_records(given, ["ball"])
    session = Session.create(volume, given, Outcome(segments, stages, (), (), {}, (), 2), None, False)
    assert session.result.GetParentTransformNode() is volume.GetParentTransformNode()
    for stage, radius in ((1, 7), (0, 5)):
        session.show_stage(stage)
        seen, sure = scenes.seen_at(session.shown_node, "ball", stack.true(index[::7]))
        assert seen.any()
        np.testing.assert_array_equal(seen[sure], (distance <= radius)[::7][sure])
    change = session.review.changes[0]
    session.jump_to(change.key)
    place = scene.GetFirstNodeByClass("vtkMRMLCrosshairNode").GetCrosshairRAS()
    np.testing.assert_allclose(place, stack.true(np.array([change.centre]))[0], atol=1e-3)
