"""Several data sets as one, of several centres for instance: what pre-training learns from needs no labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from NoisyLabelSegLib.errors import InputError
from training.data.cases import DataSet


def pooled(datasets: Sequence[DataSet]) -> DataSet:
    """All cases of all sets in their parts, without labels; cases and patients are named with their set's name.

    Raises:
        InputError: sets of the same name, or images of other numbers of channels.
    """
    names = [dataset.name for dataset in datasets]
    if len(set(names)) < len(names):
        raise InputError(f"Two of the pooled data sets have the same name ({', '.join(names)}): rename one.")
    for dataset in datasets:
        if dataset.channels != datasets[0].channels:
            raise InputError(
                f"'{dataset.name}' has images of {dataset.channels} channels and '{names[0]}' of "
                f"{datasets[0].channels}: pool those of the same number."
            )
    cases = [
        replace(case, id=f"{dataset.name}: {case.id}", patient=f"{dataset.name}: {case.patient}")
        for dataset in datasets
        for case in dataset.cases
    ]
    licence = ", ".join(dict.fromkeys(dataset.licence for dataset in datasets if dataset.licence))
    return DataSet(" + ".join(names), {}, tuple(cases), licence)
