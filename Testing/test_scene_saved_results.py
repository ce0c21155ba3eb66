"""A folder of a result in a scene: the nodes and the review are those that a run would have left."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import scenes
import SimpleITK as sitk
import slicer

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.images import read_image
from NoisyLabelSegLib.outcome import Map, MapName, Outcome
from NoisyLabelSegLib.regions import NOTHING, Region, box_of
from NoisyLabelSegLib.result import Maps, Result
from NoisyLabelSegLib.segmentations import Segment, Segmentation
from NoisyLabelSegLib.uncertainty_outputs import UncertaintyOutputs
from NoisyLabelSegSlicer.maps import kind_of, segment_of
from NoisyLabelSegSlicer.segments import segment_ids
from NoisyLabelSegSlicer.session import Session
from NoisyLabelSegSlicer.volumes import view_of

SHAPE = (9, 16, 18)  # K, J, I
BOX = (slice(1, 8), slice(2, 15), slice(3, 17))
RIGHT_HANDED, LEFT_HANDED = (1, 1, 1), (1, 1, -1)
PARTS = (Segment("head", 1, color=(1, 0.5, 0), id="H", terminology="a~b~c"), Segment("tail", 2, id="T"))
MODEL = {"name": "tiny", "version": "1", "sha256": "0" * 64, "licence": "CC0-1.0"}


def block(*sides: tuple[int, int]) -> scenes.Array:
    mask = np.zeros(SHAPE, bool)
    mask[tuple(slice(*side) for side in sides)] = True
    return mask


HEAD, TAIL = block((2, 6), (3, 9), (4, 10)), block((2, 6), (10, 14), (5, 15))
FOUND = (
    HEAD & ~block((2, 4), (3, 5), (4, 6)) | block((6, 7), (4, 6), (5, 8)),
    TAIL | block((5, 7), (13, 15), (14, 16)),
)
STAGES = ((HEAD, TAIL), FOUND)


def image_of(direction: tuple[int, ...]) -> sitk.Image:
    image = sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 100, SHAPE).astype(np.int16))
    image.SetSpacing((0.7, 0.9, 2.5))
    image.SetOrigin((-31.5, 17.25, 104.125))
    turn = np.reshape(sitk.VersorTransform((0.6, 0.64, 0.48), 0.3).GetMatrix(), (3, 3))
    image.SetDirection((turn * direction).ravel().tolist())
    return image


def region(mask: scenes.Array) -> Region:
    return Region(box_of(mask), mask[box_of(mask)])


def outcome_of(labelled: bool) -> Outcome:
    """What a computation finds, of any numbers."""
    rng = np.random.default_rng(1)

    def made(name: MapName, segment: str = "", outside: float = 0) -> Map:
        values = rng.random([side.stop - side.start for side in BOX], np.float32)
        return Map(name, segment, Region(BOX, values), 0, 1, outside)

    maps = [made("entropy"), made("confidence", outside=1), made("probability", "H"), made("probability", "T")]
    maps += [made("suspect")] if labelled else []
    stages = tuple(tuple(map(region, stage)) for stage in STAGES)
    rows = [
        {
            **{"segment": segment.name, "stage": stage, "volume_mm3": 100.0 + stage, "changed_voxels": 3 * stage},
            **{"dice_to_given": 0.4 if labelled else None, "hd95_to_given_mm": None, "hd95_to_previous_mm": None},
        }
        for segment in PARTS
        for stage in range(2)
    ]
    provenance = {"image": "scan.nii.gz", "model": MODEL, "device": "cpu", "seconds": 1.5}
    given = stages[0] if labelled else (NOTHING, NOTHING)
    return Outcome(PARTS, (given, stages[1]), tuple(maps), tuple(rows), provenance, ("Look at it.",), 2)


def write(folder: Path, image: sitk.Image, outcome: Outcome) -> Path:
    grid = Grid.of(image)

    def segmentation(masks: tuple[Region, ...]) -> Segmentation:
        values = sum(number * mask.cut(grid.whole_box()) for number, mask in enumerate(masks, 1))
        return Segmentation(grid.image(np.asarray(values, np.uint8)), outcome.segments)

    result = Result(
        image=image,
        stages=tuple(map(segmentation, outcome.stages)),
        probabilities=Maps(image, {one.segment: one for one in outcome.maps if one.segment}),
        statistics=outcome.statistics,
        provenance=outcome.provenance,
        notes=outcome.notes,
        slice_axis=outcome.slice_axis,
        maps=Maps(image, {one.name: one for one in outcome.maps if not one.segment}),
    )
    UncertaintyOutputs(folder).write(result)
    return folder


class Case:
    """A folder with a result, the image beside it, and a scene."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, labelled: bool = True, left: bool = True) -> None:
        self.image, self.outcome = image_of(LEFT_HANDED if left else RIGHT_HANDED), outcome_of(labelled)
        self.folder = folder / "case"
        self.folder.mkdir()
        write(self.folder, self.image, self.outcome)
        self.scan = folder / "scan.nii.gz"
        sitk.WriteImage(self.image, str(self.scan))
        self.scene = scenes.new_scene()
        self.shown: list[Any] = []
        monkeypatch.setattr(slicer, "mrmlScene", self.scene, raising=False)
        monkeypatch.setattr(slicer.util, "loadVolume", self.load)
        monkeypatch.setattr(slicer.util, "setSliceViewerLayers", lambda background, fit: self.shown.append(background))

    def load(self, path: str, properties: dict[str, Any] | None = None) -> Any:
        """As the application does, by the same storage node."""
        volume = self.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", Path(path).name.split(".")[0])
        storage = self.scene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
        storage.SetFileName(path)
        if not storage.ReadData(volume):
            raise RuntimeError("Failed to load node from file")
        volume.SetAndObserveStorageNodeID(storage.GetID())
        return volume

    def open(self, volume: Any | None = None) -> tuple[Session, Any | None]:
        from NoisyLabelSegSlicer.saved_results import open_saved_result

        session, given, _ = open_saved_result(self.folder, volume)
        return session, given

    @property
    def nodes(self) -> list[str]:
        return [self.scene.GetNthNode(n).GetID() for n in range(self.scene.GetNumberOfNodes())]


@pytest.fixture
def case(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Case:
    return Case(monkeypatch, tmp_path)


def run_in_the_scene(case: Case, labelled: bool) -> Session:
    """The same result as a run leaves it, on the grid that Slicer has made of the file's."""
    volume = case.load(str(case.scan))
    axes = [2] if tuple(case.image.GetDirection()) == tuple(image_of(LEFT_HANDED).GetDirection()) else []

    def turned(own: Region) -> Region:
        array = np.flip(own.cut(Grid.of(case.image).whole_box()), tuple(2 - axis for axis in axes))
        return Region(tuple(slice(0, n) for n in SHAPE), array)

    def turned_map(own: Map) -> Map:
        whole = sitk.GetArrayFromImage(Maps(case.image, {"": own})[""])
        return replace(
            own, region=Region(tuple(slice(0, n) for n in SHAPE), np.flip(whole, tuple(2 - axis for axis in axes)))
        )

    found = replace(
        case.outcome,
        stages=tuple(tuple(map(turned, stage)) for stage in case.outcome.stages),
        maps=tuple(map(turned_map, case.outcome.maps)),
    )
    masks = {segment.id: mask.values for segment, mask in zip(PARTS, found.stages[0], strict=True)}
    given: Any = scenes.add_segmentation(case.scene, masks, scenes.matrix_of(volume)) if labelled else None
    for segment in PARTS if given is not None else ():
        given.GetSegmentation().GetSegment(segment.id).SetName(segment.name)
    return Session.create(volume, given, found, None, False)


def listed(session: Session) -> list[tuple[Any, ...]]:
    return [
        (c.key, c.kind, c.voxels, c.centre, c.stage, None if c.uncertainty is None else round(c.uncertainty, 6))
        for c in session.review.changes
    ]


def seen(node: Any, whole: tuple[scenes.Array, scenes.Array]) -> scenes.Array:
    """A map's values in the whole volume, whose axes and origin are given; NaN around its own box."""
    start = np.rint((np.array(node.GetOrigin()) - whole[1]) @ np.linalg.inv(whole[0]).T).astype(int)[::-1]
    array = np.full(SHAPE, np.nan, np.float32)
    values = view_of(node.GetImageData())
    array[tuple(slice(s, s + n) for s, n in zip(start, values.shape, strict=True))] = values
    return array


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("left", [True, False])
def test_the_review_is_that_of_a_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, labelled: bool, left: bool
) -> None:
    case = Case(monkeypatch, tmp_path, labelled, left)
    before = {path: path.read_bytes() for path in case.folder.iterdir()}
    expected = run_in_the_scene(case, labelled)
    session, given = case.open()
    assert listed(session) == listed(expected) and len(session.review.changes) == (3 if labelled else 2)
    assert session.review.uncertain_first and session.from_nothing == (not labelled) == (given is None)
    assert session.names == expected.names == ["head", "tail"] and session.notes == expected.notes
    assert session.provenance == expected.provenance
    assert [segment.color for segment in session.segments] == [segment.color for segment in PARTS]
    assert session.segments[0].terminology == PARTS[0].terminology
    for mask, other in zip(
        [*session.masks(), *session.given_masks], [*expected.masks(), *expected.given_masks], strict=True
    ):
        whole = tuple(slice(0, n) for n in SHAPE)
        np.testing.assert_array_equal(mask.cut(whole), other.cut(whole))
    image, voxels = sitk.GetArrayFromImage(case.image), view_of(session.volume.GetImageData())
    for mask, own in zip(session.masks(), FOUND, strict=True):
        np.testing.assert_array_equal(np.sort(voxels[mask.box][mask.values]), np.sort(image[own]))
    assert session.statistics_rows() == expected.statistics_rows()
    matrix = scenes.matrix_of(session.volume)
    place = matrix[:3, :3], matrix[:3, 3]
    for node, other in zip(session.maps, expected.maps, strict=True):
        assert (kind_of(node), segment_of(node)) == (kind_of(other), segment_of(other))
        found, known = seen(node, place), seen(other, place)
        inside = np.isfinite(found)
        assert inside.sum() < inside.size and inside.sum() >= np.prod([s.stop - s.start for s in BOX])
        np.testing.assert_array_equal(found[inside], known[inside])
        assert set(np.unique(known[~inside])) <= {1.0 if kind_of(node) == "confidence" else 0.0}
    assert {path: path.read_bytes() for path in case.folder.iterdir()} == before


def test_given_labels_become_a_segmentation_beside_the_volume(case: Case) -> None:
    session, given = case.open()
    assert given is not None and given.GetName() == "scan labels" and session.result.GetName() == "scan labels refined"
    assert segment_ids(given) == segment_ids(session.result) == ["H", "T"]
    assert given.GetSegmentation().GetSegment("H").GetColor() == (1, 0.5, 0)
    assert case.shown == [session.volume] and session.volume.GetName() == "scan"


def test_steps_of_the_review_change_the_result_and_come_back_with_the_scene(case: Case, tmp_path: Path) -> None:
    session, given = case.open()
    before, [first, second, third] = scenes.state(given), session.review.listed()[:3]
    masks = [mask.values.sum() for mask in session.masks()]
    session.tick([third])
    session.accept([first])
    session.revert([second])
    change = session.review.change(second)
    after = session.masks()[change.segment]
    assert after.cut(change.region.box)[change.region.values].all() == (change.kind == "removed")
    assert [mask.values.sum() for mask in session.masks()] != masks and scenes.state(given) == before
    again = scenes.load_bundle(scenes.save_bundle(case.scene, tmp_path / "scene.mrb"))
    restored = Session.restore(again.GetNodeByID(session.result.GetID()))
    assert restored is not None and restored.review.to_json() == session.review.to_json()
    session.undo()
    assert [mask.values.sum() for mask in session.masks()] == masks


@pytest.mark.parametrize("parent", ["none", "linear", "grid"])
def test_a_chosen_volume_on_the_same_grid_is_taken_with_its_transform(case: Case, parent: str) -> None:
    chosen = case.load(str(case.scan))
    scenes.put_under(chosen, scenes.parents(case.scene, np.array(chosen.GetOrigin()))[parent])
    case.scan.unlink()
    session, given = case.open(chosen)
    assert session.volume is chosen and case.shown == []
    for node in (session.result, given, *session.maps):
        assert node is not None and node.GetParentTransformNode() is chosen.GetParentTransformNode()


def test_a_chosen_volume_on_another_grid_is_not(case: Case) -> None:
    other = scenes.add_volume(case.scene, np.zeros(SHAPE, np.int16), scenes.geometry())
    session, _ = case.open(other)
    assert session.volume is not other and session.volume.GetName() == "scan"


def elsewhere(case: Case) -> None:
    image = read_image(case.scan)
    image.SetOrigin((0, 0, 0))
    sitk.WriteImage(image, str(case.scan))


BAD: dict[str, tuple[Callable[[Case], object], str]] = {
    "no result": (lambda case: shutil.rmtree(case.folder), "is no result of"),
    "no image": (lambda case: case.scan.unlink(), "load scan.nii.gz, choose it as volume"),
    "another image": (elsewhere, "does not lie on the grid of the result"),
    "no image at all": (lambda case: case.scan.write_bytes(b"none"), "could not be loaded"),
}


@pytest.mark.parametrize(("spoil", "sentence"), BAD.values(), ids=BAD.keys())
def test_the_scene_stays_as_it_was_when_it_cannot_be_opened(
    case: Case, spoil: Callable[[Case], object], sentence: str
) -> None:
    spoil(case)
    before = case.nodes
    with pytest.raises(InputError, match=sentence):
        case.open()
    assert case.nodes == before and case.shown == []


class Desk:
    """The panel's controller between a scene and sections that only remember."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, volume: Any | None = None) -> None:
        monkeypatch.setitem(sys.modules, "qt", MagicMock())
        monkeypatch.setitem(sys.modules, "ctk", MagicMock())
        from NoisyLabelSegSlicer.panel.panel import Panel

        monkeypatch.setattr(slicer.util, "WaitCursor", nullcontext)
        self.said: list[str] = []
        self.sessions: list[Session] = []
        self.chosen = SimpleNamespace(volume=volume, segmentation=None, result=None)
        self.ui = SimpleNamespace(
            showChangesCheckBox=SimpleNamespace(checked=False),
            resultSection=SimpleNamespace(collapsed=True),
            reviewSection=SimpleNamespace(collapsed=True),
        )
        panel = Panel.__new__(Panel)
        panel.session, panel._ui, panel._parameters = None, self.ui, self.chosen
        panel._run = SimpleNamespace(say=self.said.append)  # type: ignore[assignment]
        panel._sections = [SimpleNamespace(show=self.sessions.append)]
        self.panel = panel


def test_the_panel_is_then_where_a_run_would_have_left_it(monkeypatch: pytest.MonkeyPatch, case: Case) -> None:
    desk = Desk(monkeypatch)
    desk.panel.open_results(case.folder)
    session = desk.panel.session
    assert session is not None and desk.sessions == [session]
    assert (desk.chosen.volume, desk.chosen.result) == (session.volume, session.result)
    assert desk.chosen.segmentation.GetName() == "scan labels"
    assert not desk.chosen.segmentation.GetDisplayVisibility() and session.result.GetDisplayVisibility()
    assert desk.ui.showChangesCheckBox.checked and not desk.ui.reviewSection.collapsed
    assert len(desk.said) == 1 and "barely resembles the given mask of 'head' (Dice 0.40" in desk.said[0]


def test_the_panel_says_why_it_cannot(monkeypatch: pytest.MonkeyPatch, case: Case) -> None:
    desk = Desk(monkeypatch)
    case.scan.unlink()
    desk.panel.open_results(case.folder)
    assert desk.panel.session is None and len(desk.said) == 1 and "choose it as volume" in desk.said[0]
