"""The folder that ``python -m training trust`` writes: every case's review, and the least trusted labels of all."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import save_file
from NoisyLabelSegLib.tables import harmless
from NoisyLabelSegLib.uncertainty_outputs import COLUMNS, UncertaintyOutputs, suspect_cells
from training.trust.pictures import picture
from training.trust.review import Reviewed

TABLE = "least_trusted.csv"


class Listed(NamedTuple):
    """A region in the list of all cases.

    Attributes:
        case: the case's id.
        row: see `NoisyLabelSegLib.result.Result.suspects`.
        gradient: the region's mean.
    """

    case: str
    row: dict[str, Any]
    gradient: float


def require_new(folder: Path) -> None:
    """An `InputError` if there is a report already."""
    if (folder / TABLE).exists():
        raise InputError(f"'{folder / TABLE}' exists already: choose another folder or delete it.")


def write_case(one: Reviewed, folder: Path) -> None:
    """Write a case's folder, ``trust.nii.gz`` (omega) in it, and its picture beside it."""
    case = one.trust.case
    outputs = UncertaintyOutputs(folder / case.id)
    with outputs.prepared([case.image, *case.channels]):
        outputs.write(one.result)
        save_file(folder / case.id / "trust.nii.gz", one.trust.omega)
    (folder / f"{case.id}.png").write_bytes(picture(one.result))


def listed(one: Reviewed) -> list[Listed]:
    """A case's regions, as many as are listed."""
    return [
        Listed(one.trust.case.id, dict(row), gradient)
        for row, gradient in zip(one.result.suspects, one.gradients, strict=False)
    ]


def ranked(regions: Iterable[Listed]) -> list[Listed]:
    """All cases' regions, the least trusted first; of equal scores the larger gradient."""
    return sorted(regions, key=lambda one: (-one.row["score"], -one.gradient))


def write_table(regions: Iterable[Listed], folder: Path) -> None:
    """Write a list with its ranks; those of a case are in the case's own."""
    first, *others = COLUMNS
    with (folder / TABLE).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([first, "case", *others, "gradient"])
        for rank, one in enumerate(regions, 1):
            _, *cells = suspect_cells(one.row)
            writer.writerow([rank, harmless(one.case), *cells, f"{one.gradient:.4g}"])
