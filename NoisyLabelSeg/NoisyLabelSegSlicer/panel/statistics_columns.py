"""The statistics as columns of a table, those left out that compare with a mask where none was given."""

from __future__ import annotations

from NoisyLabelSegSlicer.statistics import Row
from NoisyLabelSegSlicer.translation import _


def headings(*, from_nothing: bool = False) -> list[tuple[str, str]]:
    """Titles and explanations of the columns that `cells` fills."""
    if from_nothing:
        return [(_("Segment"), ""), (_("Volume, mm³"), _("Volume of the result"))]
    return [
        (_("Segment"), ""),
        (_("Before, mm³"), _("Volume of the given mask")),
        (_("After, mm³"), _("Volume of the result")),
        (_("Dice"), _("Overlap of result and given mask: 1 is the same")),
        (_("HD95, mm"), _("95 % of both surfaces are nearer than this to the other one")),
    ]


def cells(row: Row, *, from_nothing: bool = False) -> list[str | float | None]:
    """A segment as a person reads it; the file has all columns, and all digits."""
    dice, distance, after = row["dice"], row["hd95_mm"], round(row["volume_after_mm3"], 1)
    if from_nothing:
        return [row["segment"], after]
    return [
        row["segment"],
        round(row["volume_before_mm3"], 1),
        after,
        None if dice is None else round(dice, 3),
        None if distance is None else round(distance, 2),
    ]
