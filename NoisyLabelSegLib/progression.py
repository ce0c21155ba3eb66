"""How a segment's mask changes from stage to stage: the rows of `Result.statistics`, and what is alarming in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from NoisyLabelSegLib import metrics
from NoisyLabelSegLib.regions import Region, union

LEAST_DICE, MOST_GROWTH = 0.5, 2.0
"""Beyond these a result has little to do with the given mask."""


def statistics(
    names: Sequence[str], stages: Sequence[Sequence[Region]], spacing: Sequence[float], *, from_nothing: bool = False
) -> Iterator[dict[str, Any]]:
    """Yield a row for each segment and stage.

    Args:
        names: the segments'.
        stages: for every stage, the given one first, each segment's mask (bool).
        spacing: in mm, of the axes I, J, K.
        from_nothing: no mask was given that the result could be compared with.
    """
    voxel = float(np.prod(spacing))
    for place, name in enumerate(names):
        box = union(stage[place].box for stage in stages)
        first = previous = stages[0][place].cut(box)
        for number, stage in enumerate(stages):
            mask = stage[place].cut(box)
            changed = int(np.count_nonzero(mask != previous))
            yield {
                "segment": name,
                "stage": number,
                "volume_mm3": float(np.count_nonzero(mask)) * voxel,
                "dice_to_given": None if from_nothing else metrics.dice(mask, first),
                "hd95_to_given_mm": _hd95(mask, first, spacing) if number and not from_nothing else None,
                "hd95_to_previous_mm": _hd95(mask, previous, spacing) if number else None,
                "changed_voxels": changed,
            }
            previous = mask


def _hd95(mask: NDArray[np.bool_], other: NDArray[np.bool_], spacing: Sequence[float]) -> float | None:
    """In mm; None where one of both is empty."""
    if np.array_equal(mask, other):
        return 0.0
    return metrics.hd95(mask, other, spacing[::-1]) if mask.any() and other.any() else None


def doubts(rows: Sequence[Mapping[str, Any]], stages: int) -> list[str]:
    """A sentence for each segment whose result hardly resembles its given mask.

    Args:
        rows: see `statistics`.
        stages: rows of each segment.
    """
    sentences = []
    for first, last in zip(rows[::stages], rows[stages - 1 :: stages], strict=True):
        dice, before = last["dice_to_given"], first["volume_mm3"]
        if dice is None or not before:
            continue
        growth = last["volume_mm3"] / before
        if dice < LEAST_DICE or not 1 / MOST_GROWTH <= growth <= MOST_GROWTH:
            times = f"{growth:.2f}" if growth < 10 else f"{growth:,.0f}"
            sentences.append(
                f"The result barely resembles the given mask of '{last['segment']}' (Dice {dice:.2f}, "
                f"volume x {times}): check it before use."
            )
    return sentences


def extensions(names: Sequence[str], before: Sequence[Region], after: Sequence[Region], slice_axis: int) -> list[str]:
    """A sentence for each segment, not empty when given, that has got a mask in slices where it had none.

    Args:
        names: the segments'.
        before, after: each segment's mask (bool), as given and as it is now.
        slice_axis: of the axes I, J, K that across the slices.
    """
    others = tuple(axis for axis in range(3) if axis != 2 - slice_axis)
    sentences = []
    for name, given, result in zip(names, before, after, strict=True):
        box = union((given.box, result.box))
        had, has = given.cut(box).any(axis=others), result.cut(box).any(axis=others)
        if had.any() and (count := int(np.count_nonzero(has & ~had))):
            slices = "1 slice" if count == 1 else f"{count} slices"
            sentences.append(f"The mask of '{name}' was extended to {slices} where it was empty.")
    return sentences
