"""The section with volumes and distances."""

from __future__ import annotations

from typing import Any

import qt
import slicer

from NoisyLabelSegSlicer.panel import tables
from NoisyLabelSegSlicer.panel.files import ask_for_csv, write_csv
from NoisyLabelSegSlicer.panel.statistics_columns import cells, headings
from NoisyLabelSegSlicer.panel.widgets import problems_shown
from NoisyLabelSegSlicer.session import Session
from NoisyLabelSegSlicer.statistics import Row
from NoisyLabelSegSlicer.translation import _

PAUSE_MILLISECONDS = 300


class StatisticsSection:
    """A row for each segment: how large before and after, and how alike.

    Args:
        ui: the panel's widgets.
    """

    def __init__(self, ui: Any) -> None:
        self._ui = ui
        self._session: Session | None = None
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(PAUSE_MILLISECONDS)
        self._timer.connect("timeout()", self._fill)
        ui.statisticsSection.connect("contentsCollapsed(bool)", self._fill)
        ui.copyStatisticsButton.connect("clicked()", self._copy)
        ui.exportStatisticsButton.connect("clicked()", self._export)

    def show(self, session: Session | None) -> None:
        """Show the figures of a result as it is now."""
        self._session = session
        self._ui.statisticsSection.enabled = session is not None
        self._timer.start()  # distances take a moment on large structures, and one decision follows another

    def _fill(self, _collapsed: bool = False) -> None:
        # Nobody waits for what is not shown.
        if not self._ui.statisticsSection.collapsed:
            rows = self._session.statistics_rows() if self._session else []
            nothing = self._session is not None and self._session.from_nothing
            content = [cells(row, from_nothing=nothing) for row in rows]
            tables.fill(self._ui.statisticsTable, headings(from_nothing=nothing), content)
            tables.fit(self._ui.statisticsTable)

    def _copy(self) -> None:
        slicer.app.clipboard().setText(tables.text_of(self._ui.statisticsTable))

    def _export(self) -> None:
        if self._session and (path := ask_for_csv(_("Save the statistics"), self._session.result.GetName())):
            with problems_shown():
                write_csv(path, list(Row.__annotations__), self._session.statistics_rows())
