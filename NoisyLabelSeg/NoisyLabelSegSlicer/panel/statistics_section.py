"""The section with volumes and distances."""

from __future__ import annotations

from typing import Any

import qt
import slicer

from NoisyLabelSegSlicer.panel import tables
from NoisyLabelSegSlicer.panel.files import ask_for_csv, write_csv
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
            tables.fill(self._ui.statisticsTable, _headings(), [_cells(row) for row in rows])
            tables.fit(self._ui.statisticsTable)

    def _copy(self) -> None:
        slicer.app.clipboard().setText(tables.text_of(self._ui.statisticsTable))

    def _export(self) -> None:
        if self._session and (path := ask_for_csv(_("Save the statistics"), self._session.result.GetName())):
            with problems_shown():
                write_csv(path, list(Row.__annotations__), self._session.statistics_rows())


def _headings() -> list[tables.Heading]:
    return [
        (_("Segment"), ""),
        (_("Before, mm³"), _("Volume of the given mask")),
        (_("After, mm³"), _("Volume of the result")),
        (_("Dice"), _("Overlap of result and given mask: 1 is the same")),
        (_("HD95, mm"), _("95 % of both surfaces are nearer than this to the other one")),
    ]


def _cells(row: Row) -> list[tables.Cell]:
    """As a person reads it; the file has all digits."""
    dice, distance = row["dice"], row["hd95_mm"]
    return [
        row["segment"],
        round(row["volume_before_mm3"], 1),
        round(row["volume_after_mm3"], 1),
        None if dice is None else round(dice, 3),
        None if distance is None else round(distance, 2),
    ]
