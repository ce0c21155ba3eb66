"""The section that starts, follows and stops the computation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer

from NoisyLabelSegSlicer.client import Progress
from NoisyLabelSegSlicer.panel.readiness import Inputs, goes_by_stages, hint, missing, verb
from NoisyLabelSegSlicer.panel.texts import device_text, progress_text
from NoisyLabelSegSlicer.panel.widgets import show_warning
from NoisyLabelSegSlicer.translation import _


class RunSection:
    """Buttons, progress and the one sentence that says how it ended.

    Attributes:
        last_error: the last sentence that was shown as one; empty before.

    Args:
        ui: the panel's widgets.
        run: called when the person starts.
        cancel: called when the person stops.
        open_results: called with the folder of a result from elsewhere.
    """

    def __init__(
        self, ui: Any, run: Callable[[], None], cancel: Callable[[], None], open_results: Callable[[Path], None]
    ) -> None:
        self._ui, self._open_results, self.last_error = ui, open_results, ""
        ui.runButton.connect("clicked()", run)
        ui.cancelButton.connect("clicked()", cancel)
        ui.openResultsButton.connect("clicked()", self._ask_for_results)
        show_warning(ui.messageIcon)
        self.say("")

    def begin(self) -> None:
        """A run has been asked for, and nothing is known of it yet."""
        self._ui.progressBar.value = 0
        self._ui.progressLabel.text = _("Starting…")

    def show(self, inputs: Inputs, busy: bool) -> None:
        """Offer what can be done now; a tooltip says what is missing."""
        lacking = missing(inputs)
        self._ui.runButton.text = verb(inputs)
        self._ui.runButton.enabled = not lacking and not busy
        self._ui.runButton.toolTip = lacking or verb(inputs)
        self._ui.stagesLabel.visible = self._ui.stagesSpinBox.visible = goes_by_stages(inputs)
        self._ui.cancelButton.enabled = busy
        self._ui.openResultsButton.enabled = not busy
        self._ui.progressBar.visible = busy
        if not busy:
            self._ui.progressLabel.text = lacking or hint(inputs)
        self._ui.progressLabel.visible = bool(self._ui.progressLabel.text)

    def follow(self, progress: Progress) -> None:
        """Show how far it is."""
        self._ui.progressBar.value = round(1000 * progress.done)
        self._ui.progressLabel.text = progress_text(progress)
        self.used(progress.device)

    def used(self, device: str) -> None:
        """Say where it really runs or ran."""
        if device:
            self._ui.deviceLabel.text = device_text(device)

    def say(self, sentence: str) -> None:
        """How the last run ended, if it did not end well; an empty sentence says nothing."""
        self._ui.messageLabel.text = sentence
        self._ui.messageFrame.visible = bool(sentence)
        self.last_error = sentence or self.last_error

    def _ask_for_results(self) -> None:
        if path := qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), _("Folder of a result")):
            self._open_results(Path(path))
