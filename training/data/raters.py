"""An expert and a coarse mask from several raters of equal standing (thesis section 3.4.1, LIDC-IDRI).

The expert is the consensus; the coarse mask is, slice by slice, that of the rater who deviates most from it. Slices are
those along the arrays' first axis.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def consensus(raters: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Voxels that more than half of the raters marked; ``raters`` is (rater, slice, row, column)."""
    return raters.sum(axis=0) * 2 > len(raters)


def most_deviating(raters: NDArray[np.bool_], expert: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """In each slice the mask of the rater with the lowest Dice to ``expert``; ties go to the larger disagreement."""
    axes = (2, 3)
    overlap = (raters & expert).sum(axis=axes)
    total = raters.sum(axis=axes) + expert.sum(axis=(1, 2))
    dice = np.where(total > 0, 2 * overlap / np.maximum(total, 1), 1.0)
    disagreement = (raters ^ expert).sum(axis=axes)
    worst = np.lexsort((-disagreement, dice), axis=0)[0]
    return np.take_along_axis(raters, worst[None, :, None, None], axis=0)[0]
