"""What a person first wants to know of a result with its uncertainty: a row for each structure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import SimpleITK as sitk

from NoisyLabelSegLib.result import Result
from NoisyLabelSegLib.summary import first_and_last


def structures_of(result: Result) -> list[dict[str, Any]]:
    """For each structure the keys ``segment`` (name), ``volume_mm3``, ``given_volume_mm3`` and ``dice_to_given`` (None
    where no labels were given), ``mean_confidence`` and ``mean_entropy`` (over its voxels; None without any).
    """
    return list(_rows(result))


def _rows(result: Result) -> Iterator[dict[str, Any]]:
    found = result.stages[-1]
    confidence, entropy = (sitk.GetArrayFromImage(result.maps[name]) for name in ("confidence", "entropy"))
    for place, (before, after) in enumerate(first_and_last(result)):
        mask = sitk.GetArrayFromImage(found.mask(found.segments[place])) > 0
        labelled = after["dice_to_given"] is not None
        yield {
            "segment": after["segment"],
            "volume_mm3": after["volume_mm3"],
            "given_volume_mm3": before["volume_mm3"] if labelled else None,
            "dice_to_given": after["dice_to_given"],
            "mean_confidence": float(np.mean(confidence[mask], dtype=np.float64)) if mask.any() else None,
            "mean_entropy": float(np.mean(entropy[mask], dtype=np.float64)) if mask.any() else None,
        }
