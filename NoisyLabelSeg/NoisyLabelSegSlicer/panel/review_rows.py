"""The review as rows of a table, columns that say nothing left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from NoisyLabelSegLib.review import Review
from NoisyLabelSegSlicer.translation import _

Cell = str | int | float | bool | None
SliceOf = Callable[[tuple[int, int, int]], int]

SEEN, DECISION = 0, 1
"""Columns that a decision changes."""


def headings(review: Review, names: Sequence[str], *, from_nothing: bool = False) -> list[tuple[str, str]]:
    """Titles and explanations of the columns that `rows` fills."""
    decision = _("Accepted changes stay; reverted ones are as the given mask")
    unsure = (_("Unsure"), _("Mean uncertainty of the model: 0 is sure, 1 is as good as a coin"))
    if from_nothing:
        decision = _("What is accepted stays; what is reverted is gone")
    elif review.uncertain_first:
        unsure = (_("Suspect"), _("How wrong the given label looks on average: 0 is right, 1 is wrong"))
    kind = (_("Change"), _("Whether voxels were added to the given mask or removed from it"))
    return [
        (_("Seen"), _("Tick what you have looked at (M)")),
        (_("Decision"), decision),
        *([] if from_nothing else [kind]),
        (_("mm³"), _("Its volume")),
        (_("Slice"), _("The slice, counted from 1, in its middle")),
        *([(_("Stage"), _("The stage at which most of it appeared"))] if _has_stages(review) else []),
        *([(_("Segment"), "")] if len(names) > 1 else []),
        *([unsure] if _has_uncertainty(review) else []),
    ]


def rows(review: Review, names: Sequence[str], slice_of: SliceOf, *, from_nothing: bool = False) -> list[list[Cell]]:
    """A row for each change, in the review's order.

    Args:
        review: whose changes.
        names: of the segments.
        slice_of: gives for a voxel's index (I, J, K) the number of its slice as a person counts.
        from_nothing: whether no mask was given.
    """
    return [list(_row(review, key, names, slice_of, from_nothing)) for key in review.listed()]


def decision_text(review: Review, key: str) -> str:
    """What was decided about a change, in a word; empty where it is open."""
    return {"open": "", "accepted": _("accepted"), "reverted": _("reverted")}[review.decision(key)]


def _row(review: Review, key: str, names: Sequence[str], slice_of: SliceOf, from_nothing: bool) -> Iterator[Cell]:
    change = review.change(key)
    yield review.is_reviewed(key)
    yield decision_text(review, key)
    if not from_nothing:
        yield _("added") if change.kind == "added" else _("removed")
    yield _rounded(change.volume_mm3)
    yield slice_of(change.centre)
    if _has_stages(review):
        yield change.stage
    if len(names) > 1:
        yield names[change.segment]
    if _has_uncertainty(review):
        yield None if change.uncertainty is None else round(change.uncertainty, 2)


def _has_stages(review: Review) -> bool:
    return review.stage > 1


def _has_uncertainty(review: Review) -> bool:
    return any(change.uncertainty is not None for change in review.changes)


def _rounded(value: float) -> float:
    """Three digits are what a person reads."""
    return float(f"{value:.3g}")
