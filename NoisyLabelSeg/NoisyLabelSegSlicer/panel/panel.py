"""The whole panel: tells its sections what happened in the scene, in the worker and in each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.outcome import Outcome
from NoisyLabelSegLib.progression import doubts
from NoisyLabelSegSlicer.model_facts import value_warning
from NoisyLabelSegSlicer.panel.correction_section import CorrectionSection
from NoisyLabelSegSlicer.panel.input_section import InputSection, names_of
from NoisyLabelSegSlicer.panel.map_section import MapSection
from NoisyLabelSegSlicer.panel.model_section import ModelSection
from NoisyLabelSegSlicer.panel.readiness import Inputs, model_at_first
from NoisyLabelSegSlicer.panel.result_section import ResultSection
from NoisyLabelSegSlicer.panel.review_section import ReviewSection
from NoisyLabelSegSlicer.panel.run_section import RunSection
from NoisyLabelSegSlicer.panel.setup_section import SetupSection
from NoisyLabelSegSlicer.panel.statistics_section import StatisticsSection
from NoisyLabelSegSlicer.panel.work import Work
from NoisyLabelSegSlicer.request import make_request
from NoisyLabelSegSlicer.saved_results import open_saved_result
from NoisyLabelSegSlicer.session import Session
from NoisyLabelSegSlicer.translation import _
from NoisyLabelSegSlicer.volumes import value_range

DRAWN_ON = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
"""How a segmentation refers to its volume."""


class Panel:
    """Made once; `bind` gives it the parameter node of the scene that is open.

    Attributes:
        session: the result that is shown; None without one.
        work: the worker and the run.

    Args:
        ui: the panel's widgets.
    """

    def __init__(self, ui: Any) -> None:
        self.session: Session | None = None
        self._ui = ui
        self._parameters: Any = None
        self._offered_for: Any = None
        self._followed: Any = None
        self._offered = ""
        self._run = RunSection(ui, self.start, lambda: self.work.cancel(), self.open_results)
        self.work = Work(self._run.say, self._run.follow, self._worker_changed)
        self._model = ModelSection(ui, self._choose_model, self._import_model, self._remove_model)
        self._inputs = InputSection(ui, self._tick_segments, self.update)
        self._setup = SetupSection(ui, self.work, self.restart_worker, self._run)
        self._result, self._review = ResultSection(ui, self._show_session), ReviewSection(ui, self._show_session)
        self._correction = CorrectionSection(ui)
        self._sections: list[Any] = [
            self._result,
            self._review,
            MapSection(ui),
            StatisticsSection(ui),
            self._correction,
        ]
        self._show_session()

    def bind(self, parameters: Any) -> None:
        """Show what is chosen in a scene, whose parameter node this is."""
        self._parameters = parameters
        self.update()

    def release(self) -> None:
        """The scene is about to be closed: stop, and forget it."""
        self.work.cancel()
        self._inputs.forget()
        self._correction.offer(None, None)
        self._parameters = self.session = self._offered_for = self._followed = None
        self._show_session()

    def listen(self, on: bool) -> None:
        """The panel is shown, or not any more: keys belong to it, or to others, who see the result, not a stage."""
        self._review.listen(on)
        if not on:
            self._result.settle()
            return
        self._result.refresh()
        self._show_session()
        if self.work.worker is None:
            self.restart_worker()
            self._setup.resume()

    def end(self) -> None:
        """The panel is of no use any more."""
        self.work.end()
        self._review.remove()

    # What is chosen

    def update(self) -> None:
        """Show everything that follows from what is chosen."""
        chosen = self._parameters
        if chosen is None or slicer.mrmlScene.IsBatchProcessing():
            return
        self._follow(chosen)
        names, values = names_of(chosen.segmentation), _values(chosen.volume)
        self._model.choose(chosen.model or self._offer(chosen, names, values))
        workflow, model = self._model.workflow, self._model.description
        self._model.warn(value_warning(model, *values) if model and values else "")
        self._inputs.show(workflow, model, chosen.segmentation, chosen.segments)
        segments = self._inputs.names if chosen.segmentation else None
        inputs = Inputs(
            self._setup.complete, workflow, model, chosen.volume is not None, segments, chosen.roi is not None
        )
        self._run.show(inputs, self.work.busy)
        self._correction.offer(chosen.volume, chosen.segmentation)
        self._open(chosen.result)

    def _follow(self, chosen: Any) -> None:
        """Whoever chooses another mask means the volume that it was drawn on, too."""
        if chosen.segmentation is not self._followed:
            self._followed = chosen.segmentation
            drawn_on = self._followed and self._followed.GetNodeReference(DRAWN_ON)
            if drawn_on is not None and drawn_on.GetClassName() == "vtkMRMLScalarVolumeNode":
                chosen.volume = drawn_on

    def _offer(self, chosen: Any, names: list[str], values: tuple[float, float] | None) -> str:
        """The model for an image and a mask that were just chosen; it stays, however the segments are renamed."""
        inputs = (chosen.volume, chosen.segmentation, [model["name"] for model in self._model.descriptions])
        if inputs != self._offered_for:
            self._offered_for = inputs
            self._offered = model_at_first(self._model.descriptions, names, values)
        return self._offered

    def _open(self, result: Any) -> None:
        """Show another result than before."""
        if result is not (self.session and self.session.result):
            self._leave_result()
            self.session = Session.restore(result) if result else None
            if self.session:
                result.SetDisplayVisibility(True)
                self._unfold()
            self._show_session()

    def _leave_result(self) -> None:
        """One result is seen at a time."""
        if self.session and self.session.result.GetScene():
            self.session.put_away()
            self.session.result.SetDisplayVisibility(False)

    def _unfold(self) -> None:
        for section in (self._ui.resultSection, self._ui.reviewSection):
            section.collapsed = False

    def _show_session(self) -> None:
        for section in self._sections:
            section.show(self.session)

    def _choose_model(self) -> None:
        if self._parameters is not None:
            self._parameters.model = self._model.name

    def _tick_segments(self, identifiers: list[str]) -> None:
        self._parameters.segments = identifiers

    # The worker

    def restart_worker(self) -> None:
        """Start the process that the settings name, and list its models."""
        try:
            self.work.use(*self._setup.command())
        except InputError as error:
            self._run.say(str(error))
            return
        self.work.ask(lambda worker: worker.models(self._show_models, self._run.say))

    def _worker_changed(self) -> None:
        self._setup.show()
        self._run.used(self.work.worker.device if self.work.worker else "")
        self.update()

    def _show_models(self, models: list[dict[str, Any]]) -> None:
        self._setup.models = models
        self._model.show(models, here=self._setup.is_here)
        self.update()

    def _import_model(self, path: str) -> None:
        self.work.ask(lambda worker: worker.import_model(path, False, self._show_models, self._run.say))

    def _remove_model(self, name: str) -> None:
        self.work.ask(lambda worker: worker.remove_model(name, self._show_models, self._run.say))

    # The run

    def start(self) -> None:
        """Send what is chosen to the worker."""
        chosen, workflow, model = self._parameters, self._model.workflow, self._model.description
        if workflow is None or model is None:
            return
        volume, roi, keep_others = chosen.volume, chosen.roi, chosen.keep_others
        given = chosen.segmentation if workflow.takes_mask else None
        device, stages = chosen.device.value, chosen.stages or None
        try:
            with slicer.util.WaitCursor():
                request = make_request(volume, given, chosen.segments, roi, model, device, stages)
        except InputError as error:
            self._run.say(str(error))
            return
        asked = request.grid
        limit = roi if workflow.takes_mask else None  # else the model has looked nowhere else
        self.work.run(request, lambda outcome: self._add(volume, given, outcome, limit, keep_others, asked))
        self._run.begin()
        self.update()

    def _add(self, volume: Any, given: Any, outcome: Outcome, roi: Any, keep_others: bool, asked: Grid) -> str:
        """Put what was found into the scene, show it, and give what is alarming about it."""
        with slicer.util.WaitCursor():
            session = Session.create(volume, given, outcome, roi, keep_others, asked)
        return self._begin_review(session, given, outcome)

    def _begin_review(self, session: Session, given: Any, outcome: Outcome) -> str:
        """Show a result that is new in the scene, and give what is alarming about it."""
        self._leave_result()
        self.session = session
        if given is not None:
            given.SetDisplayVisibility(False)  # stage 0 is the same, and two masks on one another are hard to read
        self._ui.showChangesCheckBox.checked = True
        self._unfold()
        self._parameters.result = session.result
        self._show_session()
        if session.from_nothing and not session.review.changes:
            return _("The model found nothing where it looked.")
        return " ".join(doubts(outcome.statistics, len(outcome.stages)))

    def open_results(self, folder: Path) -> None:
        """Go on with what was found elsewhere as after a run."""
        if self._parameters is None:
            return
        try:
            with slicer.util.WaitCursor():
                session, given, outcome = open_saved_result(folder, self._parameters.volume)
        except InputError as error:
            self._run.say(str(error))
            return
        self._parameters.volume = session.volume
        if given is not None:
            self._parameters.segmentation = given
        self._run.say(self._begin_review(session, given, outcome))


def _values(volume: Any) -> tuple[float, float] | None:
    """A volume's smallest and largest value; None where they cannot be told."""
    try:
        return value_range(volume) if volume else None
    except InputError:
        return None
