"""Drawings saved from a scene, and the panel's section that saves them, with a Qt that is only pretended."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scenes
import slicer

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import read_image
from NoisyLabelSegSlicer.correction import save_drawings
from training.__main__ import main
from training.data.cases import read_dataset
from training.data.drawings import read_drawings, strategies_of

SHAPE = (6, 14, 16)
MATRIX = scenes.geometry(angles=(10, -20, 30), flip=(1, -1, -1))


def box(*sides: tuple[int, int]) -> scenes.Array:
    mask = np.zeros(SHAPE, bool)
    mask[tuple(slice(*side) for side in sides)] = True
    return mask


RV, MYO = box((1, 4), (2, 6), (3, 9)), box((1, 4), (8, 12), (3, 9))
NOT = box((0, 6), (0, 14), (11, 15))
DRAWN = {"RV": RV, "MYO @anna": MYO, "not RV": NOT, "not MYO": NOT & ~box((0, 3))}


class Drawn:
    """A volume and a segmentation of which somebody drew segments, both under a parent transform."""

    def __init__(self, masks: dict[str, scenes.Array], parent: str = "linear") -> None:
        self.scene = scenes.new_scene()
        array = np.random.default_rng(0).integers(0, 100, SHAPE).astype(np.int16)
        self.volume = scenes.add_volume(self.scene, array, MATRIX)
        self.segmentation = scenes.add_segmentation(self.scene, masks, MATRIX)
        above = scenes.parents(self.scene, (MATRIX @ (8, 7, 3, 1))[:3])[parent]
        scenes.put_under(self.volume, above)
        scenes.put_under(self.segmentation, above)


def codes(folder: Path) -> dict[str, scenes.Array]:
    (case,) = read_dataset(folder).cases
    strategies = strategies_of([case])
    found = read_drawings(case, read_image(case.image), strategies)
    return {str(strategy): one for strategy, one in zip(strategies, found, strict=True)}


def assert_as_drawn(folder: Path) -> None:
    """Whether the training reads what was drawn."""
    found = codes(folder)
    assert read_dataset(folder).labels == {1: "RV", 2: "MYO"}
    assert list(found) == ["annotator (positive)", "anna (positive)", "annotator (complementary)"]
    expected = [2 * RV, 3 * MYO, (1 << 1) * NOT + (1 << 2) * DRAWN["not MYO"]]
    for one, wanted in zip(found.values(), expected, strict=True):
        assert np.array_equal(one, wanted)


@pytest.mark.parametrize("parent", ["none", "linear", "grid"])
@pytest.mark.parametrize("shared", [False, True])
def test_segments_of_a_scene_are_what_the_training_reads(tmp_path: Path, parent: str, shared: bool) -> None:
    drawn = Drawn(DRAWN, parent)
    if shared:
        drawn.segmentation.GetSegmentation().CollapseBinaryLabelmaps(False)
    before = scenes.state(drawn.segmentation)
    save_drawings(drawn.volume, drawn.segmentation, tmp_path, "a", "P1")
    assert scenes.state(drawn.segmentation) == before, "the node stays as it is"
    assert_as_drawn(tmp_path)


def test_a_folder_that_slicer_saved_is_prepared(tmp_path: Path) -> None:
    drawn = Drawn(DRAWN, "none")
    drawn.volume.SetName("a")
    drawn.segmentation.SetName("a")
    drawn.segmentation.SetReferenceImageGeometryParameterFromVolumeNode(drawn.volume)
    (tmp_path / "saved").mkdir()
    scenes.save_files(drawn.scene, tmp_path / "saved" / "scene.mrml")
    assert main(["prepare", "segments", str(tmp_path / "saved"), "--data", str(tmp_path), "--name", "set"]) == 0
    assert_as_drawn(tmp_path / "set")


@pytest.mark.parametrize(
    ("masks", "said"), [({}, "There are no segments"), ({"RV": RV & False}, "no voxel"), ({"not": RV}, "does not say")]
)
def test_what_says_nothing_is_refused(tmp_path: Path, masks: dict[str, scenes.Array], said: str) -> None:
    drawn = Drawn(masks)
    with pytest.raises(InputError, match=said):
        save_drawings(drawn.volume, drawn.segmentation, tmp_path / "new", "a", "P1")
    assert list(tmp_path.iterdir()) == []


class Widget(SimpleNamespace):
    """Whatever the section asks of its widgets."""

    def __init__(self, **properties: Any) -> None:
        super().__init__(**properties, items=[], signals={})

    def addItems(self, items: list[str]) -> None:  # noqa: N802 (Qt's name)
        self.items += items

    def connect(self, signal: str, react: Callable[..., None]) -> None:
        self.signals[signal] = react

    def addCurrentPathToHistory(self) -> None:  # noqa: N802 (CTK's name)
        pass


class Desk:
    """The section with its widgets, and what it shows to the person."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        monkeypatch.setitem(sys.modules, "qt", ModuleType("qt"))
        from NoisyLabelSegSlicer.panel.correction_section import DRAWINGS, CorrectionSection

        self.said: list[str] = []
        for name in ("errorDisplay", "confirmOkCancelDisplay"):
            monkeypatch.setattr(slicer.util, name, self._say, raising=False)
        monkeypatch.setattr(slicer.util, "showStatusMessage", lambda *_: None, raising=False)
        monkeypatch.setattr(slicer.util, "WaitCursor", nullcontext)
        self.ui = SimpleNamespace(
            correctionSection=Widget(),
            correctionKindSelector=Widget(currentIndex=0),
            correctionFolder=Widget(currentPath=str(folder)),
            correctionCaseEdit=Widget(text="a"),
            correctionPatientEdit=Widget(text="P1"),
            saveCorrectionButton=Widget(),
        )
        self.section = CorrectionSection(self.ui)
        self.section.show(None)
        self.drawings = DRAWINGS

    def _say(self, text: str) -> bool:
        self.said.append(text)
        return True

    def choose(self, kind: int) -> None:
        self.ui.correctionKindSelector.currentIndex = kind
        self.ui.correctionKindSelector.signals["currentIndexChanged(int)"](kind)

    def save(self) -> None:
        self.ui.saveCorrectionButton.signals["clicked()"]()

    @property
    def enabled(self) -> tuple[bool, bool]:
        return self.ui.correctionSection.enabled, self.ui.saveCorrectionButton.enabled


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Desk:
    return Desk(monkeypatch, tmp_path / "set")


def test_drawings_can_be_saved_without_a_result(desk: Desk, tmp_path: Path) -> None:
    drawn = Drawn(DRAWN)
    assert len(desk.ui.correctionKindSelector.items) == 2
    assert desk.enabled == (False, False)
    desk.section.offer(drawn.volume, None)
    assert desk.enabled == (False, False)
    desk.section.offer(drawn.volume, drawn.segmentation)
    assert desk.enabled == (True, False), "a pair needs a result"
    desk.choose(desk.drawings)
    assert desk.enabled == (True, True)
    desk.save()
    assert desk.said == [] and len(read_dataset(tmp_path / "set").cases[0].drawings) == 3
    desk.save()
    assert len(desk.said) == 1 and "will be replaced" in desk.said[0]
    desk.section.offer(None, None)
    assert desk.enabled == (False, False)


def test_what_cannot_be_saved_is_said(desk: Desk, tmp_path: Path) -> None:
    drawn = Drawn({"not": RV})
    desk.section.offer(drawn.volume, drawn.segmentation)
    desk.choose(desk.drawings)
    desk.save()
    assert len(desk.said) == 1 and "does not say what is drawn" in desk.said[0]
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("edit", ["correctionCaseEdit", "correctionPatientEdit"])
def test_case_and_patient_must_have_names(desk: Desk, edit: str) -> None:
    drawn = Drawn(DRAWN)
    desk.section.offer(drawn.volume, drawn.segmentation)
    desk.choose(desk.drawings)
    widget = getattr(desk.ui, edit)
    widget.text = " "
    widget.signals["textChanged(QString)"](" ")
    assert desk.enabled == (True, False)
