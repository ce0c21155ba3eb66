"""Copies of a data set whose training labels hold planted noise of known kinds.

- ``blobs`` at borders are flipped to the label on the other side, see `plant`.
- ``shifts`` move the border by a smooth random field, see `shift`.
- ``swaps`` exchange the labels of two cases. They are put on the other image's grid by its centre: the middles of both
  images coincide in space, axis by axis, and what lies outside is cut off. On equal grids no voxel is interpolated.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import SimpleITK as sitk

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.images import read_image
from training.data.adapters.files import write_labels
from training.data.cases import Case, DataSet, write_dataset
from training.data.label_noise import MOST_SHIFTED, plant, shift
from training.data.masks import expert_labels

Kind = Literal["blobs", "shifts", "swaps"]
AT_BORDERS = {"blobs": plant, "shifts": shift}


def plant_dataset(
    dataset: DataSet, folder: Path, share: float, seed: int, kinds: Sequence[Kind] = ("blobs",)
) -> DataSet:
    """Write a data set whose training part has planted noise; validation and test parts stay clean.

    A training case keeps its true label as `Case.clean`, and says in `Case.noise` which kind it has.

    Args:
        dataset: what is copied.
        folder: of the copy.
        share: of the border's voxels that are flipped, and of the cases that are swapped.
        seed: every random number comes from it.
        kinds: one is drawn for each case that is not swapped; without another kind it stays as it is.

    Raises:
        InputError: a share outside of 0 to 1, or more than can be shifted.
    """
    if not 0 < share < 1:
        raise InputError(f"The share of flipped border voxels must lie between 0 and 1, not {share}.")
    if "shifts" in kinds and share > MOST_SHIFTED:
        raise InputError(f"Shifts flip at most {MOST_SHIFTED:g} of the border's voxels, not {share}: lower the share.")
    drawn = _drawn(dataset.part("train"), share, seed, kinds)
    cases = tuple(
        _noisy(case, folder, share, seed, *drawn[case.id]) if case.id in drawn else case for case in dataset.cases
    )
    named = "" if tuple(kinds) == ("blobs",) else f" ({', '.join(kinds)})"
    noisy = replace(
        dataset,
        name=f"{dataset.name}, {100 * share:g} % planted noise{named}",
        cases=cases,
        simulation={**dataset.simulation, "planted": share, "planted_seed": seed},
    )
    write_dataset(folder, noisy)
    return noisy


def _drawn(
    cases: Sequence[Case], share: float, seed: int, kinds: Sequence[Kind]
) -> dict[str, tuple[Kind | None, Case]]:
    """Of each case the kind of its noise, and whose labels it gets."""
    order = [cases[place] for place in np.random.default_rng(seed).permutation(len(cases)).tolist()]
    swapped = 2 * round(share * len(cases) / 2) if "swaps" in kinds else 0
    found: dict[str, tuple[Kind | None, Case]] = {}
    for one, other in zip(order[:swapped:2], order[1:swapped:2], strict=True):
        found |= {one.id: ("swaps", other), other.id: ("swaps", one)}
    borders: Sequence[Kind | None] = [kind for kind in kinds if kind != "swaps"] or [None]
    return found | {case.id: (borders[n % len(borders)], case) for n, case in enumerate(order[swapped:])}


def _noisy(case: Case, folder: Path, share: float, seed: int, kind: Kind | None, source: Case) -> Case:
    expert, name = expert_labels(case, read_image(case.image)), f"{case.id}.nii.gz"
    clean = case.label or write_labels(folder / "cleanTr" / name, sitk.GetArrayFromImage(expert), expert)
    if kind is None:
        return replace(case, label=clean, clean=clean)
    if kind == "swaps":
        labels = sitk.GetArrayFromImage(by_centre(expert_labels(source, read_image(source.image)), expert))
    else:
        rng = np.random.default_rng((seed, zlib.crc32(case.id.encode())))
        labels = AT_BORDERS[kind](sitk.GetArrayFromImage(expert).astype(np.uint8), share, rng)
    return replace(case, label=write_labels(folder / "noisyTr" / name, labels, expert), clean=clean, noise=kind)


def by_centre(labels: sitk.Image, like: sitk.Image) -> sitk.Image:
    """Labels of another image on a grid, axis by axis, so that the middles of both coincide in space."""
    moved = sitk.Image(labels)
    moved.SetDirection(like.GetDirection())
    moved.SetOrigin((0, 0, 0))
    middle, own = (grid.to_physical((np.array(grid.size) - 1) / 2) for grid in (Grid.of(like), Grid.of(moved)))
    moved.SetOrigin((middle - own).tolist())
    return sitk.Resample(moved, like, sitk.Transform(), sitk.sitkNearestNeighbor)
