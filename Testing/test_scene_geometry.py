"""Masks of segments on a volume's own grid, compared in the scene's world with a slow reference."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import scenes
import vtk

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.regions import Region
from NoisyLabelSegSlicer.region_of_interest import inside, region_of_roi
from NoisyLabelSegSlicer.segments import masks_of_segments, segment_ids, segment_records
from NoisyLabelSegSlicer.volumes import grid_of, ijk_to_ras, value_range, voxels_of

SHAPE = (7, 11, 13)  # K, J, I
INDEX = np.array([(i, j, k) for k, j, i in np.ndindex(*SHAPE)])
LYING = {
    "straight": scenes.geometry(),
    "oblique": scenes.geometry(angles=(10, -20, 30)),
    "flipped": scenes.geometry(angles=(5, 0, -8), flip=(-1, -1, 1)),
    "left-handed": scenes.geometry(angles=(-15, 25, 170), flip=(1, 1, -1)),
}
ALL_PARENTS = ("none", "linear", "grid", "both")


@pytest.fixture
def scene() -> Any:
    return scenes.new_scene()


def noise(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> scenes.Array:
    """A mask that no wrong step of one voxel leaves as it is."""
    values = np.random.default_rng(seed).random(shape) < 0.4
    return values


def blob(shape: tuple[int, ...] = SHAPE) -> scenes.Array:
    k, j, i = np.ogrid[tuple(slice(0, n) for n in shape)]
    centre = [(n - 1) / 2 for n in shape]
    return np.asarray(((k - centre[0]) / 2.2) ** 2 + ((j - centre[1]) / 4) ** 2 + ((i - centre[2]) / 3) ** 2 <= 1)


def middle(matrix: scenes.Array) -> scenes.Array:
    return (matrix @ [*((np.array(SHAPE[::-1]) - 1) / 2), 1])[:3]


def whole(region: Region, shape: tuple[int, ...] = SHAPE) -> scenes.Array:
    found = np.zeros(shape, region.values.dtype)
    found[region.box] = region.values
    return found


def assert_as_seen(mask: Region, node: Any, identifier: str, volume: Any) -> None:
    seen, sure = scenes.seen_at(node, identifier, scenes.to_world(volume, INDEX))
    assert sure.mean() > 0.99
    np.testing.assert_array_equal(whole(mask).ravel()[sure], seen[sure])


@pytest.mark.parametrize("lying", LYING)
def test_a_grid_says_where_slicer_has_the_voxels(scene: Any, lying: str) -> None:
    volume = scenes.add_volume(scene, np.zeros(SHAPE, np.int16), LYING[lying])
    grid = grid_of(volume)
    assert grid.size == SHAPE[::-1]
    np.testing.assert_allclose(ijk_to_ras(grid), LYING[lying], atol=1e-12)
    np.testing.assert_allclose(grid.to_physical(INDEX) * (-1, -1, 1), scenes.to_world(volume, INDEX), atol=1e-9)
    scenes.put_under(volume, scenes.add_linear(scene, scenes.shear(middle(LYING[lying]))))
    assert grid_of(volume) == grid, "the parent transform is not part of a volume's own grid"


def test_voxels_are_those_of_the_box_and_the_range_is_the_whole_volumes(scene: Any) -> None:
    array = np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)
    volume = scenes.add_volume(scene, array, LYING["oblique"])
    box = (slice(2, 5), slice(0, 3), slice(12, 13))
    region = voxels_of(volume, box)
    assert region.box == box and region.values.dtype == np.int16
    np.testing.assert_array_equal(region.values, array[box])
    assert value_range(volume) == (array.min(), array.max())


@pytest.mark.parametrize("lying", LYING)
@pytest.mark.parametrize(("of_volume", "of_segmentation"), list(product(ALL_PARENTS, repeat=2)))
def test_a_mask_lies_in_the_world_where_its_segment_does(
    scene: Any, lying: str, of_volume: str, of_segmentation: str
) -> None:
    matrix = LYING[lying]
    parents = scenes.parents(scene, middle(matrix))
    volume = scenes.add_volume(scene, np.zeros(SHAPE, np.int16), matrix)
    node = scenes.add_segmentation(scene, {"blob": blob(), "noise": noise()}, matrix)
    scenes.put_under(volume, parents[of_volume])
    scenes.put_under(node, parents[of_segmentation])
    for identifier, mask in zip(segment_ids(node), masks_of_segments(node, ["blob", "noise"], volume), strict=True):
        assert whole(mask).sum() > 20 and mask.values.dtype == bool
        assert_as_seen(mask, node, identifier, volume)
        assert mask.box == mask.trimmed().box


@pytest.mark.parametrize("parent", ALL_PARENTS)
@pytest.mark.parametrize("same_node", [True, False])
def test_masks_under_equal_transforms_are_copied_to_the_voxel(scene: Any, parent: str, same_node: bool) -> None:
    matrix = LYING["left-handed"]
    volume = scenes.add_volume(scene, np.zeros(SHAPE, np.int16), matrix)
    node = scenes.add_segmentation(scene, {"noise": noise()}, matrix)
    scenes.put_under(volume, scenes.parents(scene, middle(matrix))[parent])
    another = scenes.parents(scene, middle(matrix))[parent]
    scenes.put_under(node, volume.GetParentTransformNode() if same_node else another)
    [mask] = masks_of_segments(node, ["noise"], volume)
    np.testing.assert_array_equal(whole(mask), noise())


def _shifted(lattice_step: tuple[float, float, float]) -> scenes.Array:
    matrix = LYING["oblique"].copy()
    matrix[:3, 3] = (matrix @ (*lattice_step, 1))[:3]
    return matrix


@pytest.mark.parametrize(
    ("shape", "matrix", "start"),
    [
        pytest.param((3, 4, 5), LYING["oblique"], (2, 3, 1), id="smaller than the volume"),
        pytest.param((12, 16, 20), LYING["oblique"], (-3, -2, -4), id="larger than the volume"),
        pytest.param((4, 6, 6), LYING["oblique"], (-3, 8, 5), id="over its border"),
        pytest.param((5, 6, 7), _shifted((-2, 3, 1)), (0, 0, 0), id="with another first voxel"),
        pytest.param((5, 6, 7), _shifted((1.3, -0.2, 0.4)), (3, 3, 1), id="between its voxels"),
        pytest.param((14, 22, 26), scenes.geometry((0.35, 0.45, 1.25), (10, -20, 30)), (0, 0, 0), id="finer"),
        pytest.param(SHAPE, scenes.geometry((0.7, 0.9, 2.5), (12, -18, 35)), (0, 0, 0), id="turned"),
        pytest.param((7, 11, 13), LYING["oblique"] @ np.diag([-1, 1, -1, 1]), (-12, 0, -6), id="with axes reversed"),
    ],
)
def test_a_labelmap_may_lie_on_any_lattice(
    scene: Any, shape: tuple[int, ...], matrix: scenes.Array, start: tuple[int, int, int]
) -> None:
    volume = scenes.add_volume(scene, np.zeros(SHAPE, np.int16), LYING["oblique"])
    node = scenes.add_segmentation(scene, {"noise": scenes.labelmap(noise(shape), matrix, start)}, matrix)
    [mask] = masks_of_segments(node, ["noise"], volume)
    assert whole(mask).sum() > 5
    assert_as_seen(mask, node, "noise", volume)


def test_a_labelmap_beside_the_volume_gives_an_empty_mask(scene: Any) -> None:
    volume = scenes.add_volume(scene, np.zeros(SHAPE, np.int16), LYING["oblique"])
    away = scenes.labelmap(noise((3, 3, 3)), LYING["oblique"], (40, 0, 0))
    turned = scenes.labelmap(noise((3, 3, 3)), scenes.geometry(origin=(900, 0, 0)))
    node = scenes.add_segmentation(scene, {"away": away, "turned": turned}, LYING["oblique"])
    for mask in masks_of_segments(node, ["away", "turned"], volume):
        assert not mask.values.size


@pytest.mark.parametrize("shared", [False, True])
def test_overlapping_shared_empty_and_border_touching_segments_keep_their_own_voxels(scene: Any, shared: bool) -> None:
    border = np.zeros(SHAPE, bool)
    border[0, :, 0] = border[-1, -1] = True
    masks = {"a": noise(), "b": noise(seed=1), "empty": np.zeros(SHAPE, bool), "border": border}
    if shared:
        masks["b"] = masks["b"] & ~masks["a"]
        masks["border"] = masks["border"] & ~masks["a"] & ~masks["b"]
    volume = scenes.add_volume(scene, np.zeros(SHAPE, np.int16), LYING["flipped"])
    node = scenes.add_segmentation(scene, masks, LYING["flipped"])
    if shared:
        node.GetSegmentation().CollapseBinaryLabelmaps(True)
        assert node.GetSegmentation().GetNumberOfLayers() == 1
    for key, mask in zip(masks, masks_of_segments(node, list(masks), volume), strict=True):
        np.testing.assert_array_equal(whole(mask), masks[key], err_msg=key)


def test_a_segment_without_any_voxel_ever_is_empty(scene: Any) -> None:
    volume = scenes.add_volume(scene, np.zeros(SHAPE, np.int16), LYING["straight"])
    node = scenes.add_segmentation(scene, {}, LYING["straight"])
    identifier = node.GetSegmentation().AddEmptySegment("new", "new")
    assert masks_of_segments(node, [identifier], volume)[0].values.size == 0


def ball(centre: scenes.Array, radius: float) -> Any:
    source = vtk.vtkSphereSource()
    source.SetCenter(centre)
    source.SetRadius(radius)
    source.SetThetaResolution(60)
    source.SetPhiResolution(60)
    source.Update()
    return source.GetOutput()


@pytest.mark.parametrize(("of_volume", "of_segmentation"), [("none", "none"), ("linear", "grid"), ("grid", "grid")])
def test_a_closed_surface_is_filled_where_it_lies_and_its_node_stays_as_it_is(
    scene: Any, of_volume: str, of_segmentation: str
) -> None:
    matrix = LYING["left-handed"]
    centre, radius = middle(matrix) + 0.2, 4.3
    parents = scenes.parents(scene, middle(matrix))
    volume = scenes.add_volume(scene, np.zeros(SHAPE, np.int16), matrix)
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "surfaces")
    node.SetSourceRepresentationToClosedSurface()
    node.AddSegmentFromClosedSurfaceRepresentation(ball(centre, radius), "ball", [1, 0, 0], "ball")
    scenes.put_under(volume, parents[of_volume])
    scenes.put_under(node, parents[of_segmentation])
    before = scenes.state(node)
    [mask] = masks_of_segments(node, ["ball"], volume)
    distances = []
    for point in scenes.to_world(volume, INDEX):
        local = [0.0, 0.0, 0.0]
        node.TransformPointFromWorld(point, local)
        distances.append(np.linalg.norm(local - centre))
    distance = np.reshape(distances, SHAPE)
    found = whole(mask)
    assert found.sum() > 50
    assert found[distance < radius - 0.15].all() and not found[distance > radius + 0.15].any()
    assert scenes.state(node) == before
    assert node.GetSegmentation().GetSourceRepresentationName() == "Closed surface"
    assert not node.GetSegmentation().ContainsRepresentation("Binary labelmap")


@pytest.mark.parametrize("of_segmentation", ["none", "grid"])
def test_reading_masks_changes_nothing_in_the_node(scene: Any, of_segmentation: str) -> None:
    matrix = LYING["oblique"]
    volume = scenes.add_volume(scene, np.zeros(SHAPE, np.int16), matrix)
    node = scenes.add_segmentation(scene, {"a": noise(), "b": noise(seed=1)}, matrix)
    node.CreateClosedSurfaceRepresentation()
    scenes.put_under(node, scenes.parents(scene, middle(matrix))[of_segmentation])
    before = scenes.state(node)
    masks_of_segments(node, ["a", "b"], volume)
    segment_records(node, ["a", "b"])
    assert scenes.state(node) == before


def test_records_tell_names_colours_and_codes(scene: Any) -> None:
    node = scenes.add_segmentation(scene, {"Leber «größer»": noise(), "b": noise()}, LYING["straight"])
    code = "Segmentation category and type~SCT^1^Organ~SCT^2^Liver~^^~Anatomic codes~^^~^^"
    node.GetSegmentation().GetSegment("b").SetTag("TerminologyEntry", code)
    second, first = segment_records(node, ["b", "Leber «größer»"])
    assert (first.name, first.id, first.color) == ("Leber «größer»", "Leber «größer»", (0, 0.5, 0.25))
    assert (second.name, second.terminology, second.label, first.label) == ("b", code, 1, 2)


@pytest.mark.parametrize("of_volume", ALL_PARENTS)
@pytest.mark.parametrize("of_roi", ALL_PARENTS)
def test_an_roi_holds_the_voxels_whose_centres_lie_in_it(scene: Any, of_volume: str, of_roi: str) -> None:
    matrix = LYING["left-handed"]
    parents = scenes.parents(scene, middle(matrix))
    volume = scenes.add_volume(scene, np.zeros(SHAPE, np.int16), matrix)
    roi = add_roi(scene, scenes.geometry((1, 1, 1), (20, 35, -50), origin=middle(matrix)), (5.1, 7.3, 9.7))
    scenes.put_under(volume, parents[of_volume])
    scenes.put_under(roi, parents[of_roi])
    planes, expected = vtk.vtkPlanes(), []
    roi.GetPlanes(planes)
    for point in scenes.to_world(volume, INDEX):
        local = [0.0, 0.0, 0.0]
        roi.TransformPointFromWorld(point, local)
        expected.append(planes.EvaluateFunction(local) <= 0)
    held = np.reshape(expected, SHAPE)
    assert 20 < held.sum() < held.size / 2
    np.testing.assert_array_equal(inside(roi, volume, grid_of(volume).whole_box()).values, held)
    found = region_of_roi(roi, volume)
    assert found.box == Region(grid_of(volume).whole_box(), held).trimmed().box
    np.testing.assert_array_equal(found.values, held[found.box])
    part = (slice(2, 6), slice(3, 11), slice(0, 7))
    np.testing.assert_array_equal(inside(roi, volume, part).values, held[part])
    roi.SetInsideOut(True)
    np.testing.assert_array_equal(inside(roi, volume, part).values, ~held[part])


def add_roi(scene: Any, matrix: scenes.Array, size: tuple[float, float, float]) -> Any:
    roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
    roi.SetSize(*size)
    roi.SetAndObserveObjectToNodeMatrix(scenes.vtk_matrix(matrix))
    return roi


@pytest.mark.parametrize(
    ("size", "centre", "sentence"),
    [
        ((5.0, 5.0, 5.0), (500.0, 0.0, 0.0), "'box' lies outside of the volume 'image'"),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), "'box' has no size"),
    ],
)
def test_an_roi_that_holds_no_voxel_is_refused(
    scene: Any, size: tuple[float, float, float], centre: tuple[float, ...], sentence: str
) -> None:
    volume = scenes.add_volume(scene, np.zeros(SHAPE, np.int16), LYING["straight"])
    roi = add_roi(scene, scenes.geometry((1, 1, 1), origin=centre), size)
    with pytest.raises(InputError, match=sentence):
        region_of_roi(roi, volume)


def test_volumes_that_cannot_be_used_are_refused(scene: Any) -> None:
    good = scenes.add_volume(scene, np.zeros(SHAPE, np.int16), LYING["straight"])
    node = scenes.add_segmentation(scene, {"a": noise()}, LYING["straight"])
    empty = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "nothing")
    colour = scenes.add_volume(scene, np.zeros((*SHAPE, 3), np.uint8), LYING["straight"], "colour")
    sheared = scenes.add_volume(scene, np.zeros(SHAPE, np.int16), scenes.shear(np.zeros(3)), "sheared")
    for volume, sentence in (
        (empty, "'nothing' has no voxels"),
        (colour, "'colour' has several values per voxel"),
        (sheared, "'sheared' are not at right angles"),
    ):
        with pytest.raises(InputError, match=sentence):
            grid_of(volume)
        with pytest.raises(InputError, match=sentence):
            masks_of_segments(node, ["a"], volume)
    with pytest.raises(InputError, match="'gone' is no longer in 'coarse'"):
        masks_of_segments(node, ["a", "gone"], good)
    scenes.put_under(node, scenes.add_linear(scene, np.diag([1.0, 0.0, 1.0, 1.0])))
    with pytest.raises(InputError, match="'linear' flattens space"):
        masks_of_segments(node, ["a"], good)
