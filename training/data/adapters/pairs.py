"""What the adapters of paired data sets share: files found, values and alignment checked, one lesion class written."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import read_image, resample_to, write_image
from training.data.adapters.files import write_labels
from training.data.cases import Case, DataSet, split_of
from training.data.modalities import Modality, checked
from training.data.pairing import read_strong, require_aligned


@dataclass(frozen=True)
class Pair:
    """The published files of one examination; any label value but 0 is lesion."""

    id: str
    patient: str
    weak: Path
    strong: Path
    label: Path


@dataclass(frozen=True)
class Pairs:
    """What `adapt_pairs` is told of a data set, besides its files."""

    name: str
    licence: str
    weak: Modality
    strong: Modality
    lesion: str = "lesion"


def adapt_pairs(described: Pairs, pairs: Sequence[Pair], target: Path) -> DataSet:
    """Check all pairs and write their lesions on the weak image's grid to ``target``; missing strong ones are counted.

    Raises:
        InputError: no pair, weak images or labels that are missing (the first is named), values that a modality cannot
            have, or a strong image that is not where the weak one is.
    """
    paths = [path for pair in pairs for path in (pair.weak, pair.label)]
    if not pairs:
        raise InputError(f"There are no files of {described.name} here: is this the data set's folder?")
    if missing := [path for path in paths if not path.is_file()]:
        raise InputError(
            f"{len(missing)} of the {len(paths)} files of {described.name} are missing, the first is '{missing[0]}'."
        )
    cases = tuple(_case(pair, described, target) for pair in pairs)
    alone = [case.id for case in cases if case.strong is None]
    if len(alone) == len(cases):
        raise InputError(
            f"None of the {len(cases)} cases of {described.name} has its {described.strong}: the first would be "
            f"'{pairs[0].strong}'."
        )
    if alone:
        told = f"{len(alone)} of {len(cases)} cases have no {described.strong}, the first is '{alone[0]}'"
        print(f"{told}: they teach by their labels alone.", file=sys.stderr)
    return DataSet(described.name, {1: described.lesion}, cases, described.licence)


def _case(pair: Pair, described: Pairs, target: Path) -> Case:
    weak = checked(read_image(pair.weak), described.weak, f"'{pair.weak}'")
    return Case(
        id=pair.id,
        image=pair.weak,
        label=_lesion(pair, weak, target / "labelsTr" / f"{pair.id}.nii.gz"),
        patient=pair.patient,
        split=split_of(pair.patient),
        strong=_strong(pair, weak, described, target) if pair.strong.exists() else None,
    )


def _strong(pair: Pair, weak: sitk.Image, described: Pairs, target: Path) -> Path:
    """The published file, or one in its modality's unit."""
    published = read_strong(pair.strong)
    strong = checked(published, described.strong, f"'{pair.strong}'")
    require_aligned(pair.id, weak, strong)
    return pair.strong if strong is published else _written(strong, target / "strongTr" / f"{pair.id}.nii.gz")


def _lesion(pair: Pair, weak: sitk.Image, path: Path) -> Path:
    labels = sitk.GetArrayFromImage(resample_to(read_image(pair.label), weak, "nearest"))
    return write_labels(path, (labels > 0).astype(np.uint8), weak)


def _written(image: sitk.Image, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, image)
    return path
