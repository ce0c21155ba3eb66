"""Filling tables so that columns of numbers sort as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import qt

from NoisyLabelSegLib.tables import harmless

Cell = str | int | float | bool | None
"""Text, a number, a box to tick, or nothing."""

Heading = tuple[str, str]
"""A column's title, and what it means."""

Rows = Sequence[Sequence[Cell]]


def fill(table: qt.QTableWidget, headings: Sequence[Heading], rows: Rows, keys: Sequence[str] = ()) -> None:
    """Show rows, each with a key that `key_of` gives back wherever sorting moves the row to."""
    table.setSortingEnabled(False)  # else a row moves while it is being filled
    table.clearContents()
    table.setColumnCount(len(headings))
    table.setHorizontalHeaderLabels([title for title, _ in headings])
    for column, (_, meaning) in enumerate(headings):
        table.horizontalHeaderItem(column).setToolTip(meaning)
    table.setRowCount(len(rows))
    for place, row in enumerate(rows):
        for column, value in enumerate(row):
            table.setItem(place, column, _item(value))
        if keys:
            table.item(place, 0).setData(qt.Qt.UserRole, keys[place])
    table.resizeColumnsToContents()


def fit(table: qt.QTableWidget, most: int = 8) -> None:
    """Make a table as high as its rows, up to so many."""
    rows = range(min(table.rowCount, most))
    height = table.horizontalHeader().height + sum(map(table.rowHeight, rows)) + 2 * table.frameWidth
    table.setFixedHeight(height + table.horizontalScrollBar().sizeHint.height())


def key_of(table: qt.QTableWidget, row: int) -> str:
    """The key of the row that is now at this place."""
    return str(table.item(row, 0).data(qt.Qt.UserRole))


def row_of(table: qt.QTableWidget, key: str) -> int:
    """Where the row with a key is now; -1 when there is none."""
    return next((row for row in range(table.rowCount) if key_of(table, row) == key), -1)


def text_of(table: qt.QTableWidget) -> str:
    """The table as tab-separated text, which spreadsheets take from the clipboard."""
    columns = range(table.columnCount)
    lines = [[table.horizontalHeaderItem(column).text() for column in columns]]
    lines += [[harmless(table.item(row, column).text()) for column in columns] for row in range(table.rowCount)]
    return "\n".join("\t".join(line) for line in lines)


def _item(value: Cell) -> Any:
    item = qt.QTableWidgetItem()
    if isinstance(value, bool):
        item.setFlags(item.flags() | qt.Qt.ItemIsUserCheckable)
        item.setCheckState(qt.Qt.Checked if value else qt.Qt.Unchecked)
    elif value is not None:
        item.setData(qt.Qt.DisplayRole, value)
        if not isinstance(value, str):
            item.setTextAlignment(int(qt.Qt.AlignRight | qt.Qt.AlignVCenter))
    return item
