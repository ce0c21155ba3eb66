"""Corrected cases in a training set: what was given (``coarse/``) and what a person accepted (``labels/``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from NoisyLabelSegLib.drawn_segments import BACKGROUND
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import same_grid
from NoisyLabelSegLib.regions import masks_of
from NoisyLabelSegLib.segmentations import Segmentation
from NoisyLabelSegLib.training_set import Known, add_case


def add_pair(
    folder: Path,
    case_id: str,
    patient: str,
    image: sitk.Image,
    coarse: Segmentation,
    accepted: Segmentation,
    *,
    overwrite: bool = False,
) -> None:
    """Add a corrected case to the training set in a folder; all of it or nothing.

    Args:
        folder, case_id, patient, image, overwrite: see `training_set.add_case`. Structures are told by their segments'
            names.
        coarse: what was given.
        accepted: what it became, on the same grid with segments of the same names.

    Raises:
        InputError: the case cannot be used or is there already, or the folder holds something else; then nothing has
            been written.
    """

    def known(values: Mapping[str, int]) -> Known:
        paths = {"label": f"labels/{case_id}.nii.gz", "coarse": f"coarse/{case_id}.nii.gz"}
        labels = _label_map(accepted, values, image, "accepted result")
        return paths, {paths["label"]: labels, paths["coarse"]: _label_map(coarse, values, image, "coarse mask")}

    add_case(folder, case_id, patient, image, _names(coarse, accepted), known, overwrite=overwrite)


def _names(coarse: Segmentation, accepted: Segmentation) -> list[str]:
    names = [name.strip() for name in accepted.names]
    if not names or sorted(names) != sorted(name.strip() for name in coarse.names):
        given, kept = (", ".join(names) or "none" for names in (coarse.names, accepted.names))
        raise InputError(f"The coarse mask has the segments {given}, but the accepted result {kept}: give the same.")
    for name in names:
        if not name or name.casefold() == BACKGROUND:
            raise InputError(f"A segment is called '{name}', which cannot name a structure: rename it.")
        if names.count(name) > 1:
            raise InputError(f"Two segments are called '{name}': rename one of them.")
    return names


def _label_map(
    segmentation: Segmentation, values: Mapping[str, int], image: sitk.Image, what: str
) -> NDArray[np.uint8]:
    if not same_grid(image, segmentation.image):
        raise InputError(f"The {what} is not on the image's grid: use the segmentation that was refined on this image.")
    labels = np.zeros(image.GetSize()[::-1], np.uint8)
    for name, mask in zip(segmentation.names, masks_of(segmentation), strict=True):
        part = labels[mask.box]
        if part[mask.values].any():
            raise InputError(f"Segments of the {what} overlap ('{name}' and another): a training set cannot hold that.")
        part[mask.values] = values[name.strip()]
    return labels
