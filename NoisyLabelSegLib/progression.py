"""How a segment's mask changes from stage to stage: the rows of `Result.statistics`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from NoisyLabelSegLib import metrics
from NoisyLabelSegLib.regions import Region, union


def statistics(
    names: Sequence[str], stages: Sequence[Sequence[Region]], spacing: Sequence[float]
) -> Iterator[dict[str, Any]]:
    """Yield a row for each segment and stage.

    Args:
        names: the segments'.
        stages: for every stage, the given one first, each segment's mask (bool).
        spacing: in mm, of the axes I, J, K.
    """
    voxel = float(np.prod(spacing))
    for place, name in enumerate(names):
        box = union(stage[place].box for stage in stages)
        first = previous = stages[0][place].cut(box)
        for number, stage in enumerate(stages):
            mask = stage[place].cut(box)
            changed = int(np.count_nonzero(mask != previous))
            distance = metrics.hd95(mask, previous, spacing[::-1]) if changed else 0.0
            yield {
                "segment": name,
                "stage": number,
                "volume_mm3": float(np.count_nonzero(mask)) * voxel,
                "dice_to_given": metrics.dice(mask, first),
                "hd95_to_previous_mm": distance if number and np.isfinite(distance) else None,
                "changed_voxels": changed,
            }
            previous = mask
