"""Three patients with multiple sclerosis (CC BY), skull-stripped MR at 1 mm: T1 is weak, FLAIR is strong.

Files: ``imagesTr/<patient>_t1.nii.gz``, ``imagesTr/<patient>_flair.nii.gz``, ``labelsTr/<patient>.nii.gz``, the
consensus of the lesions. Beside the data set a folder a patient holds the ones that leave this patient out, by the
names ``ms_flair_t1`` and ``ms_flair_t1_strong`` (FLAIR alone), as the folds of a table: the patient is their test part,
the others train and, for want of a fourth, are also their validation part, which then tells whether the training has
converged and nothing more.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from training.data.adapters.files import published_images
from training.data.adapters.pairs import Pair, Pairs, adapt_pairs
from training.data.cases import DataSet, write_dataset
from training.data.strong_alone import strong_alone

ENDING = "_t1.nii.gz"


def adapt(source: Path, target: Path) -> DataSet:
    """See the module's text and `adapt_pairs`."""
    described = Pairs("MS, FLAIR and T1", "CC BY 4.0", "MR", "MR", "MS lesion")
    dataset = adapt_pairs(described, [_pair(source, t1) for t1 in published_images(source, f"*{ENDING}")], target)
    for case in dataset.cases:
        fold, folder = leaving_out(dataset, case.patient), target / case.patient
        write_dataset(folder / "ms_flair_t1", fold)
        strong_alone(fold, folder / "ms_flair_t1_strong")
    return dataset


def leaving_out(dataset: DataSet, patient: str) -> DataSet:
    """The data set whose test part is this patient: see the module's text."""
    test = [replace(case, split="test") for case in dataset.cases if case.patient == patient]
    train = [replace(case, split="train") for case in dataset.cases if case.patient != patient]
    seen = [replace(case, id=f"{case.id}-seen", split="val") for case in train]
    return replace(dataset, name=f"{dataset.name}, without {patient}", cases=(*train, *seen, *test))


def _pair(source: Path, t1: Path) -> Pair:
    name = t1.name[: -len(ENDING)]
    return Pair(name, name, t1, t1.with_name(f"{name}_flair.nii.gz"), source / "labelsTr" / f"{name}.nii.gz")
