"""The section that chooses the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import qt
import slicer

from NoisyLabelSegSlicer.model_facts import details, summary
from NoisyLabelSegSlicer.panel.readiness import Workflow, workflow_of, workflows
from NoisyLabelSegSlicer.panel.widgets import show_warning
from NoisyLabelSegSlicer.translation import _

DISABLED = qt.Qt.UserRole - 1
"""The role in which a combo box keeps whether an item can be chosen."""


class ModelSection:
    """The models by workflow, what the chosen one says about itself, and its files.

    Args:
        ui: the panel's widgets.
        chosen: called when the person chose another model.
        add: called with the path of a folder or zip file to import.
        remove: called with the name of the model to delete.
    """

    def __init__(
        self, ui: Any, chosen: Callable[[], None], add: Callable[[str], None], remove: Callable[[str], None]
    ) -> None:
        self._ui, self._chosen, self._add, self._remove = ui, chosen, add, remove
        self._models: dict[str, dict[str, Any]] = {}
        self._here = True
        ui.modelSelector.connect("activated(int)", self._activated)
        ui.modelDetailsBrowser.connect("anchorClicked(QUrl)", qt.QDesktopServices.openUrl)
        show_warning(ui.modelWarningIcon)
        menu = qt.QMenu(ui.importModelButton)
        menu.addAction(_("From a folder…")).connect("triggered()", self._import_folder)
        menu.addAction(_("From a zip file…")).connect("triggered()", self._import_zip)
        ui.importModelButton.setMenu(menu)
        ui.removeModelButton.connect("clicked()", self._confirm_removal)
        ui.openModelButton.connect("clicked()", self._open_folder)

    def show(self, models: Sequence[dict[str, Any]], here: bool) -> None:
        """List the models as the worker describes them; ``here`` says whether their files are on this computer."""
        self._here = here
        selector = self._ui.modelSelector
        blocked = selector.blockSignals(True)
        selector.clear()
        self._models = {model["description"]["name"]: model for model in models if "description" in model}
        for workflow in workflows():
            self._heading(workflow.title)
            names = [n for n, model in self._models.items() if model["description"]["kind"] == workflow.kind]
            for name in names:
                selector.addItem(f"    {name}", name)
            if not names:
                self._heading("    " + _("not available yet"))
        for broken in (model for model in models if "reason" in model):
            reason = f"<qt>{escape(broken['reason'])}</qt>"  # a stranger's text
            self._heading(_("{folder} cannot be used").format(folder=Path(broken["folder"]).name), reason)
        selector.setCurrentIndex(-1)
        selector.blockSignals(blocked)
        self._describe()

    def choose(self, name: str) -> None:
        """Choose a model by its name, if it is there."""
        if name in self._models and name != self.name:
            self._ui.modelSelector.setCurrentIndex(self._ui.modelSelector.findData(name))
            self._describe()

    @property
    def descriptions(self) -> list[dict[str, Any]]:
        """Of all models that can be chosen."""
        return [model["description"] for model in self._models.values()]

    @property
    def name(self) -> str:
        """Of the chosen model; empty when there is none."""
        return str(self._ui.modelSelector.currentData or "")

    @property
    def description(self) -> dict[str, Any] | None:
        """What the chosen model says about itself."""
        return self._models[self.name]["description"] if self.name in self._models else None

    @property
    def workflow(self) -> Workflow | None:
        """What the chosen model is for."""
        return workflow_of(self.description["kind"]) if self.description else None

    def warn(self, text: str) -> None:
        """Say that the volume does not look like what the model was made for; an empty text says nothing."""
        self._ui.modelWarningLabel.text = text
        self._ui.modelWarningFrame.visible = bool(text)

    def _heading(self, text: str, tip: str = "") -> None:
        selector = self._ui.modelSelector
        selector.addItem(text)
        selector.setItemData(selector.count - 1, 0, DISABLED)
        selector.setItemData(selector.count - 1, tip, qt.Qt.ToolTipRole)

    def _activated(self, _index: int) -> None:
        self._describe()
        self._chosen()

    def _describe(self) -> None:
        model = self._models.get(self.name)
        self._ui.modelSummaryLabel.text = summary(model["description"]) if model else _("There is no model yet.")
        self._ui.modelDetailsBrowser.setHtml(details(model["description"], model["folder"]) if model else "")
        self._ui.removeModelButton.enabled = bool(model and model["removable"])
        self._ui.importModelButton.enabled = self._here
        self._ui.openModelButton.enabled = bool(model) and self._here

    def _import_folder(self) -> None:
        if path := qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), _("Folder of a model")):
            self._add(path)

    def _import_zip(self) -> None:
        title, filter_ = _("Zip file of a model"), _("Zip files") + " (*.zip)"
        if path := qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), title, "", filter_):
            self._add(path)

    def _confirm_removal(self) -> None:
        question = _("Delete the model “{name}” from this computer?").format(name=self.name)
        if slicer.util.confirmYesNoDisplay(question):
            self._remove(self.name)

    def _open_folder(self) -> None:
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(self._models[self.name]["folder"]))
