"""summary.csv: what became of every case of a run over many, a row for each segment."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import write_atomically
from NoisyLabelSegLib.result import Result
from NoisyLabelSegLib.tables import harmless

COLUMNS = (
    "id",
    "segment",
    "status",
    "message",
    "stages_run",
    "volume_before_mm3",
    "volume_after_mm3",
    "dice_to_given",
    "seconds",
    "request",
)
DONE, FAILED, RUNNING = "done", "failed", "running"

Row = dict[str, str]


class Summary:
    """The table, kept on disk: every change rewrites the file at once or not at all.

    ``request`` is a fingerprint of input, model and settings: a row says nothing about another request.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[str, list[Row]] = {}
        for row in _read(path) if path.exists() else ():
            self._rows.setdefault(row["id"], []).append(row)

    def status(self, case: str) -> tuple[str, str]:
        """A case's status and request; both empty when it was never begun."""
        rows = self._rows.get(case)
        return (rows[0]["status"], rows[0]["request"]) if rows else ("", "")

    def begin(self, case: str, request: str) -> None:
        """Say that the case's files may change from now on, so that a run that is cut off can be taken up again."""
        self._set(case, [{"status": RUNNING, "request": request}])

    def fail(self, case: str, request: str, message: str) -> None:
        """Say why a case has no result."""
        self._set(case, [{"status": FAILED, "message": message, "request": request}])

    def finish(self, case: str, request: str, result: Result) -> None:
        """Give a finished case's figures."""
        self._set(case, [{**row, "status": DONE, "request": request} for row in _figures(result)])

    def _set(self, case: str, rows: list[Row]) -> None:
        full = [{**dict.fromkeys(COLUMNS, ""), **row, "id": case} for row in rows]
        self._rows[case] = [{column: harmless(text) for column, text in row.items()} for row in full]
        write_atomically(self.path, self._write)

    def _write(self, path: Path) -> None:
        with path.open("w", encoding="utf-8", errors="replace", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            for rows in self._rows.values():
                writer.writerows(rows)


def _read(path: Path) -> list[Row]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read: move it away or choose another output folder.") from error
    if tuple(reader.fieldnames or ()) != COLUMNS or any(
        set(row) != set(COLUMNS) or None in row.values() for row in rows
    ):
        raise InputError(f"{path} is not a summary of this program: move it away or choose another output folder.")
    return rows


def _figures(result: Result) -> Iterator[Row]:
    for first, last in first_and_last(result):
        yield {
            "segment": last["segment"],
            "message": " ".join(result.notes),
            "stages_run": str(len(result.stages) - 1),
            "volume_before_mm3": _number(first["volume_mm3"]),
            "volume_after_mm3": _number(last["volume_mm3"]),
            "dice_to_given": _number(last["dice_to_given"]),
            "seconds": f"{result.provenance['seconds']:.2f}",
        }


def first_and_last(result: Result) -> Iterator[tuple[Any, Any]]:
    """Each segment's row of statistics before and after; by place, since names may be alike."""
    count = len(result.stages)
    for start in range(0, len(result.statistics), count):
        yield result.statistics[start], result.statistics[start + count - 1]


def _number(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.6g}"
