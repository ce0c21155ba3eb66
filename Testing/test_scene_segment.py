"""A segmentation from the image alone in a scene: what is asked, within which ROI, and how the found is reviewed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scenes
import SimpleITK as sitk
import vtk
from conftest import MakeModel
from test_scene_geometry import ALL_PARENTS, INDEX, LYING, SHAPE, add_roi, middle, noise, whole
from test_segmenting import Bright, of_kind
from test_worker import WORKER
from tiny_models import write_uncertainty_model

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.inference.model import Model, load_model
from NoisyLabelSegLib.inference.preprocessing import Preprocessing, needed_box
from NoisyLabelSegLib.outcome import Outcome
from NoisyLabelSegLib.pipeline import segment
from NoisyLabelSegLib.progress import silent
from NoisyLabelSegLib.segmentations import Segment, Segmentation
from NoisyLabelSegLib.worker.kinds import KINDS
from NoisyLabelSegLib.worker.messages import Request, outcome_message, read_outcome, read_request, request_message
from NoisyLabelSegSlicer.client import Worker
from NoisyLabelSegSlicer.maps import region_of_map
from NoisyLabelSegSlicer.request import REGION, make_request
from NoisyLabelSegSlicer.session import Session
from NoisyLabelSegSlicer.volumes import view_of

WINDOW = {"rule": "window", "low": 0.0, "high": 1.0}
NARROW = {"dimensions": 3, "window": [2] * 3, "margin": 1, "spacing": [], "multiple": 1, "intensity": WINDOW}
PLAIN = {**NARROW, "window": [8, 16, 16], "margin": 4}


def described(preprocessing: Any, kind: str = "segment", name: str = "finder") -> dict[str, Any]:
    """What a request needs to know of a model."""
    return {"kind": kind, "name": name, "preprocessing": preprocessing}


def ask(volume: Any, roi: Any | None, preprocessing: Any = NARROW, name: str = "finder") -> Request:
    return make_request(volume, None, [], roi, described(preprocessing, name=name), "cpu", None)


def compute(wanted: Request, model: Model) -> Outcome:
    """What the worker does, without a process: through its messages and back."""
    header, blocks = request_message(wanted)
    request = read_request(json.loads(json.dumps(header)), blocks)
    header, blocks = outcome_message(KINDS[request.kind](request, model, silent))
    return read_outcome(json.loads(json.dumps(header)), blocks, wanted.grid, wanted.kept)


# What is asked


def in_roi(roi: Any, volume: Any, index: scenes.Array) -> scenes.Array:
    """Which voxels (N, 3) in the order I, J, K lie in a ROI: the slow reference, by Slicer's own planes."""
    planes, found = vtk.vtkPlanes(), []
    roi.GetPlanes(planes)
    for point in scenes.to_world(volume, index):
        local = [0.0, 0.0, 0.0]
        roi.TransformPointFromWorld(point, local)
        found.append(planes.EvaluateFunction(local) <= 0)
    return np.array(found)


STRAIGHT, TILTED = (0, 0, 0), (20, 35, -50)


@pytest.mark.parametrize(
    ("of_volume", "of_roi", "angles", "aside"),
    [
        *((parent, parent, STRAIGHT, (0, 0, 0)) for parent in ALL_PARENTS),
        *((parent, "none", TILTED, (0, 0, 0)) for parent in ALL_PARENTS),
        *(("none", parent, TILTED, (0, 0, 0)) for parent in ALL_PARENTS[1:]),
        ("none", "none", STRAIGHT, (4.5, 0, 0)),
        ("linear", "grid", TILTED, (1, 2, 3)),
    ],
)
def test_a_roi_is_the_region_of_interest_and_nothing_else_is_sent(
    of_volume: str, of_roi: str, angles: tuple[float, ...], aside: tuple[float, ...]
) -> None:
    scene, matrix = scenes.new_scene(), LYING["left-handed"]
    parents = scenes.parents(scene, middle(matrix))
    array = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    volume = scenes.add_volume(scene, array, matrix)
    roi = add_roi(scene, scenes.geometry((1, 1, 1), angles, origin=middle(matrix) + aside), (3.1, 3.5, 6.1))
    scenes.put_under(volume, parents[of_volume])
    scenes.put_under(roi, parents[of_roi])
    wanted = ask(volume, roi)
    expected = in_roi(roi, volume, INDEX).reshape(SHAPE)
    assert 10 < expected.sum() < expected.size / 4
    [mask] = wanted.masks
    np.testing.assert_array_equal(whole(mask), expected)
    assert wanted.segments == (REGION,) and wanted.kept == ()
    assert wanted.voxels.box == needed_box(wanted.grid, [mask.box], Preprocessing.from_json(NARROW))
    np.testing.assert_array_equal(wanted.voxels.values, array[wanted.voxels.box])
    assert wanted.voxels.values.size < array.size * 0.8
    assert wanted.value_range == (array.min(), array.max())


def test_without_a_roi_the_whole_volume_is_sent_without_a_copy() -> None:
    volume = scenes.add_volume(scenes.new_scene(), np.zeros(SHAPE, np.int16), LYING["oblique"])
    wanted = ask(volume, None)
    assert wanted.masks == wanted.segments == () and wanted.voxels.values.shape == SHAPE
    assert not wanted.voxels.values.flags.owndata


def test_all_but_the_inside_of_a_roi_can_be_meant() -> None:
    scene, matrix = scenes.new_scene(), LYING["straight"]
    volume = scenes.add_volume(scene, np.zeros(SHAPE, np.int16), matrix)
    roi = add_roi(scene, scenes.geometry((1, 1, 1), origin=middle(matrix)), (3.1, 3.5, 6.1))
    held = in_roi(roi, volume, INDEX).reshape(SHAPE)
    roi.SetInsideOut(True)
    np.testing.assert_array_equal(whole(ask(volume, roi).masks[0]), ~held)


@pytest.mark.parametrize(
    ("size", "aside", "said"), [((5, 5, 5), (300, 0, 0), "lies outside of the volume"), ((0, 0, 0), (0, 0, 0), "size")]
)
def test_a_roi_that_holds_no_voxel_is_refused(size: Any, aside: tuple[float, ...], said: str) -> None:
    scene, matrix = scenes.new_scene(), LYING["straight"]
    volume = scenes.add_volume(scene, np.zeros(SHAPE, np.int16), matrix)
    roi = add_roi(scene, scenes.geometry((1, 1, 1), origin=middle(matrix) + aside), size)
    with pytest.raises(InputError, match=said):
        ask(volume, roi)


@pytest.mark.parametrize("kind", ["refine", "uncertainty"])
def test_of_other_models_a_roi_limits_the_result_alone(kind: str) -> None:
    scene, matrix = scenes.new_scene(), LYING["straight"]
    volume = scenes.add_volume(scene, np.zeros(SHAPE, np.int16), matrix)
    given = scenes.add_segmentation(scene, {"a": noise()}, matrix)
    roi = add_roi(scene, scenes.geometry((1, 1, 1), origin=middle(matrix)), (3.1, 3.5, 6.1))
    wanted = [make_request(volume, given, ["a"], node, described(NARROW, kind), "cpu", None) for node in (None, roi)]
    for one in wanted:
        assert [segment.id for segment in one.segments] == ["a"] and one.kept == one.segments
        np.testing.assert_array_equal(whole(one.masks[0]), noise())
        assert one.voxels.box == wanted[0].voxels.box


# What is found

SIZE = (18, 44, 52)  # K, J, I
MATRIX = scenes.geometry((0.7, 0.7, 2.0), angles=(10, -20, 30))


def ball(k: int, j: int, i: int, radius: float) -> scenes.Array:
    z, y, x = np.ogrid[tuple(slice(n) for n in SIZE)]
    return np.asarray((2 * (z - k)) ** 2 + (y - j) ** 2 + (x - i) ** 2 <= radius**2)


SURE, DOUBTFUL, SPECK = ball(9, 22, 14, 8), ball(10, 20, 38, 6), ball(3, 38, 46, 1)
SCAN = np.where(SURE, 1.0, np.where(DOUBTFUL, 0.53, np.where(SPECK, 0.9, 0.1))).astype(np.float32)
"""A bright nodule, a smaller one that is dimmer, and a speck."""

Run = Callable[..., Session]


@pytest.fixture
def run(make_model: MakeModel) -> Run:
    """``run(scan, roi)``: what a model finds that takes what is brighter than half, if it has some volume."""
    plain = make_model(Bright(), Preprocessing.from_json(PLAIN))
    model = of_kind(plain, "segment", "weak_to_strong", smallest_mm3=10.0)

    def session(scan: scenes.Array = SCAN, roi: Callable[[Any], Any] = lambda scene: None) -> Session:
        scene = scenes.new_scene()
        volume = scenes.add_volume(scene, scan, MATRIX)
        scenes.put_under(volume, scenes.parents(scene, (MATRIX @ (26, 22, 9, 1))[:3])["grid"])
        wanted = ask(volume, roi(scene), PLAIN)
        return Session.create(volume, None, compute(wanted, model), None, True, wanted.grid)

    return session


def seen(session: Session) -> scenes.Array:
    [mask] = session.masks()
    return whole(mask, SIZE)


def test_all_that_is_found_is_reviewed_the_doubtful_first(run: Run) -> None:
    session = run()
    np.testing.assert_array_equal(seen(session), SURE | DOUBTFUL)
    assert session.from_nothing and session.stages == 1 and session.result.GetName() == "image segmentation"
    doubtful, sure = session.review.changes
    assert [change.kind for change in (doubtful, sure)] == ["added", "added"]
    assert (doubtful.voxels, sure.voxels) == (DOUBTFUL.sum(), SURE.sum())
    assert doubtful.uncertainty and sure.uncertainty is not None and doubtful.uncertainty > 0.5 > sure.uncertainty
    session.jump_to(doubtful.key)
    [expected] = scenes.to_world(session.volume, np.array([doubtful.centre]))
    crosshair = session.result.GetScene().GetFirstNodeByClass("vtkMRMLCrosshairNode")
    np.testing.assert_allclose(crosshair.GetCrosshairRAS(), expected, atol=1e-6)
    session.revert([doubtful.key])
    np.testing.assert_array_equal(seen(session), SURE)
    assert session.review.next_unreviewed(doubtful.key) == sure.key
    session.accept([sure.key])
    assert session.review.next_unreviewed() is None
    session.undo()
    session.undo()
    np.testing.assert_array_equal(seen(session), SURE | DOUBTFUL)


def test_notes_maps_and_volumes_come_with_it(run: Run) -> None:
    session = run()
    assert "Of 'lesion' one object too small to be trusted by this model was left out." in session.notes
    assert [node.GetName() for node in session.maps] == [
        "image entropy",
        "image confidence",
        "image probability lesion",
    ]
    [row] = session.statistics_rows()
    assert row["volume_after_mm3"] == pytest.approx((SURE | DOUBTFUL).sum() * 0.7 * 0.7 * 2, rel=1e-6)
    assert row["dice"] is None and session.provenance["settings"]["region_of_interest"] is False


def test_what_a_person_decided_and_read_is_there_again(run: Run, tmp_path: Path) -> None:
    session = run()
    session.revert(session.review.listed()[:1])
    scene = scenes.load_bundle(scenes.save_bundle(session.result.GetScene(), tmp_path / "scene.mrb"))
    restored = Session.restore(scene.GetFirstNodeByName("image segmentation"))
    assert restored is not None and restored.from_nothing and restored.notes == session.notes
    assert restored.review.to_json() == session.review.to_json()
    assert restored.review.listed() == session.review.listed()
    np.testing.assert_array_equal(seen(restored), SURE)


def test_a_roi_holds_all_that_is_found_wherever_it_goes_meanwhile(run: Run) -> None:
    placed: list[Any] = []

    def roi(scene: Any) -> Any:
        centre = (MATRIX @ (36, 22, 9, 1))[:3]
        placed.append(add_roi(scene, scenes.geometry((1, 1, 1), (0, 0, 40), origin=centre), (11, 9, 20)))
        scenes.put_under(placed[0], scene.GetFirstNodeByName("grid"))
        return placed[0]

    session = run(roi=roi)
    index = np.argwhere(np.ones(SIZE))[:, ::-1]
    inside = in_roi(placed[0], session.volume, index).reshape(SIZE)
    assert 0 < (DOUBTFUL & inside).sum() < DOUBTFUL.sum() and not (SURE & inside).any()
    np.testing.assert_array_equal(seen(session), DOUBTFUL & inside)
    assert session.provenance["settings"]["region_of_interest"] is True


def test_where_nothing_is_found_there_is_an_empty_result_to_draw_in(run: Run) -> None:
    session = run(0.4 * SCAN)
    assert not seen(session).any() and session.review.changes == [] and session.names == ["lesion"]
    restored = Session.restore(session.result)
    assert restored is not None and restored.from_nothing
    assert restored.statistics_rows()[0]["volume_after_mm3"] == 0


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one model, "finder" with random weights."""
    folder = tmp_path_factory.mktemp("models")
    written = write_uncertainty_model(folder / "finder", dimensions=2, network="unet")
    content = json.loads((written / "configs" / "model.json").read_text("utf-8"))
    content |= {"kind": "segment", "method": "weak_to_strong"}
    (written / "configs" / "model.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.mark.parametrize("parent", ALL_PARENTS)
@pytest.mark.parametrize("within", [False, True])
def test_slicer_and_python_find_the_same_voxels(models: Path, parent: str, within: bool) -> None:
    scene = scenes.new_scene()
    scan = np.random.default_rng(0).normal(-400, 300, (12, 60, 56)).astype(np.int16)
    volume = scenes.add_volume(scene, scan, MATRIX)
    centre = (MATRIX @ (28, 30, 6, 1))[:3]
    scenes.put_under(volume, scenes.parents(scene, centre)[parent])
    roi = add_roi(scene, scenes.geometry((1, 1, 1), (20, 35, -50), origin=centre), (9, 7, 8)) if within else None
    model = load_model(str(models / "finder"), "cpu")
    wanted = ask(volume, roi, model.description.preprocessing)
    assert (wanted.voxels.values.size < scan.size / 3) == within
    session = Session.create(volume, None, compute(wanted, model), None, True)
    grid, region = wanted.grid, None
    if within:
        held = whole(wanted.masks[0], scan.shape).astype(np.uint8)
        region = Segmentation(grid.image(held), (Segment("here", 1),))
    found = segment(grid.image(view_of(volume.GetImageData())), region, model)
    expected = sitk.GetArrayFromImage(found.stages[-1].label_map()) > 0
    np.testing.assert_array_equal(whole(session.masks()[0], scan.shape), expected)
    for node, image in zip(session.maps[:2], found.maps.values(), strict=True):
        part, values = region_of_map(node, wanted.grid), sitk.GetArrayFromImage(image)
        np.testing.assert_array_equal(part.values, values[part.box])
        assert np.unique(part.values).size > 100, "a test of few values would show little"


def test_the_worker_answers_with_the_models_segments_not_with_the_region(models: Path) -> None:
    scene = scenes.new_scene()
    scan = np.random.default_rng(0).normal(-400, 300, (6, 20, 24)).astype(np.int16)
    volume = scenes.add_volume(scene, scan, MATRIX)
    roi = add_roi(scene, scenes.geometry((1, 1, 1), origin=(MATRIX @ (12, 10, 3, 1))[:3]), (5, 5, 5))
    model = load_model(str(models / "finder"), "cpu")
    wanted = ask(volume, roi, model.description.preprocessing, str(models / "finder"))
    worker = Worker(WORKER, {**os.environ, "OMP_NUM_THREADS": "1"})
    heard: list[Any] = []
    try:
        worker.run(wanted, lambda step: None, heard.append, heard.append, lambda: heard.append("cancelled"))
        end = time.monotonic() + 60
        while not heard:
            assert time.monotonic() < end, worker.log
            worker.poll()
            time.sleep(0.02)
    finally:
        worker.stop()
    [outcome] = heard
    assert isinstance(outcome, Outcome), outcome
    assert [record.name for record in outcome.segments] == ["nodule"]
    expected = compute(wanted, model).stages[-1][0]
    np.testing.assert_array_equal(whole(outcome.stages[-1][0], scan.shape), whole(expected, scan.shape))
