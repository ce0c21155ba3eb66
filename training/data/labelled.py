"""A share of the training patients, as if only they had been labelled: what label-ratio experiments learn from.

Subsets of one seed are nested, so that a larger one has all that a smaller one has and a curve over ratios shows what
further labels add. A patient's cases stay together. Validation and test part stay whole.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from training.data.cases import DataSet


def labelled_patients(dataset: DataSet, share: float, seed: int) -> list[str]:
    """The training patients of this share, at least one where there are any.

    Their order follows from a hash of seed and name, as in `split_of`: it stays when patients come or go.

    Args:
        dataset: the data set.
        share: above 0, up to 1; the number of patients is rounded.
        seed: another one draws others.
    """
    patients = {case.patient for case in dataset.part("train")}
    drawn = sorted(patients, key=lambda name: hashlib.sha256(f"labelled:{seed}:{name}".encode()).digest())
    return drawn[: max(round(share * len(drawn)), 1)]


def labelled_part(dataset: DataSet, share: float, seed: int) -> DataSet:
    """The data set whose training part has the cases of `labelled_patients` alone."""
    if share == 1:
        return dataset
    kept = set(labelled_patients(dataset, share, seed))
    cases = tuple(case for case in dataset.cases if case.split != "train" or case.patient in kept)
    return replace(dataset, cases=cases)
