"""A refinement in a scene: the result node, its stages, the review and what it leaves alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import scenes
import slicer

from NoisyLabelSegLib import metrics
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.outcome import Map, Outcome
from NoisyLabelSegLib.regions import Region, box_of
from NoisyLabelSegLib.segmentations import Segment
from NoisyLabelSegSlicer import session as session_of
from NoisyLabelSegSlicer import session_nodes
from NoisyLabelSegSlicer.changes_node import ADDED, REMOVED
from NoisyLabelSegSlicer.segments import masks_of_segments, put_mask, segment_ids, segment_records
from NoisyLabelSegSlicer.session import Session
from NoisyLabelSegSlicer.subject_hierarchy import place_beside
from NoisyLabelSegSlicer.volumes import grid_of

SHAPE = (9, 16, 18)  # K, J, I
MATRIX = scenes.geometry(angles=(10, -20, 30), flip=(1, -1, -1))
CODE = "Segmentation category and type~SCT^1^Organ~SCT^2^Liver~^^~Anatomic codes~^^~^^"


def box(*sides: tuple[int, int]) -> scenes.Array:
    mask = np.zeros(SHAPE, bool)
    mask[tuple(slice(*side) for side in sides)] = True
    return mask


LESION = box((3, 6), (4, 9), (5, 11))
GROWN = LESION | box((3, 6), (9, 11), (5, 11))  # the first stage adds 36 voxels ...
BETTER = (GROWN & ~box((3, 4), (4, 5), (5, 8))) | box((7, 8), (14, 15), (1, 3))  # ... the second takes 3 and adds 2
CYST = box((0, 2), (0, 3), (0, 3))
ORGAN = box((2, 8), (3, 13), (4, 16)) & ~LESION
NEIGHBOUR = box((3, 6), (10, 12), (5, 11))


def region(mask: scenes.Array) -> Region:
    return Region(box_of(mask), mask[box_of(mask)])


def whole(found: Region) -> scenes.Array:
    return found.cut(tuple(slice(0, n) for n in SHAPE))


def outcome(segments: tuple[Segment, ...], *stages: tuple[scenes.Array, ...], maps: tuple[Map, ...] = ()) -> Outcome:
    regions = tuple(tuple(region(mask) for mask in stage) for stage in stages)
    return Outcome(segments, regions, maps, (), {"model": {"name": "tiny"}}, ("Look at it.",), 2)


def probability(identifier: str = "lesion") -> Map:
    values = np.linspace(0, 1, 5 * 10 * 10, dtype=np.float32).reshape(5, 10, 10)
    values.setflags(write=False)  # as those from the worker are
    return Map("probability", identifier, Region((slice(2, 7), slice(3, 13), slice(3, 13)), values), 0.0, 1.0)


class Case:
    """A volume, a given segmentation of three segments of which the lesion is refined, and the outcome."""

    def __init__(self, parent: str = "grid", shared: bool = False, surfaces: bool = False) -> None:
        self.scene = scenes.new_scene()
        array = np.random.default_rng(0).integers(0, 100, SHAPE).astype(np.int16)
        self.volume = scenes.add_volume(self.scene, array, MATRIX)
        masks = {"organ": ORGAN, "lesion": LESION, "cyst": CYST}
        self.given = scenes.add_segmentation(self.scene, masks, MATRIX)
        self.given.GetSegmentation().GetSegment("lesion").SetTag("TerminologyEntry", CODE)
        self.given.GetSegmentation().GetSegment("organ").SetTag("Segmentation.Status", "completed")
        if shared:
            self.given.GetSegmentation().CollapseBinaryLabelmaps(True)
        if surfaces:
            self.given.CreateClosedSurfaceRepresentation()
        centre = (MATRIX @ (9, 8, 4, 1))[:3]
        parent_node = scenes.parents(self.scene, centre)[parent]
        scenes.put_under(self.volume, parent_node)
        scenes.put_under(self.given, parent_node)
        segments = segment_records(self.given, ["lesion"])
        self.outcome = outcome(segments, (LESION,), (GROWN,), (BETTER,), maps=(probability(),))

    def session(self, **arguments: Any) -> Session:
        return Session.create(
            self.volume, self.given, self.outcome, arguments.get("roi"), arguments.get("keep_others", False)
        )


@pytest.fixture
def case() -> Case:
    return Case()


def shown(session: Session, *ids: str) -> list[scenes.Array]:
    ids = ids or ("lesion",)
    node = session.shown_node if set(ids) <= set(segment_ids(session.shown_node)) else session.result
    return [whole(mask) for mask in masks_of_segments(node, ids, session.volume)]


def key_of(session: Session, kind: str, voxels: int) -> str:
    [found] = [c.key for c in session.review.changes if (c.kind, c.voxels) == (kind, voxels)]
    return found


def nodes(scene: Any) -> set[str]:
    return {scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())}


@contextmanager
def events(node: Any) -> Iterator[list[str]]:
    """What a person watching a segmentation node is told."""
    names = ("SourceRepresentationModified", "RepresentationModified", "SegmentModified")
    heard: list[str] = []
    tags = [
        node.AddObserver(getattr(slicer.vtkSegmentation, name), lambda *_, name=name: heard.append(name))
        for name in names
    ]
    yield heard
    for tag in tags:
        node.RemoveObserver(tag)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("parent", ["none", "linear", "grid", "both"])
def test_the_result_has_all_segments_as_they_were_but_for_the_refined(parent: str, shared: bool) -> None:
    case = Case(parent, shared)
    before = scenes.state(case.given)
    session = case.session()
    assert scenes.state(case.given) == before
    result = session.result
    assert result.GetName() == "coarse refined" and session.names == ["lesion"]
    assert segment_ids(result) == ["organ", "lesion", "cyst"]
    for found, expected in zip(shown(session, "organ", "lesion", "cyst"), (ORGAN, BETTER, CYST), strict=True):
        np.testing.assert_array_equal(found, expected)
    for old, new in zip(*(segment_records(n, ["organ", "lesion", "cyst"]) for n in (case.given, result)), strict=True):
        assert (old.name, old.color, old.terminology) == (new.name, new.color, new.terminology)
    status = slicer.vtkSegment()
    status.DeepCopyMetadata(result.GetSegmentation().GetSegment("organ"))
    assert status.HasTag("Segmentation.Status")


@pytest.mark.parametrize("parent", ["none", "linear", "grid", "both"])
def test_the_result_lies_on_the_volumes_own_grid_under_its_transform(parent: str) -> None:
    case = Case(parent)
    result = case.session().result
    assert result.GetParentTransformNode() is case.volume.GetParentTransformNode()
    assert result.GetNodeReferenceID("referenceImageGeometryRef") == case.volume.GetID()
    assert_on_grid(result, ["organ", "lesion", "cyst"])
    index = np.argwhere(BETTER)[:, ::-1]
    world = scenes.to_world(case.volume, index)
    assert scenes.seen_at(result, "lesion", world)[0].all()


def assert_on_grid(node: Any, ids: list[str]) -> None:
    matrix = scenes.vtk_matrix(np.eye(4))
    for identifier in ids:
        image = node.GetSegmentation().GetSegment(identifier).GetRepresentation("Binary labelmap")
        image.GetImageToWorldMatrix(matrix)
        np.testing.assert_allclose(slicer.util.arrayFromVTKMatrix(matrix), MATRIX, atol=1e-9)


@pytest.mark.parametrize("parent", ["linear", "grid"])
def test_segments_of_another_lattice_and_transform_come_to_the_volumes(parent: str) -> None:
    case = Case("none")
    scenes.put_under(case.given, scenes.parents(case.scene, (MATRIX @ (9, 8, 4, 1))[:3])[parent])
    before = scenes.state(case.given)
    result = case.session().result
    assert scenes.state(case.given) == before
    assert_on_grid(result, ["organ", "lesion", "cyst"])
    index = np.array([(i, j, k) for k, j, i in np.ndindex(*SHAPE)])
    world = scenes.to_world(case.volume, index)
    seen, sure = scenes.seen_at(case.given, "organ", world)
    np.testing.assert_array_equal(scenes.seen_at(result, "organ", world)[0][sure], seen[sure])
    assert seen.sum() > 200


def test_segments_that_shared_a_labelmap_share_one_in_the_result() -> None:
    case = Case(shared=True)
    segmentation = case.session().result.GetSegmentation()
    assert segmentation.GetNumberOfLayers() == 2
    assert segmentation.GetLayerIndex("organ") == segmentation.GetLayerIndex("cyst")


def test_display_and_place_among_the_studies_are_those_of_the_given_segmentation() -> None:
    case = Case()
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(case.scene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "study")
    hierarchy.CreateItem(study, case.given)
    folder = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "images")
    hierarchy.CreateItem(folder, case.volume)
    display = case.given.GetDisplayNode()
    display.SetOpacity2DFill(0.31)
    display.SetSegmentVisibility("cyst", False)
    display.SetSegmentVisibility("lesion", False)
    display.SetVisibility(False)
    session = case.session()
    shown_by = session.result.GetDisplayNode()
    assert shown_by is not display and shown_by.GetOpacity2DFill() == 0.31
    assert shown_by.GetVisibility() and shown_by.GetSegmentVisibility("lesion"), "a result is there to be seen"
    assert not shown_by.GetSegmentVisibility("cyst")
    for node in (session.result, *session.maps):
        item = hierarchy.GetItemByDataNode(node)
        expected = (
            study if node is session.result else hierarchy.GetItemParent(hierarchy.GetItemByDataNode(case.volume))
        )
        assert hierarchy.GetItemParent(item) == (expected or hierarchy.GetSceneItemID())


def test_a_node_that_has_a_place_already_is_moved_beside_the_other_one() -> None:
    case = Case()
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(case.scene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "study")
    hierarchy.CreateItem(study, case.given)
    item = hierarchy.CreateItem(hierarchy.GetSceneItemID(), case.volume)
    place_beside(case.volume, case.given)
    assert hierarchy.GetItemParent(item) == study and hierarchy.GetItemByDataNode(case.volume) == item


def test_closed_surfaces_that_are_not_refined_are_in_the_result_too() -> None:
    case = Case()
    case.given.CreateClosedSurfaceRepresentation()
    case.given.SetSourceRepresentationToClosedSurface()
    case.given.RemoveBinaryLabelmapRepresentation()
    case.given.GetSegmentation().GetSegment("organ").SetLabelValue(5)
    before = scenes.state(case.given)
    session = case.session()
    assert scenes.state(case.given) == before
    organ, lesion = shown(session, "organ", "lesion")
    np.testing.assert_array_equal(lesion, BETTER)
    assert metrics.dice(organ, ORGAN) > 0.75, "the surface is smooth"
    assert session.result.GetSegmentation().GetSourceRepresentationName() == "Binary labelmap"


def test_a_second_result_gets_a_name_of_its_own(case: Case) -> None:
    assert case.session().result.GetName() != case.session().result.GetName()


def test_a_result_from_nothing_stands_beside_the_volume() -> None:
    case = Case()
    segments = (Segment("nodule", 1, 0, (1, 0.5, 0), "Segment_1", CODE),)
    nothing = np.zeros(SHAPE, bool)
    session = Session.create(case.volume, None, outcome(segments, (nothing,), (LESION,)), None, True)
    assert session.result.GetName() == "image segmentation"
    [record] = segment_records(session.result, segment_ids(session.result))
    assert (record.name, record.color, record.terminology) == ("nodule", (1, 0.5, 0), CODE)
    [row] = session.statistics_rows()
    assert row["dice"] is None and row["hd95_mm"] is None and row["volume_before_mm3"] == 0
    session.show_stage(0)
    assert not shown(session, "Segment_1")[0].any()


@pytest.mark.parametrize("surfaces", [False, True])
def test_a_stage_is_shown_and_the_result_comes_back(surfaces: bool) -> None:
    case = Case(surfaces=surfaces)
    session = case.session()
    others = {i: session.result.GetSegmentation().GetSegment(i) for i in ("organ", "cyst")}
    kinds = ("Binary labelmap", "Closed surface")
    before = {i: [s.GetRepresentation(kind) for kind in kinds] for i, s in others.items()}
    assert (session.stages, session.shown) == (2, 2)
    for _ in range(2):
        for stage, expected in ((0, LESION), (1, GROWN), (2, BETTER)):
            session.show_stage(stage)
            assert session.shown == stage
            np.testing.assert_array_equal(shown(session)[0], expected)
            np.testing.assert_array_equal(whole(session.masks()[0]), BETTER)
            surface = session.shown_node.GetSegmentation().GetSegment("lesion").GetRepresentation("Closed surface")
            assert (surface is not None) == surfaces
            if surfaces:
                np.testing.assert_allclose(points_of(surface), slicers_own_surface(expected), atol=1e-3)
    for i, segment in others.items():
        assert before[i] == [segment.GetRepresentation(kind) for kind in kinds]


def slicers_own_surface(mask: scenes.Array) -> scenes.Array:
    """The points (N, 3) of the surface that Slicer makes of a mask."""
    node = scenes.add_segmentation(scenes.new_scene(), {"a": mask}, MATRIX)
    node.CreateClosedSurfaceRepresentation()
    return points_of(node.GetClosedSurfaceInternalRepresentation("a"))


def points_of(surface: Any) -> scenes.Array:
    return scenes.vtk_to_numpy(surface.GetPoints().GetData()).copy()


def test_everybody_is_told_once_of_a_new_stage() -> None:
    session = Case(surfaces=True).session()
    session.show_stage(0)
    with events(session.result) as untouched, events(session.shown_node) as heard:
        session.show_stage(1)
    assert untouched == []
    assert sorted(heard) == ["RepresentationModified", "SegmentModified", "SourceRepresentationModified"]
    with events(session.result) as heard:
        session.tick(session.review.listed())
    assert heard == []
    with events(session.result) as heard:
        put_mask(session.result, "cyst", region(LESION), grid_of(session.volume))
    assert sorted(heard) == ["RepresentationModified", "SegmentModified", "SourceRepresentationModified"]


def test_a_mask_is_put_as_a_labelmap_of_its_box_alone(case: Case) -> None:
    node = case.given
    put_mask(node, "lesion", region(CYST), grid_of(case.volume))
    image = node.GetSegmentation().GetSegment("lesion").GetRepresentation("Binary labelmap")
    assert image.GetExtent() == (0, 2, 0, 2, 0, 1)
    put_mask(node, "lesion", region(np.zeros(SHAPE, bool)), grid_of(case.volume))
    assert masks_of_segments(node, ["lesion"], case.volume)[0].values.size == 0


def test_a_new_mask_leaves_no_voxel_in_a_labelmap_that_was_shared() -> None:
    case = Case(shared=True)
    node = case.given
    put_mask(node, "lesion", region(BETTER), grid_of(case.volume))
    for identifier, mask in (("organ", ORGAN), ("lesion", BETTER), ("cyst", CYST)):
        found = masks_of_segments(node, [identifier], case.volume)[0]
        np.testing.assert_array_equal(whole(found), mask)
    image = node.GetSegmentation().GetSegment("organ").GetRepresentation("Binary labelmap")
    labels = set(np.unique(scenes.vtk_to_numpy(image.GetPointData().GetScalars())))
    assert labels == {0} | {node.GetSegmentation().GetSegment(i).GetLabelValue() for i in ("organ", "cyst")}


@pytest.mark.parametrize("parent", ["none", "grid"])
def test_the_review_changes_the_result_and_undo_brings_it_back(parent: str) -> None:
    session = Case(parent).session()
    added, far, removed = (key_of(session, *k) for k in (("added", 36), ("added", 2), ("removed", 3)))
    steps = [
        (lambda: session.revert([added]), BETTER & LESION | (BETTER & ~GROWN)),
        (lambda: session.revert([removed]), LESION | (BETTER & ~GROWN)),
        (lambda: session.accept([added]), (GROWN | BETTER)),
        (lambda: session.revert([added, far]), LESION),
        (lambda: session.use_stage(1), LESION),
        (lambda: session.accept(session.review.listed()), GROWN),
    ]
    seen = [shown(session)[0]]
    for step, expected in steps:
        step()
        seen.append(shown(session)[0])
        np.testing.assert_array_equal(seen[-1], expected)
        np.testing.assert_array_equal(seen[-1], whole(session.review.masks()[0]))
    for expected in seen[-2::-1]:
        session.undo()
        np.testing.assert_array_equal(shown(session)[0], expected)
    for expected in seen[1:]:
        session.redo()
        np.testing.assert_array_equal(shown(session)[0], expected)


def test_what_a_person_draws_by_hand_survives_the_review_and_a_look_at_stages(case: Case) -> None:
    session = case.session()
    drawn = box((8, 9), (0, 2), (16, 18))
    put_mask(session.result, "lesion", region(BETTER | drawn), grid_of(case.volume))
    session.show_stage(1)
    np.testing.assert_array_equal(whole(session.masks()[0]), BETTER | drawn)
    session.revert([key_of(session, "removed", 3)])
    np.testing.assert_array_equal(shown(session)[0], BETTER | drawn | LESION)
    session.undo()
    np.testing.assert_array_equal(shown(session)[0], BETTER | drawn)
    assert session.statistics_rows()[0]["volume_after_mm3"] == pytest.approx(
        (BETTER | drawn).sum() * grid_of(case.volume).voxel_mm3
    )


def test_a_voxel_erased_by_hand_is_still_erased_after_a_revert_and_an_undo(case: Case) -> None:
    session = case.session()
    grown = BETTER & ~GROWN & ~LESION
    erased = np.zeros(SHAPE, bool)
    erased[tuple(np.argwhere(grown)[0])] = True
    put_mask(session.result, "lesion", region(BETTER & ~erased), grid_of(case.volume))
    seen = []
    for _ in range(2):
        session.revert(session.review.listed())
        np.testing.assert_array_equal(shown(session)[0], LESION)
        session.undo()
        seen.append(shown(session)[0])
    np.testing.assert_array_equal(seen, 2 * [BETTER & ~erased])
    session.redo()
    np.testing.assert_array_equal(shown(session)[0], LESION)


def test_another_stage_takes_nothing_from_what_was_drawn_by_hand_elsewhere(case: Case) -> None:
    session = case.session()
    drawn = box((8, 9), (0, 2), (16, 18))
    put_mask(session.result, "lesion", region(BETTER | drawn), grid_of(case.volume))
    session.use_stage(1)
    np.testing.assert_array_equal(shown(session)[0], GROWN | drawn)
    put_mask(session.result, "lesion", region(GROWN), grid_of(case.volume))
    session.undo()
    np.testing.assert_array_equal(shown(session)[0], BETTER)


def test_the_result_is_the_result_whatever_stage_is_looked_at(case: Case) -> None:
    session = case.session()
    before = scenes.state(session.result)
    before.pop("time")
    session.show_stage(0)
    during = scenes.state(session.result)
    during.pop("time")
    assert during == before
    look, display = session.shown_node, session.result.GetDisplayNode()
    assert look is not session.result and look.GetHideFromEditors() and not look.GetSaveWithScene()
    assert look.GetDisplayVisibility() and not display.GetSegmentVisibility("lesion")
    assert display.GetSegmentVisibility("organ")
    again = Session.restore(session.result)  # as after the scene was saved and loaded
    assert again is not None and display.GetSegmentVisibility("lesion")


def test_a_volume_that_moved_since_is_noticed(case: Case) -> None:
    session = case.session()
    matrix = MATRIX.copy()
    matrix[:3, 3] += (7, 0, 0)
    case.volume.SetIJKToRASMatrix(scenes.vtk_matrix(matrix))
    state, masks = session.review.state, scenes.state(session.result)
    for step in (lambda: session.show_stage(0), lambda: session.revert(session.review.listed()), session.undo):
        with pytest.raises(InputError, match="'image' was moved, cropped or its transform hardened"):
            step()
    assert session.review.state == state and scenes.state(session.result) == masks
    assert Session.restore(session.result) is None


def test_a_volume_that_moved_while_the_model_was_at_work_gets_no_result(case: Case) -> None:
    asked, before = grid_of(case.volume), nodes(case.scene)
    case.volume.SetOrigin(20, 0, 0)
    with pytest.raises(InputError, match="while the model was at work"):
        Session.create(case.volume, case.given, case.outcome, None, False, asked)
    assert nodes(case.scene) == before


def test_a_refined_segment_that_is_gone_from_the_result_is_named(case: Case) -> None:
    session = case.session()
    session.result.GetSegmentation().RemoveSegment("lesion")
    state = session.review.state
    for step in (lambda: session.show_stage(0), lambda: session.revert(session.review.listed())):
        with pytest.raises(InputError, match="'lesion' was removed from 'coarse refined'"):
            step()
    assert session.review.state == state and session.names == ["lesion"]


@pytest.mark.parametrize("facts", ["", "{", "[]", "{}", '{"grid": 3, "slice_axis": 2, "notes": []}'])
def test_damaged_facts_make_a_result_an_ordinary_segmentation(case: Case, facts: str) -> None:
    result = case.session().result
    result.SetAttribute("NoisyLabelSeg.Session", facts)
    assert Session.restore(result) is None


def test_a_copy_of_a_result_has_changes_of_its_own(case: Case) -> None:
    session = case.session()
    session.show_changes(True)
    copy = case.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "copy")
    copy.Copy(session.result)
    copy.SetName("copy")
    other = Session.restore(copy)
    assert other is not None
    other.show_changes(True)
    assert case.scene.GetFirstNodeByName("copy changes") is not None


def test_a_look_at_a_stage_lasts_while_changes_are_ticked(case: Case) -> None:
    session = case.session()
    session.show_stage(0)
    session.tick(session.review.listed())
    session.accept(session.review.listed())
    np.testing.assert_array_equal(shown(session)[0], LESION)
    session.revert(session.review.listed()[:1])
    assert session.shown == 2


def test_changes_are_shown_in_colour_and_follow_stages_and_decisions(case: Case) -> None:
    session = case.session()
    session.show_changes(False)
    assert case.scene.GetFirstNodeByName("coarse refined changes") is None
    session.show_changes(True)
    node = case.scene.GetFirstNodeByName("coarse refined changes")
    assert node.GetParentTransformNode() is case.volume.GetParentTransformNode()

    def overlay() -> list[scenes.Array]:
        return [whole(mask) for mask in masks_of_segments(node, [ADDED, REMOVED], case.volume)]

    np.testing.assert_array_equal(overlay(), [BETTER & ~LESION, LESION & ~BETTER])
    session.revert([key_of(session, "added", 36)])
    np.testing.assert_array_equal(overlay(), [BETTER & ~GROWN, LESION & ~BETTER])
    session.show_stage(1)
    np.testing.assert_array_equal(overlay(), [GROWN & ~LESION, np.zeros(SHAPE, bool)])
    session.show_stage(0)
    assert not np.any(overlay())
    session.show_changes(False)
    assert not node.GetDisplayNode().GetVisibility()
    session.show_stage(2)
    session.show_changes(True)
    assert node.GetDisplayNode().GetVisibility() and case.scene.GetFirstNodeByName("coarse refined changes_1") is None
    np.testing.assert_array_equal(overlay(), [BETTER & ~GROWN, LESION & ~BETTER])


def test_added_and_removed_differ_in_more_than_their_hue(case: Case) -> None:
    session = case.session()
    session.show_changes(True)
    node = case.scene.GetFirstNodeByName("coarse refined changes")
    display = node.GetDisplayNode()
    assert [display.GetSegmentVisibility2DFill(i) for i in (ADDED, REMOVED)] == [True, False]
    luminance = [
        np.dot((0.2126, 0.7152, 0.0722), np.power(node.GetSegmentation().GetSegment(i).GetColor(), 2.2))
        for i in (ADDED, REMOVED)
    ]
    assert abs(luminance[0] - luminance[1]) > 0.05


def test_no_refined_segment_grows_into_another_one_that_is_kept() -> None:
    case = Case()
    case.given = scenes.add_segmentation(case.scene, {"lesion": LESION, "next": NEIGHBOUR}, MATRIX)
    scenes.put_under(case.given, case.volume.GetParentTransformNode())
    free, kept = case.session(), case.session(keep_others=True)
    np.testing.assert_array_equal(shown(free)[0], BETTER)
    np.testing.assert_array_equal(shown(kept)[0], BETTER & ~NEIGHBOUR)
    kept.show_stage(1)
    np.testing.assert_array_equal(shown(kept)[0], GROWN & ~NEIGHBOUR)
    np.testing.assert_array_equal(shown(kept, "next")[0], NEIGHBOUR)


def test_nothing_changes_outside_of_the_roi(case: Case) -> None:
    roi = case.scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
    matrix = MATRIX.copy()
    matrix[:3, :3] /= np.linalg.norm(MATRIX[:3, :3], axis=0)
    matrix[:3, 3] = (MATRIX @ (8, 8, 4, 1))[:3]
    roi.SetAndObserveObjectToNodeMatrix(scenes.vtk_matrix(matrix))
    roi.SetSize(0.7 * 30, 0.9 * 5, 2.5 * 30)  # J from 6 to 10
    scenes.put_under(roi, case.volume.GetParentTransformNode())
    session = case.session(roi=roi)
    allowed = box((0, 9), (6, 11), (0, 18))
    np.testing.assert_array_equal(shown(session)[0], np.where(allowed, BETTER, LESION))


@pytest.mark.parametrize("where", ["add_result", "add_stages", "add_map", "write_provenance", "Review"])
def test_a_failure_leaves_the_scene_as_it_was(case: Case, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    before, given = nodes(case.scene), scenes.state(case.given)
    module = session_of if where == "Review" else session_nodes
    real = getattr(module, where)

    def fail(*arguments: Any, **more: Any) -> None:
        real(*arguments, **more)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, where, fail)
    with pytest.raises(KeyboardInterrupt):
        case.session()
    assert nodes(case.scene) == before and scenes.state(case.given) == given


@pytest.mark.parametrize("which", ["volume", "given"])
def test_nodes_that_left_the_scene_meanwhile_are_named(case: Case, which: str) -> None:
    node = getattr(case, which)
    case.scene.RemoveNode(node)
    before = nodes(case.scene)
    with pytest.raises(InputError, match=f"'{node.GetName()}' is no longer in the scene"):
        case.session()
    assert nodes(case.scene) == before


def test_a_refined_segment_that_was_removed_meanwhile_is_in_the_result(case: Case) -> None:
    case.given.GetSegmentation().RemoveSegment("lesion")
    session = case.session()
    assert segment_ids(session.result) == ["organ", "cyst", "lesion"]
    np.testing.assert_array_equal(shown(session)[0], BETTER)


def test_statistics_are_about_the_result_as_it_is_now(case: Case) -> None:
    session = case.session()
    session.revert([key_of(session, "added", 36)])
    now = BETTER & LESION | (BETTER & ~GROWN)
    grid = grid_of(case.volume)
    [row] = session.statistics_rows()
    assert row["volume_before_mm3"] == pytest.approx(LESION.sum() * grid.voxel_mm3)
    assert row["volume_after_mm3"] == pytest.approx(now.sum() * grid.voxel_mm3)
    assert row["dice"] == metrics.dice(now, LESION)
    assert row["hd95_mm"] == pytest.approx(metrics.hd95(now, LESION, grid.spacing[::-1]))
    session.undo()
    assert session.statistics_rows()[0]["dice"] == metrics.dice(BETTER, LESION)


@pytest.mark.parametrize("parent", ["none", "linear", "grid", "both"])
def test_a_jump_leads_to_the_change_in_the_world(parent: str) -> None:
    case = Case(parent)
    view = case.scene.AddNode(slicer.vtkMRMLSliceNode())
    session = case.session()
    change = session.review.change(key_of(session, "added", 2))
    session.jump_to(change.key)
    [expected] = scenes.to_world(case.volume, np.array([change.centre]))
    crosshair = case.scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    np.testing.assert_allclose(crosshair.GetCrosshairRAS(), expected, atol=1e-6)
    matrix = view.GetSliceToRAS()
    np.testing.assert_allclose([matrix.GetElement(row, 3) for row in range(3)], expected, atol=1e-6)
    assert session.slice_of(change.centre) == 8


def test_the_review_is_written_as_a_table_with_places_of_the_world(case: Case, tmp_path: Any) -> None:
    session = case.session()
    session.accept([key_of(session, "added", 36)])
    session.save_csv(tmp_path / "review.csv")
    lines = (tmp_path / "review.csv").read_text().splitlines()
    assert len(lines) == 4 and "lesion,added" in lines[1] and ",accepted,yes" in lines[1]
    change = session.review.changes[0]
    assert change.uncertainty is not None, "from the probability map"
    [world] = scenes.to_world(case.volume, np.array([change.centre]))
    assert [float(v) for v in lines[1].split(",")[3:6]] == pytest.approx(world, abs=0.006)


def test_another_segmentation_has_no_session(case: Case) -> None:
    assert Session.restore(case.given) is None
    session = case.session()
    found = Session.restore(session.result)
    assert found is not None and found.review.listed() == session.review.listed()
    case.scene.RemoveNode(case.scene.GetFirstNodeByName("coarse refined stages"))
    assert Session.restore(session.result) is None
