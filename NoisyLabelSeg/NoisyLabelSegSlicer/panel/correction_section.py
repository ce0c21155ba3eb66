"""The section that keeps a correction as a training case."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer

from NoisyLabelSegLib.correction_pairs import has_case
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
        with problems_shown():
            replace = has_case(folder, case)
            doubts = [doubt for doubt in (_unseen(self._session), _replaced(case) if replace else "") if doubt]
            if not doubts or slicer.util.confirmOkCancelDisplay("\n".join(doubts)):
                self._save_as(self._session, folder, case, overwrite=replace)

    def _save_as(self, session: Session, folder: Path, case: str, *, overwrite: bool) -> None:
        with slicer.util.WaitCursor():
            save_pair(session, folder, case, self._ui.correctionPatientEdit.text.strip(), overwrite=overwrite)
            self._ui.correctionFolder.addCurrentPathToHistory()
            slicer.util.showStatusMessage(_("The pair {case} is in {folder}.").format(case=case, folder=folder), 5000)


def _unseen(session: Session) -> str:
    """What a person should know before a result that is not reviewed teaches a model."""
    keys = session.review.listed()
    seen = sum(session.review.is_reviewed(key) for key in keys)
    if seen == len(keys):
        return ""
    return _("Only {seen} of {all} changes are reviewed; a model would learn from all of them.").format(
        seen=seen, all=len(keys)
    )


def _replaced(case: str) -> str:
    return _("The case '{case}' is in the folder already and will be replaced.").format(case=case)
