"""The section that says where the computation runs, installs what is missing, and helps when something fails."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from getpass import getuser
from pathlib import Path
from typing import Any, Literal

import qt
import slicer

from NoisyLabelSegLib import __version__
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegSlicer.diagnostics import Facts, report
from NoisyLabelSegSlicer.installation import Installation, installed_here, long_paths
from NoisyLabelSegSlicer.installation_plan import Plan
from NoisyLabelSegSlicer.panel.application import SlicerApplication, slicer_for_worker
from NoisyLabelSegSlicer.panel.run_section import RunSection
from NoisyLabelSegSlicer.panel.texts import lacking_text, plan_text
from NoisyLabelSegSlicer.panel.widgets import problems_shown, scroll_to, show_warning
from NoisyLabelSegSlicer.panel.work import Work
from NoisyLabelSegSlicer.translation import _
from NoisyLabelSegSlicer.worker_command import WorkerSetting

SETTING = "NoisyLabelSeg/Worker"
PYTHON_VARIABLE = "NOISYLABELSEG_WORKER_PYTHON"
"""Names the Python that computes, whatever the settings say: for tests."""

KINDS: tuple[Literal["slicer", "python", "ssh"], ...] = ("slicer", "python", "ssh")


class SetupSection:
    """The worker's setting, the banner above everything when something is missing, installation and diagnostics.

    Attributes:
        models: as the worker lists them.

    Args:
        ui: the panel's widgets.
        work: the worker that the setting is about.
        restart: called when it is to be started anew.
        run: knows the last error.
    """

    def __init__(self, ui: Any, work: Work, restart: Callable[[], None], run: RunSection) -> None:
        self._ui, self._work, self._restart, self._run = ui, work, restart, run
        self.models: list[dict[str, Any]] = []
        self._installation = Installation(SlicerApplication(), installed_here, long_paths())
        ui.workerSelector.addItems([_("Slicer's own Python"), _("another Python"), _("another computer (ssh)")])
        ui.workerSelector.connect("currentIndexChanged(int)", self._show_rows)
        ui.applyWorkerButton.connect("clicked()", self._apply)
        ui.installButton.connect("clicked()", self._install)
        ui.installFolderButton.connect("clicked()", self._install_from_folder)
        ui.diagnosticsButton.connect("clicked()", self._copy_diagnostics)
        ui.bannerButton.connect("clicked()", self._open)
        show_warning(ui.bannerIcon)
        self._show_setting()
        self.show()

    @property
    def complete(self) -> bool:
        """Whether the worker lacks nothing, as far as it has said."""
        return not self._lacking

    def command(self) -> tuple[list[str], Mapping[str, str]]:
        """What starts the worker.

        Raises:
            InputError: the setting cannot be used.
        """
        return self._setting().command(slicer_for_worker())

    @property
    def is_here(self) -> bool:
        """Whether the worker runs on this computer."""
        return self._setting().kind != "ssh"

    def show(self) -> None:
        """Say what the worker lacks."""
        sentence = lacking_text(self._lacking, self._setting().kind)
        self._ui.bannerLabel.text = sentence
        self._ui.bannerFrame.visible = bool(sentence)
        answered = self._work.worker is not None and self._work.worker.hello is not None
        unknown = "" if answered else _("The worker has not answered yet.")
        self._ui.setupStateLabel.text = sentence or unknown or _("Everything is in place.")

    def resume(self) -> None:
        """Go on where a restart has interrupted the installation."""
        if self._installation.resumes():
            qt.QTimer.singleShot(0, self._install)  # once the module is shown

    @property
    def _lacking(self) -> list[str]:
        worker = self._work.worker
        return list(worker.hello["missing"]) if worker and worker.hello else []

    def _setting(self) -> WorkerSetting:
        if python := os.environ.get(PYTHON_VARIABLE):
            return WorkerSetting("python", python)
        try:
            return WorkerSetting.of(str(slicer.util.settingsValue(SETTING, "")))
        except InputError:  # from another version
            return WorkerSetting()

    def _show_setting(self) -> None:
        ui, setting = self._ui, self._setting()
        ui.workerSelector.currentIndex = KINDS.index(setting.kind)
        if setting.kind == "python":
            ui.interpreterEdit.currentPath = setting.where
        if setting.kind == "ssh":
            ui.hostEdit.text = setting.where
        ui.remoteEdit.text = setting.remote
        self._show_rows()

    def _show_rows(self, _index: int = 0) -> None:
        ui, kind = self._ui, KINDS[self._ui.workerSelector.currentIndex]
        for widget, of_kind in (
            (ui.interpreterLabel, "python"),
            (ui.interpreterEdit, "python"),
            (ui.hostLabel, "ssh"),
            (ui.hostEdit, "ssh"),
            (ui.remoteLabel, "ssh"),
            (ui.remoteEdit, "ssh"),
            (ui.installButton, "slicer"),
            (ui.installFolderButton, "slicer"),
        ):
            widget.visible = kind == of_kind

    def _apply(self) -> None:
        ui, kind = self._ui, KINDS[self._ui.workerSelector.currentIndex]
        where = {"slicer": "", "python": ui.interpreterEdit.currentPath, "ssh": ui.hostEdit.text.strip()}[kind]
        with problems_shown():
            setting = WorkerSetting(kind, where, ui.remoteEdit.text.strip())
            setting.command(slicer_for_worker())
            qt.QSettings().setValue(SETTING, setting.text)
            self._restart()

    def _open(self) -> None:
        self._ui.setupSection.collapsed = False
        slicer.app.processEvents()  # lays the section out
        scroll_to(self._ui.setupSection)
        if self._setting().kind == "slicer":
            self._install()

    def _install_from_folder(self) -> None:
        if path := qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), _("Folder of wheels")):
            self._install(Path(path))

    def _install(self, wheels: Path | None = None) -> None:
        """Plan, ask, carry out."""
        with problems_shown():
            plan = self._installation.plan(wheels)
            if not plan.steps:
                slicer.util.infoDisplay(_("Nothing is missing in Slicer's Python."))
            elif slicer.util.confirmOkCancelDisplay(plan_text(plan)) and self._carry_out(plan):
                self._restart()

    def _carry_out(self, plan: Plan) -> bool:
        """Whether everything is installed now."""
        try:
            with slicer.util.WaitCursor():
                return self._installation.carry_out(plan)
        except InputError:
            raise
        except Exception as error:  # pip, the extension and the network fail in many ways
            raise InputError(_("The installation failed: {error}").format(error=error)) from error

    def _copy_diagnostics(self) -> None:
        worker = self._work.worker
        facts = Facts(
            version=__version__,
            slicer=f"{slicer.app.applicationVersion} {slicer.app.revision}",
            system=platform.platform(),
            python=platform.python_version(),
            worker=self._setting().kind,
            state=worker.state if worker else "off",
            hello=worker.hello if worker else None,
            device=worker.device if worker else "",
            packages=installed_here(),
            models=self.models,
            error=self._run.last_error,
            stderr=worker.log.splitlines() if worker else (),
        )
        private = [*_names_in_scene(), self._setting().where]
        slicer.app.clipboard().setText(report(facts, Path.home(), getuser(), private))
        slicer.util.showStatusMessage(_("The diagnostics are in the clipboard."), 5000)


def _names_in_scene() -> list[str]:
    """Names of nodes and segments, which may be those of patients."""
    nodes = slicer.util.getNodesByClass("vtkMRMLDisplayableNode")
    segments = [
        segmentation.GetNthSegment(place).GetName()
        for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
        for segmentation in [node.GetSegmentation()]
        for place in range(segmentation.GetNumberOfSegments())
    ]
    return [node.GetName() or "" for node in nodes] + segments
