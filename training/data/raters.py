"""An expert and a coarse mask from several raters of equal standing (thesis section 3.4.1, LIDC-IDRI).

The expert is the consensus; the coarse mask is, slice by slice, that of the rater who deviates most from it. Masks are
bool or label maps; ``raters`` is (rater, slice, row, column), the others (slice, row, column).
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Masks = TypeVar("Masks", bound=NDArray[Any])


def consensus(raters: Masks) -> Masks:
    """At each voxel the label that more than half of the raters gave it, else the background."""
    result = np.zeros_like(raters[0])
    for value in _foreground(raters):
        result[(raters == value).sum(axis=0) * 2 > len(raters)] = value
    return result


def most_deviating(raters: Masks, expert: Masks) -> Masks:
    """In each slice the mask of the rater with the lowest mean Dice to ``expert``, of equal ones the more different."""
    dice = np.ones(raters.shape[:2])
    scores = [_dice(raters == value, expert == value) for value in _foreground(raters)]
    if scores:
        count = np.sum([~np.isnan(score) for score in scores], axis=0)
        dice = np.where(count > 0, np.nansum(scores, axis=0) / np.maximum(count, 1), 1)
    disagreement = (raters != expert).sum(axis=(2, 3))
    worst = np.lexsort((-disagreement, dice), axis=0)[0]
    return np.take_along_axis(raters, worst[None, :, None, None], axis=0)[0]


def _foreground(raters: NDArray[Any]) -> list[Any]:
    return [value for value in np.unique(raters) if value]


def _dice(raters: NDArray[np.bool_], expert: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(rater, slice); NaN where neither has anything."""
    overlap = (raters & expert).sum(axis=(2, 3))
    total = raters.sum(axis=(2, 3)) + expert.sum(axis=(1, 2))
    return np.where(total > 0, 2 * overlap / np.maximum(total, 1), np.nan)
