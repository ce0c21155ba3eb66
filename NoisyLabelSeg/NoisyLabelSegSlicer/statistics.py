"""Volumes before and after, and how alike the masks are: of the result as it is now, not as the model left it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from NoisyLabelSegLib import metrics
from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.regions import Region, union


class Row(TypedDict):
    """One segment; a distance is None where one of both masks is empty, and so is Dice where there was no mask."""

    segment: str
    volume_before_mm3: float
    volume_after_mm3: float
    dice: float | None
    hd95_mm: float | None


def statistics_rows(
    names: Sequence[str], before: Sequence[Region], after: Sequence[Region], grid: Grid, *, from_nothing: bool = False
) -> list[Row]:
    """A row for each segment, from its masks (bool); ``from_nothing`` says that there was none before."""
    rows: list[Row] = []
    for name, old, new in zip(names, before, after, strict=True):
        box = union((old.box, new.box))
        first, last = old.cut(box), new.cut(box)
        comparable = first.any() and last.any()
        rows.append(
            {
                "segment": name,
                "volume_before_mm3": float(np.count_nonzero(first) * grid.voxel_mm3),
                "volume_after_mm3": float(np.count_nonzero(last) * grid.voxel_mm3),
                "dice": None if from_nothing else metrics.dice(last, first),
                "hd95_mm": metrics.hd95(last, first, grid.spacing[::-1]) if comparable else None,
            }
        )
    return rows
