"""Copies of a data set whose training labels hold planted noise of known kinds.

- ``blobs`` at borders are flipped to the label on the other side, see `plant`.
- ``shifts`` move the border by a smooth random field, see `shift`.
- ``swaps`` exchange the labels of two cases. They are put on the other image's grid by its centre: the middles of both
  images coincide in space, axis by axis, and what lies outside is cut off. On equal grids no voxel is interpolated.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import SimpleITK as sitk

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.images import read_image
from training.data.adapters.files import write_labels
from training.data.cases import Case, DataSet, write_dataset
from training.data.label_noise import MOST_SHIFTED, RADII, plant, shift
from training.data.masks import expert_labels

Kind = Literal["blobs", "shifts", "swaps"]


@dataclass(frozen=True)
class Noise:
    """What is planted.

    Attributes:
        share: of the border's voxels that are flipped, and of the cases that are swapped.
        kinds: one is drawn for each case that is not swapped; without another kind it stays as it is.
        radii: of blobs, voxels: what is smaller than a pixel that a network sees, no network can tell.
        verified: share of the training cases that are left as they are and say so, as `Case.verified`.
        seed: every random number comes from it.
    """

    share: float
    kinds: tuple[Kind, ...] = ("blobs",)
    radii: tuple[float, float] = RADII
    verified: float = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise InputError(f"The share of flipped border voxels must lie between 0 and 1, not {self.share}.")
        if not 0 <= self.verified < 1:
            raise InputError(f"The share of verified cases must be at least 0 and below 1, not {self.verified}.")
        if "shifts" in self.kinds and self.share > MOST_SHIFTED:
            raise InputError(
                f"Shifts flip at most {MOST_SHIFTED:g} of the border's voxels, not {self.share}: lower the share."
            )
        if not 0 < self.radii[0] <= self.radii[1]:
            raise InputError(f"Blobs need a least and a largest radius above 0, not {self.radii}.")


def plant_dataset(dataset: DataSet, folder: Path, noise: Noise) -> DataSet:
    """Write a data set whose training part has planted noise; validation and test parts stay clean.

    A training case keeps its true label as `Case.clean`, that of a noisy copy the first one's, and says in `Case.noise`
    which kind it has.

    Raises:
        InputError: no case would get noise.
    """
    train = dataset.part("train")
    checked = _chosen([case.id for case in train], noise.verified, noise.seed)
    drawn = _drawn([case for case in train if case.id not in checked], noise)
    if not any(kind for kind, _ in drawn.values()):
        raise InputError(
            f"None of the {len(train)} training cases of '{dataset.name}' would get noise: raise the share, or lower "
            "that of verified cases."
        )
    cases = tuple(
        _noisy(case, folder, noise, *drawn[case.id])
        if case.id in drawn
        else replace(case, verified=case.verified or case.id in checked)
        for case in dataset.cases
    )
    named = "" if noise.kinds == ("blobs",) else f" ({', '.join(noise.kinds)})"
    noisy = replace(
        dataset,
        name=f"{dataset.name}, {100 * noise.share:g} % planted noise{named}",
        cases=cases,
        simulation={**dataset.simulation, "planted": noise.share, "planted_seed": noise.seed},
    )
    write_dataset(folder, noisy)
    return noisy


def _chosen(ids: list[str], share: float, seed: int) -> set[str]:
    """A share of the cases at random, one at least of any share."""
    order = np.random.default_rng((seed, len(ids))).permutation(sorted(ids))
    return set(order[: math.ceil(share * len(ids))].tolist())


def _drawn(cases: Sequence[Case], noise: Noise) -> dict[str, tuple[Kind | None, Case]]:
    """Of each case the kind of its noise, and whose labels it gets."""
    order = [cases[place] for place in np.random.default_rng(noise.seed).permutation(len(cases)).tolist()]
    swapped = 2 * round(noise.share * len(cases) / 2) if "swaps" in noise.kinds else 0
    found: dict[str, tuple[Kind | None, Case]] = {}
    for one, other in zip(order[:swapped:2], order[1:swapped:2], strict=True):
        found |= {one.id: ("swaps", other), other.id: ("swaps", one)}
    borders: Sequence[Kind | None] = [kind for kind in noise.kinds if kind != "swaps"] or [None]
    return found | {case.id: (borders[n % len(borders)], case) for n, case in enumerate(order[swapped:])}


def _noisy(case: Case, folder: Path, noise: Noise, kind: Kind | None, source: Case) -> Case:
    expert, name = expert_labels(case, read_image(case.image)), f"{case.id}.nii.gz"
    given = case.label or write_labels(folder / "cleanTr" / name, sitk.GetArrayFromImage(expert), expert)
    clean = case.clean or given
    if kind is None:
        return replace(case, label=given, clean=clean)
    if kind == "swaps":
        labels = sitk.GetArrayFromImage(by_centre(expert_labels(source, read_image(source.image)), expert))
    else:
        rng = np.random.default_rng((noise.seed, zlib.crc32(case.id.encode())))
        before = sitk.GetArrayFromImage(expert).astype(np.uint8)
        labels = shift(before, noise.share, rng) if kind == "shifts" else plant(before, noise.share, rng, noise.radii)
    written = write_labels(folder / "noisyTr" / name, labels, expert)
    return replace(case, label=written, clean=clean, noise=kind, verified=False)


def by_centre(labels: sitk.Image, like: sitk.Image) -> sitk.Image:
    """Labels of another image on a grid, axis by axis, so that the middles of both coincide in space."""
    moved = sitk.Image(labels)
    moved.SetDirection(like.GetDirection())
    moved.SetOrigin((0, 0, 0))
    middle, own = (grid.to_physical((np.array(grid.size) - 1) / 2) for grid in (Grid.of(like), Grid.of(moved)))
    moved.SetOrigin((middle - own).tolist())
    return sitk.Resample(moved, like, sitk.Transform(), sitk.sitkNearestNeighbor)
