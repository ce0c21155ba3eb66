"""A scene saved and loaded again: the same result, stages, decisions, maps and provenance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import scenes
import SimpleITK as sitk
from test_scene_session import BETTER, GROWN, LESION, MATRIX, Case, key_of, shown, whole

from NoisyLabelSegLib.segmentations import read_segmentation
from NoisyLabelSegSlicer.maps import region_of_map
from NoisyLabelSegSlicer.session import Session
from NoisyLabelSegSlicer.volumes import grid_of

WAYS = {
    "bundle": (lambda scene, folder: scenes.save_bundle(scene, folder / "scene.mrb"), scenes.load_bundle),
    "files": (lambda scene, folder: scenes.save_files(scene, folder / "scene.mrml"), scenes.load_files),
}
# What breaks tags, XML, NRRD headers or URLs.
NASTY = {"model": {"name": "a:b|c"}, "note": 'Größe <10 mm> & "x"; 50 %7C\\n\n日本'}


def world_of(session: Session, identifier: str = "lesion") -> scenes.Array:
    """Where a segment's voxels are in the scene, in an order that does not depend on how they are stored."""
    masks = session.masks()
    index = np.argwhere(whole(masks[0]))[:, ::-1]
    points = scenes.to_world(session.volume, index)
    return points[np.lexsort(np.round(points, 3).T)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("parent", ["none", "linear", "grid", "both"])
@pytest.mark.parametrize("shared", [False, True])
def test_a_review_goes_on_after_the_scene_was_loaded(tmp_path: Path, way: str, parent: str, shared: bool) -> None:
    folder = tmp_path / "mit Leerzeichen und ä"
    folder.mkdir()
    case = Case(parent, shared)
    session = case.session()
    session.revert([key_of(session, "added", 36)])
    session.tick([key_of(session, "removed", 3)])
    session.show_changes(True)
    save, load = WAYS[way]
    scene = load(save(case.scene, folder))
    restored = Session.restore(scene.GetFirstNodeByName("coarse refined"))
    assert restored is not None
    assert restored.review.to_json() == session.review.to_json() and restored.notes == session.notes
    assert [vars(c) | {"region": 0} for c in restored.review.changes] == [
        vars(c) | {"region": 0} for c in session.review.changes
    ], "with the uncertainty from the saved map"
    now = BETTER & LESION | (BETTER & ~GROWN)
    np.testing.assert_array_equal(whole(session.masks()[0]), now)
    np.testing.assert_allclose(world_of(restored), world_of(session), atol=1e-3)
    assert (restored.names, restored.stages) == (session.names, session.stages)
    keys = [c.key for c in restored.review.changes]
    for step in (
        lambda s: s.accept(keys),
        lambda s: s.use_stage(1),
        lambda s: s.undo(),
        lambda s: s.revert(keys[:1]),
        lambda s: s.show_stage(0),
    ):
        step(session)
        step(restored)
        np.testing.assert_allclose(world_of(restored), world_of(session), atol=1e-3)
    rows = [s.statistics_rows()[0] for s in (session, restored)]
    assert rows[0] == pytest.approx(rows[1])
    session.jump_to(keys[0])
    restored.jump_to(keys[0])
    places = [s.GetFirstNodeByClass("vtkMRMLCrosshairNode").GetCrosshairRAS() for s in (case.scene, scene)]
    np.testing.assert_allclose(places[1], places[0], atol=1e-3)


def test_left_handed_axes_which_slicer_turns_on_loading_do_not_matter(tmp_path: Path) -> None:
    case = Case("linear")
    flipped = MATRIX @ np.diag([1, 1, -1, 1])
    flipped[:3, 3] = (MATRIX @ (0, 0, 8, 1))[:3]
    assert np.linalg.det(flipped[:3, :3]) < 0 < np.linalg.det(MATRIX[:3, :3])
    case.volume.SetIJKToRASMatrix(scenes.vtk_matrix(flipped))
    case.scene.RemoveNode(case.given)
    case.given = scenes.add_segmentation(case.scene, {"lesion": LESION}, flipped)
    scenes.put_under(case.given, case.volume.GetParentTransformNode())
    session = case.session()
    session.revert([key_of(session, "added", 36)])
    scene = scenes.load_bundle(scenes.save_bundle(case.scene, tmp_path / "scene.mrb"))
    restored = Session.restore(
        scene.GetFirstNodeByName("coarse_1 refined") or scene.GetFirstNodeByName("coarse refined")
    )
    assert restored is not None
    assert np.linalg.det(scenes.matrix_of(restored.volume)[:3, :3]) > 0, "Slicer has changed: this test can go"
    assert restored.review.to_json() == session.review.to_json()
    np.testing.assert_allclose(world_of(restored), world_of(session), atol=1e-3)
    change = restored.review.change(key_of(session, "added", 2))
    assert change.uncertainty == session.review.change(change.key).uncertainty
    assert (session.slice_of(change.centre), restored.slice_of(change.centre)) == (8, 2), "of nine slices"
    [values] = (region_of_map(node, grid_of(session.volume)).values for node in restored.maps)
    np.testing.assert_array_equal(values, case.outcome.maps[0].region.values)


def test_the_stages_are_hidden_and_stay_so(tmp_path: Path) -> None:
    case = Case()
    case.session()
    for scene in (case.scene, scenes.load_bundle(scenes.save_bundle(case.scene, tmp_path / "scene.mrb"))):
        node = scene.GetFirstNodeByName("coarse refined stages")
        assert node.GetHideFromEditors() and node.GetSaveWithScene()
        assert not node.GetDisplayNode().GetVisibility()
        assert node.GetStorageNode().GetCropToMinimumExtent(), "a file of the whole volume would be large"


def test_a_review_whose_attribute_is_damaged_begins_anew(tmp_path: Path) -> None:
    case = Case()
    session = case.session()
    session.revert(session.review.listed())
    for text in ("{", "[]", '{"version": 99}'):
        session.result.SetAttribute("NoisyLabelSeg.Review", text)
        restored = Session.restore(session.result)
        assert restored is not None and restored.review.listed("reverted") == []
        assert any("saved review" in note for note in restored.notes)


@pytest.mark.parametrize("way", WAYS)
def test_provenance_is_kept_with_the_node(tmp_path: Path, way: str) -> None:
    case = Case()
    case.outcome = _with_provenance(case.outcome, NASTY)
    assert case.session().provenance == NASTY
    save, load = WAYS[way]
    scene = load(save(case.scene, tmp_path))
    restored = Session.restore(scene.GetFirstNodeByName("coarse refined"))
    assert restored is not None and restored.provenance == NASTY


def test_provenance_is_written_with_the_seg_nrrd(tmp_path: Path) -> None:
    case = Case()
    case.outcome = _with_provenance(case.outcome, NASTY)
    result = case.session().result
    path = tmp_path / "result.seg.nrrd"
    result.AddDefaultStorageNode()
    result.GetStorageNode().SetFileName(str(path))
    assert result.GetStorageNode().WriteData(result)
    image = sitk.ReadImage(str(path))
    ids = {image.GetMetaData(f"Segment{n}_ID"): image.GetMetaData(f"Segment{n}_Tags") for n in range(3)}
    tags = dict(tag.split(":", 1) for tag in ids["lesion"].split("|") if tag)
    assert json.loads(unquote(tags["NoisyLabelSeg.Provenance"])) == NASTY
    assert "NoisyLabelSeg" not in ids["organ"] and "TerminologyEntry" in tags
    [segment] = (s for s in read_segmentation(path).segments if s.id == "lesion")
    assert json.loads(unquote(segment.extra["Tags.NoisyLabelSeg.Provenance"])) == NASTY
    node = case.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "read")
    storage = case.scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(path))
    assert storage.ReadData(node)
    text = scenes.vtk.reference("")
    assert node.GetSegmentation().GetSegment("lesion").GetTag("NoisyLabelSeg.Provenance", text)
    assert json.loads(unquote(str(text))) == NASTY


def _with_provenance(outcome: Any, provenance: dict[str, Any]) -> Any:
    return type(outcome)(**{**vars(outcome), "provenance": provenance})


def test_a_result_can_be_reviewed_on_after_it_was_saved() -> None:
    """Saving lets segments share labelmaps."""
    case = Case()
    session = case.session()
    session.result.GetSegmentation().CollapseBinaryLabelmaps(False)
    assert session.result.GetSegmentation().GetNumberOfLayers() < 3
    others = shown(session, "organ", "cyst")
    for stage, expected in ((0, LESION), (1, GROWN), (2, BETTER)):
        session.show_stage(stage)
        np.testing.assert_array_equal(shown(session)[0], expected)
    session.revert([key_of(session, "added", 36)])
    np.testing.assert_array_equal(shown(session)[0], BETTER & LESION | (BETTER & ~GROWN))
    np.testing.assert_array_equal(shown(session, "organ", "cyst"), others)
