"""The section that keeps a correction as a training case."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer

from NoisyLabelSegSlicer.correction import save_pair
from NoisyLabelSegSlicer.panel.widgets import problems_shown
from NoisyLabelSegSlicer.session import Session
from NoisyLabelSegSlicer.translation import _


class CorrectionSection:
    """Where a pair of rough and accepted mask goes, and under which names.

    Args:
        ui: the panel's widgets.
    """

    def __init__(self, ui: Any) -> None:
        self._ui = ui
        self._session: Session | None = None
        ui.saveCorrectionButton.connect("clicked()", self._save)
        ui.correctionFolder.connect("currentPathChanged(QString)", self._enable)
        ui.correctionCaseEdit.connect("textChanged(QString)", self._enable)
        ui.correctionPatientEdit.connect("textChanged(QString)", self._enable)

    def show(self, session: Session | None) -> None:
        """Offer to save a result."""
        self._session = session
        self._ui.correctionSection.enabled = session is not None
        self._enable()

    def _enable(self, _text: str = "") -> None:
        texts = [edit.text.strip() for edit in (self._ui.correctionCaseEdit, self._ui.correctionPatientEdit)]
        given = all(texts) and bool(self._ui.correctionFolder.currentPath)
        self._ui.saveCorrectionButton.enabled = given and self._session is not None

    def _save(self) -> None:
        if self._session is None:
            return
        folder, case = Path(self._ui.correctionFolder.currentPath), self._ui.correctionCaseEdit.text.strip()
        with problems_shown(), slicer.util.WaitCursor():
            save_pair(self._session, folder, case, self._ui.correctionPatientEdit.text.strip())
            self._ui.correctionFolder.addCurrentPathToHistory()
            slicer.util.showStatusMessage(_("The pair {case} is in {folder}.").format(case=case, folder=folder), 5000)
