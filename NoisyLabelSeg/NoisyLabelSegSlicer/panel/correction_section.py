"""The section that keeps a correction, or drawings, as a training case."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer

from NoisyLabelSegLib.training_set import has_case
from NoisyLabelSegSlicer.correction import save_drawings, save_pair
from NoisyLabelSegSlicer.panel.widgets import problems_shown
from NoisyLabelSegSlicer.session import Session
from NoisyLabelSegSlicer.translation import _

PAIR, DRAWINGS = range(2)


class CorrectionSection:
    """What is kept, where it goes, and under which names.

    Args:
        ui: the panel's widgets.
    """

    def __init__(self, ui: Any) -> None:
        self._ui = ui
        self._session: Session | None = None
        self._drawn: tuple[Any, Any] = (None, None)
        ui.correctionKindSelector.addItems(
            [_("rough mask and accepted result (pair)"), _("drawings (segments named RV, not RV, …)")]
        )
        ui.correctionKindSelector.connect("currentIndexChanged(int)", self._enable)
        ui.saveCorrectionButton.connect("clicked()", self._save)
        ui.correctionFolder.connect("currentPathChanged(QString)", self._enable)
        ui.correctionCaseEdit.connect("textChanged(QString)", self._enable)
        ui.correctionPatientEdit.connect("textChanged(QString)", self._enable)

    def show(self, session: Session | None) -> None:
        """Offer to save a result."""
        self._session = session
        self._enable()

    def offer(self, volume: Any, segmentation: Any) -> None:
        """Offer to save what is drawn on a volume; None where none is chosen."""
        self._drawn = (volume, segmentation)
        self._enable()

    def _enable(self, _changed: Any = None) -> None:
        texts = [edit.text.strip() for edit in (self._ui.correctionCaseEdit, self._ui.correctionPatientEdit)]
        named = all(texts) and bool(self._ui.correctionFolder.currentPath)
        there = {PAIR: self._session is not None, DRAWINGS: None not in self._drawn}
        self._ui.correctionSection.enabled = any(there.values())
        self._ui.saveCorrectionButton.enabled = named and there[self._kind]

    @property
    def _kind(self) -> int:
        return self._ui.correctionKindSelector.currentIndex

    def _save(self) -> None:
        folder, case = Path(self._ui.correctionFolder.currentPath), self._ui.correctionCaseEdit.text.strip()
        with problems_shown():
            replace = has_case(folder, case)
            unseen = _unseen(self._session) if self._session and self._kind == PAIR else ""
            doubts = [doubt for doubt in (unseen, _replaced(case) if replace else "") if doubt]
            if not doubts or slicer.util.confirmOkCancelDisplay("\n".join(doubts)):
                self._save_as(folder, case, overwrite=replace)

    def _save_as(self, folder: Path, case: str, *, overwrite: bool) -> None:
        patient = self._ui.correctionPatientEdit.text.strip()
        with slicer.util.WaitCursor():
            if self._kind == DRAWINGS:
                save_drawings(*self._drawn, folder, case, patient, overwrite=overwrite)
            elif self._session is not None:
                save_pair(self._session, folder, case, patient, overwrite=overwrite)
            self._ui.correctionFolder.addCurrentPathToHistory()
            slicer.util.showStatusMessage(_("The case {case} is in {folder}.").format(case=case, folder=folder), 5000)


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
