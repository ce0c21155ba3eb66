"""Asking the person for files, and tables in them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import qt
import slicer

from NoisyLabelSegLib.images import write_atomically
from NoisyLabelSegLib.tables import harmless
from NoisyLabelSegSlicer.translation import _


def ask_for_csv(title: str, suggestion: str) -> Path | None:
    """Where to write a table; None when the person thinks better of it."""
    filter_ = _("Tables") + " (*.csv)"
    name = qt.QFileDialog.getSaveFileName(slicer.util.mainWindow(), title, f"{suggestion}.csv", filter_)
    if not name:
        return None
    path = Path(name)
    return path if path.suffix else path.with_suffix(".csv")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write a table, or leave an old file as it is when that fails (`InputError`)."""

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            for row in rows:
                values = (row[key] for key in header)
                writer.writerow([harmless(value) if isinstance(value, str) else value for value in values])

    write_atomically(path, write)
