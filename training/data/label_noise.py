"""Planted label noise: blobs at borders flipped to the label on the other side, with the flipped voxels known."""

from __future__ import annotations

import math
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import read_image
from training.data.adapters.files import write_labels
from training.data.cases import Case, DataSet, write_dataset
from training.data.masks import expert_labels

Labels = NDArray[np.uint8]
LEAST_RADIUS, LARGEST_RADIUS = 1.5, 3.0  # Voxels.


def plant(labels: Labels, share: float, rng: np.random.Generator) -> Labels:
    """Flip blobs until ``share`` of the border's voxels have another label.

    A blob is a ball of 1.5 to 3 voxels about a border voxel; all of it that has one of the border's two labels gets the
    other one, so that a structure grows there or is eaten into.

    Args:
        labels: label map of 2 or 3 dimensions.
        share: 0 to 1, of the voxels with a neighbour (over a face) of another label.
        rng: every random number comes from it.
    """
    noisy = labels.copy()
    border = borders(labels)
    places = rng.permutation(np.argwhere(border))
    wanted = share * border.sum()
    for place in places:
        if np.count_nonzero((noisy != labels) & border) >= wanted:
            break
        _flip(noisy, labels, place, rng)
    return noisy


def borders(labels: Labels) -> NDArray[np.bool_]:
    """Voxels with a face neighbour of another label."""
    return (ndimage.maximum_filter(labels, footprint=_cross(labels)) != labels) | (
        ndimage.minimum_filter(labels, footprint=_cross(labels)) != labels
    )


def near_borders(labels: Labels, reach: int = 3) -> NDArray[np.bool_]:
    """Voxels that lie at most ``reach`` steps from a border's."""
    return ndimage.binary_dilation(borders(labels), _cross(labels), iterations=reach)


def _cross(labels: Labels) -> NDArray[np.bool_]:
    return ndimage.generate_binary_structure(labels.ndim, 1)


def _flip(noisy: Labels, labels: Labels, place: NDArray[np.intp], rng: np.random.Generator) -> None:
    """Flip one ball, in place."""
    around = tuple(slice(max(p - 1, 0), p + 2) for p in place)
    own = labels[tuple(place)]
    other = rng.choice(np.setdiff1d(labels[around], own))
    old, new = (own, other) if rng.random() < 0.5 else (other, own)
    radius = rng.uniform(LEAST_RADIUS, LARGEST_RADIUS)
    reach = int(np.ceil(radius))
    box = tuple(slice(max(p - reach, 0), p + reach + 1) for p in place)
    offsets = np.ogrid[
        tuple(slice(s.start - p, min(s.stop, n) - p) for s, p, n in zip(box, place, labels.shape, strict=True))
    ]
    ball = sum(offset.astype(float) ** 2 for offset in offsets) <= radius**2
    noisy[box][ball & (labels[box] == old)] = new


def plant_dataset(dataset: DataSet, folder: Path, share: float, seed: int, verified: float = 0) -> DataSet:
    """Write a data set whose training part has planted noise; validation and test parts stay clean.

    A noisy case keeps its true label as `Case.clean`. A share of the training cases, ``verified``, is left as it is and
    marked as `Case.verified`.

    Raises:
        InputError: a share outside of 0 to 1.
    """
    if not 0 < share < 1:
        raise InputError(f"The share of flipped border voxels must lie between 0 and 1, not {share}.")
    if not 0 <= verified < 1:
        raise InputError(f"The share of verified cases must be at least 0 and below 1, not {verified}.")
    checked = _chosen([case.id for case in dataset.part("train")], verified, seed)
    cases = [
        replace(case, verified=True)
        if case.id in checked
        else _planted(case, folder, share, seed)
        if case.split == "train"
        else case
        for case in dataset.cases
    ]
    noisy = replace(
        dataset,
        name=f"{dataset.name}, {100 * share:g} % planted noise",
        cases=tuple(cases),
        simulation={**dataset.simulation, "planted": share, "planted_seed": seed},
    )
    write_dataset(folder, noisy)
    return noisy


def _chosen(ids: list[str], share: float, seed: int) -> set[str]:
    """A share of the cases at random, one at least of any share."""
    order = np.random.default_rng((seed, len(ids))).permutation(sorted(ids))
    return set(order[: math.ceil(share * len(ids))].tolist())


def _planted(case: Case, folder: Path, share: float, seed: int) -> Case:
    image = read_image(case.image)
    expert = expert_labels(case, image)
    rng = np.random.default_rng((seed, zlib.crc32(case.id.encode())))
    noisy = plant(sitk.GetArrayFromImage(expert).astype(np.uint8), share, rng)
    return replace(case, label=write_labels(folder / "noisyTr" / f"{case.id}.nii.gz", noisy, expert), clean=case.label)
