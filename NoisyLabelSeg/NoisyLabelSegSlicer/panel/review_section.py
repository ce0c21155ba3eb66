"""The section in which a person goes through the changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import qt
import slicer

from NoisyLabelSegSlicer.panel import tables
from NoisyLabelSegSlicer.panel.files import ask_for_csv
from NoisyLabelSegSlicer.panel.review_rows import DECISION, SEEN, decision_text, headings, rows
from NoisyLabelSegSlicer.panel.texts import reviewed_text
from NoisyLabelSegSlicer.panel.widgets import problems_shown
from NoisyLabelSegSlicer.session import Session
from NoisyLabelSegSlicer.translation import _
from NoisyLabelSegSlicer.views import is_background


class ReviewSection:
    """The list of changes, the buttons that decide about them, and their keys.

    Args:
        ui: the panel's widgets.
        decided: called when the result has changed.
    """

    def __init__(self, ui: Any, decided: Callable[[], None]) -> None:
        self._ui, self._decided = ui, decided
        self._session: Session | None = None
        self._listed: list[str] = []
        ui.reviewTable.connect("itemSelectionChanged()", self._jump)
        ui.reviewTable.connect("itemChanged(QTableWidgetItem*)", self._ticked)
        actions = (
            (ui.acceptButton, "A", self._accept),
            (ui.revertButton, "X", self._revert),
            (ui.nextButton, "N", self._next),
            (ui.undoButton, "Z", self._undo),
            (ui.redoButton, "Y", self._redo),
            (ui.acceptAllButton, "", self._accept_all),
            (ui.revertAllButton, "", self._revert_all),
            (ui.exportReviewButton, "", self._export),
        )
        for button, _key, action in actions:
            button.connect("clicked()", action)
        keys = {key: button.click for button, key, _action in actions if key}
        keys |= {"M": self._toggle_seen, "C": ui.showChangesCheckBox.toggle}
        self._shortcuts = [_shortcut(key, self._if_seen(action), ui.reviewTable) for key, action in keys.items()]
        self.listen(False)

    def listen(self, on: bool) -> None:
        """Let the keys work; they belong to other modules when this one is not shown."""
        for shortcut in self._shortcuts:
            shortcut.enabled = on

    def _if_seen(self, action: Callable[[], None]) -> Callable[[], None]:
        """A key must not change what nobody looks at: a list that is folded up, or a result over another image."""

        def react() -> None:
            session = self._session
            if session and not self._ui.reviewSection.collapsed and is_background(session.volume):
                action()

        return react

    def remove(self) -> None:
        """Take the keys from the main window."""
        for shortcut in self._shortcuts:
            shortcut.setParent(None)
            shortcut.deleteLater()

    def show(self, session: Session | None) -> None:
        """List the changes of a result, or bring the decisions up to date."""
        self._session = session
        keys = session.review.listed() if session else []
        table = self._ui.reviewTable
        blocked = table.blockSignals(True)
        if session and keys == self._listed:
            self._update(session)
        else:
            tables.fill(table, *(_content(session) if session else ([], [])), keys)
            table.setSortingEnabled(True)
        table.blockSignals(blocked)
        self._listed = keys
        self._enable()

    def _update(self, session: Session) -> None:
        table = self._ui.reviewTable
        table.setSortingEnabled(False)
        for row in range(table.rowCount):
            key = tables.key_of(table, row)
            table.item(row, DECISION).setText(decision_text(session.review, key))
            table.item(row, SEEN).setCheckState(qt.Qt.Checked if session.review.is_reviewed(key) else qt.Qt.Unchecked)
        table.setSortingEnabled(True)

    def _enable(self) -> None:
        ui, review = self._ui, self._session.review if self._session else None
        for button in (ui.acceptButton, ui.revertButton, ui.acceptAllButton, ui.revertAllButton, ui.exportReviewButton):
            button.enabled = bool(self._listed)
        ui.nextButton.enabled = review is not None and review.next_unreviewed() is not None
        ui.undoButton.enabled = review is not None and review.can_undo
        ui.redoButton.enabled = review is not None and review.can_redo
        seen = sum(review.is_reviewed(key) for key in self._listed) if review else 0
        nothing = self._session is not None and self._session.from_nothing
        ui.reviewCounterLabel.text = reviewed_text(seen, len(self._listed), from_nothing=nothing) if review else ""

    def _selected(self) -> list[str]:
        table = self._ui.reviewTable
        return [tables.key_of(table, row.row()) for row in table.selectionModel().selectedRows()]

    def _jump(self) -> None:
        if self._session and len(selected := self._selected()) == 1:
            self._session.jump_to(selected[0])

    def _ticked(self, item: Any) -> None:
        if self._session and item.column() == SEEN:
            key = tables.key_of(self._ui.reviewTable, item.row())
            with problems_shown():
                self._session.tick([key], item.checkState() == qt.Qt.Checked)
            self._decided()

    def _toggle_seen(self) -> None:
        if self._session and (selected := self._selected()):
            with problems_shown():
                self._session.tick(selected, not self._session.review.is_reviewed(selected[0]))
            self._decided()

    def _accept(self) -> None:
        self._decide(lambda session, keys: session.accept(keys))

    def _revert(self) -> None:
        self._decide(lambda session, keys: session.revert(keys))

    def _decide(self, action: Callable[[Session, Sequence[str]], None]) -> None:
        if self._session and (selected := self._selected()):
            with problems_shown():
                action(self._session, selected)
            self._decided()
            self._go_to(self._session.review.next_unreviewed(selected[-1]))

    def _next(self) -> None:
        if self._session:
            selected = self._selected()
            self._go_to(self._session.review.next_unreviewed(selected[-1] if selected else None))

    def _go_to(self, key: str | None) -> None:
        if key is not None:
            self._ui.reviewTable.selectRow(tables.row_of(self._ui.reviewTable, key))

    def _accept_all(self) -> None:
        self._all(lambda session, keys: session.accept(keys))

    def _revert_all(self) -> None:
        self._all(lambda session, keys: session.revert(keys))

    def _all(self, action: Callable[[Session, Sequence[str]], None]) -> None:
        if self._session:
            with problems_shown():
                action(self._session, self._listed)
            self._decided()

    def _undo(self) -> None:
        if self._session:
            with problems_shown():
                self._session.undo()
            self._decided()

    def _redo(self) -> None:
        if self._session:
            with problems_shown():
                self._session.redo()
            self._decided()

    def _export(self) -> None:
        if self._session and (path := ask_for_csv(_("Save the review"), f"{self._session.result.GetName()} review")):
            with problems_shown():
                self._session.save_csv(path)


def _content(session: Session) -> tuple[list[tables.Heading], tables.Rows]:
    """The headings and rows of a result's review."""
    names, nothing = session.names, session.from_nothing
    found = rows(session.review, names, session.slice_of, from_nothing=nothing)
    return headings(session.review, names, from_nothing=nothing), found


def _shortcut(key: str, action: Callable[[], None], fallback: Any) -> qt.QShortcut:
    """A key for the whole main window: the hands are on the views as often as on the panel."""
    shortcut = qt.QShortcut(qt.QKeySequence(key), slicer.util.mainWindow() or fallback)
    shortcut.connect("activated()", action)
    return shortcut
