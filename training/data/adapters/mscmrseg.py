"""MSCMRseg, late-enhancement MR, with the scribbles published for its training part (Zhang and Zhuang, CVPR 2022).

Laid out as published with the scribbles: ``train``, ``val`` and ``TestSet``, each with ``images/subjectN_DE.nii.gz``
and ``labels/subjectN_DE_scribble.nii.gz`` in training, else ``..._manual.nii.gz``. Values, of strokes too, are ACDC's.
Training cases have no expert's label.
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from NoisyLabelSegLib.errors import InputError
from training.data.adapters.acdc import LABELS, scribbles
from training.data.adapters.files import require
from training.data.cases import Case, DataSet, Split, case_id

FOLDERS: dict[Split, str] = {"train": "train", "val": "val", "test": "TestSet"}


def adapt(source: Path, target: Path) -> DataSet:
    """Nothing is written: all files are used as they are."""
    cases = tuple(case for split in get_args(Split) for case in _cases(source / FOLDERS[split], split))
    return DataSet("MSCMRseg", LABELS, cases)


def _cases(folder: Path, split: Split) -> list[Case]:
    images = sorted((folder / "images").glob("*_DE.nii.gz"))
    if not images:
        raise InputError(f"There are no '*_DE.nii.gz' files in '{folder / 'images'}': is this the data set's folder?")
    labelled = [(image, case_id(image), folder / "labels" / case_id(image)) for image in images]
    if split == "train":
        return [
            Case(name, image, drawings=scribbles(require(Path(f"{label}_scribble.nii.gz"))), split=split, patient=name)
            for image, name, label in labelled
        ]
    return [
        Case(name, image, require(Path(f"{label}_manual.nii.gz")), split=split, patient=name)
        for image, name, label in labelled
    ]
