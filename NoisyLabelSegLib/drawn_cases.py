"""Drawn cases in a training set: what annotators drew, without anybody's whole segmentation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from NoisyLabelSegLib.drawn_segments import MOST_CLASSES, NOBODY, Drawn, drawings_of, structures_of
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import same_grid
from NoisyLabelSegLib.segmentations import Segmentation
from NoisyLabelSegLib.training_set import Known, add_case


def add_drawings(
    folder: Path,
    case_id: str,
    patient: str,
    image: sitk.Image,
    drawn: Segmentation,
    *,
    overwrite: bool = False,
) -> None:
    """Add a drawn case to the training set in a folder; all of it or nothing.

    Args:
        folder, case_id, patient, image, overwrite: see `training_set.add_case`.
        drawn: segments on the image's grid, named as `drawn_segments` says.

    Raises:
        InputError: the drawings cannot be used (see `drawn_segments.drawings_of`), the case is there already, or the
            folder holds something else; then nothing has been written.
    """
    if not same_grid(image, drawn.image):
        raise InputError("The drawings are not on the image's grid: resample them, or draw on this image.")

    def known(values: Mapping[str, int]) -> Known:
        if max(values.values(), default=0) >= MOST_CLASSES:
            raise InputError(f"{folder} would have more than {MOST_CLASSES - 1} structures: begin a new folder.")
        found = drawings_of(drawn, values)
        paths = [f"drawings/{case_id}_{number}.nii.gz" for number in range(1, len(found) + 1)]
        entries = [_entry(path, one) for path, one in zip(paths, found, strict=True)]
        return {"drawings": entries}, {path: one.labels for path, one in zip(paths, found, strict=True)}

    add_case(folder, case_id, patient, image, structures_of(drawn.names), known, overwrite=overwrite)


def _entry(path: str, drawn: Drawn) -> dict[str, Any]:
    entry = {"path": path, "annotator": drawn.annotator, "kind": drawn.kind, "ignore": NOBODY}
    return {**entry, "means": drawn.means} if drawn.means else entry
