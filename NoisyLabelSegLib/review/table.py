"""The review as a CSV table, a row for each change."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from NoisyLabelSegLib.images import write_atomically
from NoisyLabelSegLib.review.changes import Index
from NoisyLabelSegLib.review.decisions import Review
from NoisyLabelSegLib.tables import harmless

COLUMNS = (
    "segment",
    "kind",
    "volume_mm3",
    "r_mm",
    "a_mm",
    "s_mm",
    "slice",
    "stage",
    "mean_uncertainty",
    "decision",
    "reviewed",
)

Locate = Callable[[Index], tuple[Sequence[float], int]]


def write_csv(path: Path, review: Review, names: Sequence[str], locate: Locate) -> None:
    """Write the table in the order of the review's list; the place is that of each change's centre.

    Args:
        path: the file; an old one is replaced.
        review: whose changes and decisions are written.
        names: of the segments.
        locate: gives for a voxel's index (I, J, K) its point in mm (right, anterior, superior) and the number of its
            slice as a person counts.

    Raises:
        InputError: the file cannot be written.
    """

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", errors="replace", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(_rows(review, names, locate))

    write_atomically(path, write)


def _rows(review: Review, names: Sequence[str], locate: Locate) -> Iterator[list[str]]:
    for change in review.changes:
        point, number = locate(change.centre)
        yield [
            harmless(names[change.segment]),
            change.kind,
            f"{change.volume_mm3:.6g}",
            *(f"{value:.2f}" for value in point),
            str(number),
            str(change.stage),
            "" if change.uncertainty is None else f"{change.uncertainty:.4f}",
            review.decision(change.key),
            "yes" if review.is_reviewed(change.key) else "no",
        ]
