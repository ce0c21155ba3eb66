"""Any data set in the convention of the Medical Segmentation Decathlon or nnU-Net: checked, and split 4:1:1 by patient.

Label maps are used as they are; 4D images, as the Decathlon has them for several channels, are written channel by
channel.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import read_image, same_grid, write_image
from training.data.adapters.files import require
from training.data.cases import Case, DataSet, read_dataset, split_anew
from training.data.channels import read_channels

PART = 1 / 6  # Of the patients, for validation and for the test.
SEVERAL = re.compile(r"[_-](frame|ses|session|visit|time|scan)[_-]?\d+.*", re.IGNORECASE)
"""What follows a patient's name in the names of data sets with several images of a patient."""


def adapt(source: Path, target: Path) -> DataSet:
    """Check all files of a ``dataset.json``.

    A patient is what the entry says, else the case's name without a frame, session or visit.

    Raises:
        InputError: a file is missing or on another grid than the case's image, or a label map has a value that
            ``dataset.json`` does not declare.
    """
    dataset = read_dataset(source)
    cases, found = [], set()
    for case in dataset.cases:
        case = replace(_in_channels(case, target), patient=patient_of(case))
        found |= _checked_labels(case, dataset.labels)
        cases.append(case)
    made = split_anew(replace(dataset, cases=tuple(cases)), val=PART, test=PART)
    _say_what_is_missing(made, found)
    return made


def patient_of(case: Case) -> str:
    """Whose image it is, see `adapt`."""
    return case.patient if case.patient != case.id else SEVERAL.sub("", case.id)


def _in_channels(case: Case, target: Path) -> Case:
    """The case with one 3D file a channel, written to ``target`` where there was one 4D file."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(require(case.image)))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return case  # reading it says what is wrong
    size = reader.GetSize()
    if len(size) < 4 or size[3] < 2:
        return case
    (target / "imagesTr").mkdir(parents=True, exist_ok=True)
    reader.SetExtractSize([*size[:3], 0])
    paths = [target / "imagesTr" / f"{case.id}_{channel:04}.nii.gz" for channel in range(size[3])]
    for channel, path in enumerate(paths):
        reader.SetExtractIndex([0, 0, 0, channel])
        write_image(path, reader.Execute())
    return replace(case, image=paths[0], channels=tuple(paths[1:]))


def _checked_labels(case: Case, declared: Mapping[int, str]) -> set[int]:
    """The values of a case's label map, without the background."""
    if case.label is None:
        raise InputError(f"The case '{case.id}' has no label: it cannot be trained on or measured.")
    for path in case.channels:
        require(path)
    image, labels = read_channels(case)[0], read_image(require(case.label))
    if not same_grid(labels, image):
        raise InputError(f"The label map '{case.label}' is not on the grid of its image: resample it first.")
    values = np.unique(sitk.GetArrayViewFromImage(labels)).tolist()
    if unknown := [value for value in values if value and value not in declared]:
        known = ", ".join(f"{value} {name}" for value, name in declared.items())
        raise InputError(
            f"The label map of '{case.id}' has the value {unknown[0]:g}, which dataset.json does not declare ({known})."
        )
    return {int(value) for value in values if value}


def _say_what_is_missing(dataset: DataSet, found: Iterable[int]) -> None:
    absent = [
        f"no label map has the value {value} ({dataset.labels[value]})" for value in dataset.labels.keys() - found
    ]
    absent += [f"the {part} part is empty" for part in ("train", "val", "test") if not dataset.part(part)]
    for text in absent:
        print(f"warning: {dataset.name}: {text}", file=sys.stderr)
