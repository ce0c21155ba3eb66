"""A case's expert and coarse label maps, from whatever its data set holds, on the grid of its image."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import read_image, same_grid
from training.data.cases import Case
from training.data.coarse import CoarseSettings, simulate
from training.data.raters import consensus, most_deviating


def expert_labels(case: Case, image: sitk.Image) -> sitk.Image:
    """The label, or the consensus of the raters.

    Raises:
        InputError: when the case has neither, or a file lies on another grid.
    """
    if case.label is not None:
        return _read(case.label, image)
    if case.raters:
        return _like(consensus(_raters(case, image)), image)
    raise InputError(f"The case '{case.id}' has no label and no raters: it cannot be trained on or measured.")


def coarse_labels(case: Case, image: sitk.Image) -> sitk.Image | None:
    """The coarse mask, or in each slice (along K) the rater who deviates most from the others' consensus, or None."""
    if case.coarse is not None:
        return _read(case.coarse, image)
    if case.raters:
        raters = _raters(case, image)
        return _like(most_deviating(raters, consensus(raters)), image)
    return None


def start_labels(case: Case, image: sitk.Image, simulated: CoarseSettings | None) -> sitk.Image | None:
    """The mask that a case starts from, wherever one is needed: the coarse one, else a simulation, else None.

    Args:
        case: the case.
        image: its image.
        simulated: how to make the mask of a case without a coarse one from the expert's: the same one every time.
    """
    coarse = coarse_labels(case, image)
    if coarse is not None or simulated is None:
        return coarse
    rng = np.random.default_rng(zlib.crc32(case.id.encode()))
    return _like(simulate(sitk.GetArrayFromImage(expert_labels(case, image)), simulated, rng), image)


def _raters(case: Case, image: sitk.Image) -> NDArray[np.uint8]:
    return np.stack([sitk.GetArrayFromImage(_read(path, image)) for path in case.raters])


def _read(path: Path, image: sitk.Image) -> sitk.Image:
    labels = read_image(path)
    if not same_grid(labels, image):
        raise InputError(f"The label map '{path}' is not on the grid of its image: resample it first.")
    return sitk.Cast(labels, sitk.sitkUInt8)


def _like(labels: NDArray[Any], image: sitk.Image) -> sitk.Image:
    result = sitk.GetImageFromArray(labels)
    result.CopyInformation(image)
    return result
