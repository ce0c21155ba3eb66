"""The section that shows the stages of a result and what they changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from NoisyLabelSegSlicer.panel.texts import bullets, made_by, stage_text
from NoisyLabelSegSlicer.panel.widgets import problems_shown
from NoisyLabelSegSlicer.session import ADDED_COLOR, REMOVED_COLOR, REVIEW, Session
from NoisyLabelSegSlicer.translation import _

NOTE_LINES = 6


class ResultSection:
    """Stage slider, coloured changes and the notes of the run; the result itself is chosen through the .ui file.

    Args:
        ui: the panel's widgets.
        decided: called when another stage counts as the result.
    """

    def __init__(self, ui: Any, decided: Callable[[], None]) -> None:
        self._ui, self._decided = ui, decided
        self._session: Session | None = None
        ui.stageSlider.connect("valueChanged(int)", self._show_stage)
        ui.showChangesCheckBox.connect("toggled(bool)", self._show_changes)
        ui.useStageButton.connect("clicked()", self._use_stage)
        ui.resultSelector.addAttribute("vtkMRMLSegmentationNode", REVIEW)
        # A height of its own: a label that grows with its text would push the sections below into each other.
        ui.notesText.setFixedHeight(NOTE_LINES * ui.showChangesCheckBox.sizeHint.height())
        # As the views draw them: a filled region, an outline, and a thin white line.
        legend = ((ADDED_COLOR, "■", _("added")), (REMOVED_COLOR, "□", _("removed")))
        coloured = [f'<b><span style="color:{_hex(c)}">{sign}</span></b>&nbsp;{word}' for c, sign, word in legend]
        ui.changesLegendLabel.text = " &nbsp; ".join([*coloured, _("white line: the mask")])

    def show(self, session: Session | None) -> None:
        """Show a result, from its last stage on; or that there is none."""
        another = session is not self._session
        self._session = session
        if another:
            self._show_changes(self._ui.showChangesCheckBox.checked)
        self._show_what_applies(session)
        for widget in (self._ui.stageSlider, self._ui.showChangesCheckBox, self._ui.useStageButton):
            widget.enabled = session is not None
        stages = session.stages if session else 1
        blocked = self._ui.stageSlider.blockSignals(True)
        self._ui.stageSlider.maximum = stages
        self._ui.stageSlider.value = session.shown if session else 0
        self._ui.stageSlider.blockSignals(blocked)
        notes = [made_by(session.provenance), *session.notes] if session else []
        self._ui.notesText.setPlainText(bullets([note for note in notes if note]) or _("There is no result yet."))
        self._label()

    def _show_what_applies(self, session: Session | None) -> None:
        """Where no mask was given nothing has changed, and a single stage is the result."""
        changed = session is None or not session.from_nothing
        staged = changed or (session is not None and session.stages > 1)
        for widget in (self._ui.showChangesCheckBox, self._ui.changesLegendLabel):
            widget.visible = changed
        for widget in (self._ui.stageSlider, self._ui.stageLabel, self._ui.useStageButton):
            widget.visible = staged

    def refresh(self) -> None:
        """Colour the changes anew: the result may have been drawn in meanwhile, in another module."""
        self._show_changes(self._ui.showChangesCheckBox.checked)

    def settle(self) -> None:
        """Show the stage that counts as the result."""
        if self._session:
            self._ui.stageSlider.value = self._session.review.stage

    def _label(self) -> None:
        stage, session = self._ui.stageSlider.value, self._session
        text = stage_text(stage, session.stages, from_nothing=session.from_nothing) if session else ""
        self._ui.stageLabel.text = text
        self._ui.useStageButton.enabled = session is not None and stage != session.review.stage

    def _show_stage(self, stage: int) -> None:
        if self._session:
            with problems_shown():
                self._session.show_stage(stage)
        self._label()

    def _show_changes(self, on: bool) -> None:
        if self._session:
            self._session.show_changes(on and not self._session.from_nothing)

    def _use_stage(self) -> None:
        if self._session:
            with problems_shown():
                self._session.use_stage(self._ui.stageSlider.value)
            self._decided()


def _hex(color: tuple[float, ...]) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in color)
