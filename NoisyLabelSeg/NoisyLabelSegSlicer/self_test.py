"""The whole job inside 3D Slicer, done with the panel's own widgets and the real worker.

With the environment variable ``NOISYLABELSEG_SCREENSHOTS`` set to a folder, a picture of every step is left there.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import TestCase

import numpy as np
import slicer
from numpy.typing import NDArray

from NoisyLabelSegSlicer import samples
from NoisyLabelSegSlicer.correction import save_drawings, save_pair
from NoisyLabelSegSlicer.panel.widgets import scroll_to
from NoisyLabelSegSlicer.session import Session

PATIENCE_SECONDS = 120.0
PICTURES = "NOISYLABELSEG_SCREENSHOTS"
PICTURE_SIZE = (1500, 950)
FOUR_UP = slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView


def run(test: TestCase) -> None:
    """Do every step in turn; raises where something is not as it should be."""
    slicer.mrmlScene.Clear()
    with tempfile.TemporaryDirectory(prefix="NoisyLabelSeg äß ") as folder:
        job = _Job(test)
        job.load_the_sample()
        job.start_and_cancel()
        job.refine()
        job.look_at_the_stages()
        job.review()
        job.look_at_a_map()
        job.read_the_statistics()
        job.keep_the_correction(Path(folder))
        job.save_and_load_the_scene(Path(folder))
    slicer.mrmlScene.Clear()


class _Job:
    """A person at the panel."""

    def __init__(self, test: TestCase) -> None:
        self._test, self._pictures = test, 0
        if slicer.app.layoutManager():
            slicer.app.layoutManager().setLayout(FOUR_UP)
        self._volume, self._given = samples.load(samples.samples()[0])
        slicer.util.selectModule("NoisyLabelSeg")
        if os.environ.get(PICTURES):
            _make_room()
        widget = slicer.modules.noisylabelseg.widgetRepresentation().self()
        self._ui, self._panel = widget.ui, widget.panel

    @property
    def _session(self) -> Session:
        self._test.assertIsNotNone(self._panel.session)
        return self._panel.session

    def load_the_sample(self) -> None:
        """The model that knows the sample's structure is offered, and nothing is missing."""
        self._wait(lambda: self._panel.work.worker.hello is not None and self._ui.modelSelector.count > 0)
        if lacking := self._panel.work.worker.hello["missing"]:
            self._test.assertTrue(self._ui.bannerFrame.visible)
            self._test.skipTest(f"the worker's Python lacks {lacking}")
        self._wait(lambda: self._ui.runButton.enabled)
        self._test.assertEqual(self._ui.modelSelector.currentData, "lidc-nodule-refine")
        self._picture("ready")

    def start_and_cancel(self) -> None:
        """Nothing is left of a run that is cancelled."""
        nodes = slicer.mrmlScene.GetNumberOfNodes()
        self._ui.runButton.click()
        self._test.assertTrue(self._panel.work.busy)
        self._test.assertFalse(self._ui.runButton.enabled)
        self._wait(lambda: self._ui.progressBar.value > 0 or not self._panel.work.busy)
        self._picture("running", self._ui.progressBar)
        self._ui.cancelButton.click()
        self._wait(lambda: not self._panel.work.busy)
        self._test.assertIsNone(self._panel.session)
        self._test.assertEqual(slicer.mrmlScene.GetNumberOfNodes(), nodes)
        self._test.assertTrue(self._ui.runButton.enabled)

    def refine(self) -> None:
        """The result is another segmentation of the same structures, the given one stays."""
        before = self._mask(self._given)
        self._ui.runButton.click()
        self._wait(lambda: not self._panel.work.busy)
        self._test.assertEqual(self._ui.messageLabel.text, "")
        self._test.assertEqual(self._ui.resultSelector.currentNode(), self._session.result)
        self._test.assertEqual(self._session.names, ["nodule"])
        np.testing.assert_array_equal(self._mask(self._given), before)
        self._session.result.CreateClosedSurfaceRepresentation()  # as the button "Show 3D" does
        self._test.assertFalse(np.array_equal(self._mask(self._session.result), before))
        self._picture("refined", self._ui.notesText)

    def look_at_the_stages(self) -> None:
        """Stage 0 is the given mask; the last one is the result, until another is taken."""
        slider, refined = self._ui.stageSlider, self._mask(self._session.result)
        slider.value = 0
        np.testing.assert_array_equal(self._mask(self._session.shown_node), self._mask(self._given))
        slider.value = 1
        self._picture("stage 1", slider)
        self._ui.useStageButton.click()
        self._test.assertEqual(self._session.review.stage, 1)
        slider.value = slider.maximum
        self._ui.useStageButton.click()
        np.testing.assert_array_equal(self._mask(self._session.result), refined)

    def review(self) -> None:
        """What is accepted stays; what is reverted is as it was given; both can be undone."""
        table, review, refined = self._ui.reviewTable, self._session.review, self._mask(self._session.result)
        self._test.assertEqual(table.rowCount, len(review.changes))
        table.selectRow(0)
        self._ui.acceptButton.click()
        change = review.changes[1]
        self._test.assertEqual([row.row() for row in table.selectionModel().selectedRows()], [1])
        self._picture("a change", self._ui.exportReviewButton)
        self._ui.revertButton.click()
        self._test.assertEqual(review.listed("reverted"), [change.key])
        mask, inside = self._mask(self._session.result)[change.region.box], change.region.values
        np.testing.assert_array_equal(mask[inside], self._mask(self._given)[change.region.box][inside])
        self._picture("reviewed", self._ui.exportReviewButton)
        self._ui.undoButton.click()
        np.testing.assert_array_equal(self._mask(self._session.result), refined)
        self._ui.redoButton.click()
        self._test.assertEqual(review.listed("reverted"), [change.key])

    def look_at_a_map(self) -> None:
        """The map lies over the image, and is gone afterwards."""
        self._ui.mapsSection.collapsed = False
        self._ui.reviewTable.selectRow(0)
        self._ui.showChangesCheckBox.checked = False
        self._ui.mapSelector.setCurrentIndex(1)
        composite = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
        self._test.assertEqual(composite.GetForegroundVolumeID(), self._session.maps[0].GetID())
        self._picture("map", self._ui.mapLegendCheckBox)
        self._ui.mapSelector.setCurrentIndex(0)
        self._test.assertNotEqual(composite.GetForegroundVolumeID(), self._session.maps[0].GetID())
        self._ui.mapsSection.collapsed = True
        self._ui.showChangesCheckBox.checked = True

    def read_the_statistics(self) -> None:
        """The table has a row for each segment, and can be copied."""
        self._ui.statisticsSection.collapsed = False
        self._test.assertEqual(self._ui.statisticsTable.rowCount, 1)
        self._ui.copyStatisticsButton.click()
        self._test.assertIn("nodule\t", slicer.app.clipboard().text())
        self._picture("statistics", self._ui.copyStatisticsButton)
        self._ui.statisticsSection.collapsed = True

    def keep_the_correction(self, folder: Path) -> None:
        """Image, coarse mask, result and drawings are where the training finds them, the review's table too."""
        save_pair(self._session, folder / "corrections", "case 1", "P1")
        self._test.assertTrue((folder / "corrections" / "coarse" / "case 1.nii.gz").is_file())
        save_drawings(self._volume, self._given, folder / "drawn", "case 1", "P1")
        self._test.assertTrue((folder / "drawn" / "drawings" / "case 1_1.nii.gz").is_file())
        self._session.save_csv(folder / "review.csv")
        lines = (folder / "review.csv").read_text(encoding="utf-8").splitlines()
        self._test.assertEqual(len(lines), len(self._session.review.changes) + 1)

    def save_and_load_the_scene(self, folder: Path) -> None:
        """Everything is there again: result, stages, decisions."""
        self._ui.stageSlider.value = 0  # a stage that somebody only looks at is not saved as the result
        decisions, refined = self._session.review.to_json(), self._session.masks()[0]
        scene = folder / "scene.mrb"
        self._test.assertTrue(slicer.util.saveScene(str(scene)))
        slicer.mrmlScene.Clear()
        self._test.assertIsNone(self._panel.session)
        slicer.util.loadScene(str(scene))
        self._wait(lambda: self._panel.session is not None)
        self._volume = self._session.volume
        self._test.assertEqual(self._session.review.to_json(), decisions)
        np.testing.assert_array_equal(self._mask(self._session.result)[refined.box], refined.values)
        self._test.assertEqual(self._ui.reviewTable.rowCount, len(self._session.review.changes))
        self._picture("loaded again", self._ui.exportReviewButton)

    def _mask(self, node: Any) -> NDArray[np.uint8]:
        identifier = node.GetSegmentation().GetNthSegmentID(0)
        return slicer.util.arrayFromSegmentBinaryLabelmap(node, identifier, self._volume)

    def _wait(self, happened: Callable[[], bool]) -> None:
        """Let the application live until something has happened."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not happened():
            self._test.assertLess(time.monotonic(), end, f"it never happened; {self._ui.messageLabel.text}")
            slicer.app.processEvents()
            time.sleep(0.01)

    def _picture(self, name: str, show: Any = None) -> None:
        """Leave a picture of the main window with a part of the panel in view."""
        folder = os.environ.get(PICTURES)
        if not folder:
            return
        self._pictures += 1
        for _round in range(5):  # layouts and views settle in several steps
            slicer.app.processEvents()
            if show is not None:
                scroll_to(show)
        slicer.util.forceRenderAllViews()
        path = Path(folder) / f"{self._pictures:02} {name}.png"
        slicer.util.mainWindow().grab().save(str(path))


def _make_room() -> None:
    """Pictures of one size, with as much of the panel as fits."""
    window = slicer.util.mainWindow()
    if window:
        window.resize(*PICTURE_SIZE)
        for probe in slicer.util.findChildren(window, "DataProbeCollapsibleWidget"):
            probe.collapsed = True
