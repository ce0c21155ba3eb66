"""A paired data set's strong images as a data set of their own: what the weak modality's gap is measured with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import read_image, same_grid, write_image
from training.data.cases import Case, DataSet, write_dataset
from training.data.pairing import strong_of


def strong_alone(dataset: DataSet, target: Path) -> DataSet:
    """Write a copy with the strong image in the place of all others, on the weak one's grid.

    Cases without a strong image are left out. What must be resampled is written, too.

    Raises:
        InputError: no case has a strong image, or see `strong_of`.
    """
    cases = tuple(_case(case, target) for case in dataset.cases if case.strong)
    if not cases:
        raise InputError(f"No case of '{dataset.name}' has a strong image: name them by 'strong'.")
    strong = replace(dataset, name=f"{dataset.name}, strong alone", cases=cases, simulation={})
    write_dataset(target, strong)
    return strong


def _case(case: Case, target: Path) -> Case:
    assert case.strong is not None
    image, path = read_image(case.image), case.strong
    if path.is_dir() or not same_grid(read_image(path), image):
        path = target / "imagesTr" / f"{case.id}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, strong_of(case, image))
    return replace(case, image=path, channels=(), strong=None)
