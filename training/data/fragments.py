"""Fragments: consecutive slices at random places of unlabelled volumes, in squares that can be turned by 90 degrees.

Volumes are brought to axial slices from whatever orientation they lie in, to square pixels, and to the preprocessing's
spacing where it has one. Nothing is ever padded: a stripe along a border that was added before a slice is turned would
tell by how much. A square lies at a random place and is as large as the window or, where a volume is smaller, as the
volume allows, and then brought to the window's size. Nothing is flipped, turned or moved between slices; intensities
are varied, the same in all slices of a fragment.

A volume that cannot be used is left out and told: it cannot be read, has fewer slices than a fragment or values that
overflow, or its pixels are longer than wide: made square by interpolation along one side, they are smoother along that
one, and that turns with a slice. Pixels as large as the longer side or larger are smooth along both. Everything random
about a sample follows from (seed, epoch, index) alone.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk
import torch
from monai.transforms import Compose
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.inference.frame import orient
from NoisyLabelSegLib.inference.preprocessing import Preprocessing, prepare
from NoisyLabelSegLib.regions import region_of
from training.data.cases import Case
from training.data.channels import read_channels
from training.data.on_disk import OnDisk
from training.data.windows import variations

Square = Literal["window", "whole"]
LONGEST = 1.1  # Of a pixel's sides, the longer one to the shorter one.
SHOWN = 5  # Of the volumes that are left out, those whose reason is printed.


@dataclass(frozen=True)
class Volume:
    """A case as a network sees it: (channels, slices, rows, columns) in half precision."""

    voxels: NDArray[Any]


class Fragments(Dataset[dict[str, Tensor]]):
    """Samples ``image``, CDHW of the window's size, and their ``index``.

    Args:
        cases: the cases; labels do not matter.
        preprocessing: its window is a fragment's slices, rows and columns; rows and columns are equal.
        seed: see the module's text.
        count: fragments a volume and epoch.
        vary: whether intensities are varied.
        square: see the module's text for "window"; "whole" brings the largest square of a slice to the window's size.
        turned: turns every slice of every volume at random before anything else is done to it: see `proxy`.

    Attributes:
        skipped: why which cases are left out, by their names.

    Raises:
        InputError: the window or spacing is not square, or no volume can be used.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        preprocessing: Preprocessing,
        seed: int,
        count: int = 1,
        *,
        vary: bool,
        square: Square = "window",
        turned: bool = False,
    ) -> None:
        require_square(preprocessing)
        self.window, self.seed, self.square = preprocessing.window, seed, square
        self.variations = Compose(variations("image")) if vary else None
        volumes = OnDisk(Volume, [partial(_volume, case, preprocessing, turned=turned) for case in cases])
        self.skipped, usable = _tried(volumes, cases, self.window[0])
        self.volumes, self.names = volumes, [case.id for case in cases]
        self.items = [number for number in usable for _ in range(count)]

    def __len__(self) -> int:
        return len(self.items)

    def names_of(self, indices: Tensor) -> list[str]:
        """The cases that samples are of, each once."""
        return list(dict.fromkeys(self.names[self.items[index]] for index in indices.tolist()))

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Tensor]:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        rng = np.random.default_rng((self.seed, epoch, index))
        image = self._fragment(self.volumes[self.items[index]].voxels, rng)
        if self.variations is not None:
            self.variations.set_random_state(seed=int(rng.integers(2**31)))
            image = torch.from_numpy(np.asarray(self.variations({"image": image})["image"]))
        return {"image": image, "index": torch.tensor(index)}

    def _fragment(self, voxels: NDArray[Any], rng: np.random.Generator) -> Tensor:
        smallest = min(voxels.shape[2:])
        side = smallest if self.square == "whole" else min(smallest, self.window[1])
        size = np.array([self.window[0], side, side])
        start = rng.integers(0, np.array(voxels.shape[1:]) - size + 1)
        box = tuple(slice(int(s), int(s + n)) for s, n in zip(start, size, strict=True))
        image = torch.from_numpy(voxels[:, box[0], box[1], box[2]].astype(np.float32))
        return image if side == self.window[1] else _resized(image, self.window[1])


def require_square(preprocessing: Preprocessing) -> None:
    """Raise InputError unless slices of a fragment can be turned by 90 degrees."""
    window, spacing = preprocessing.window, preprocessing.spacing
    if preprocessing.dimensions != 3:
        raise InputError("Pre-training sees fragments of several slices: set preprocessing.dimensions to 3.")
    if window[1] != window[2]:
        raise InputError(f"Slices of {window[1]} x {window[2]} cannot be turned: give preprocessing.window squares.")
    if spacing and spacing[1] != spacing[2]:
        raise InputError(f"Pixels of {spacing[1]:g} x {spacing[2]:g} mm cannot be turned: give squares by spacing.")


def _tried(volumes: OnDisk[Volume], cases: Sequence[Case], depth: int) -> tuple[dict[str, str], list[int]]:
    """Which cases are left out and why, and the numbers of the others."""
    skipped, usable = {}, []
    for number, case in track(enumerate(cases), "volumes", total=len(cases), transient=True):
        try:
            slices = volumes[number].voxels.shape[1]
        except InputError as error:
            skipped[case.id] = str(error)
            continue
        if slices < depth:
            skipped[case.id] = f"It has {slices} slices, a fragment {depth}: set preprocessing.window to fewer."
        else:
            usable.append(number)
    reasons = "".join(f"\n  {name}: {why}" for name, why in list(skipped.items())[:SHOWN])
    if not usable:
        raise InputError(f"None of {len(cases)} volumes can be used.{reasons}")
    if skipped:
        more = "\n  …" if len(skipped) > SHOWN else ""
        print(f"{len(skipped)} of {len(cases)} volumes are left out:{reasons}{more}", file=sys.stderr)
    return skipped, usable


def _volume(case: Case, preprocessing: Preprocessing, *, turned: bool) -> Volume:
    images = read_channels(case)
    if turned:
        images = [with_turned_slices(image, np.random.default_rng(zlib.crc32(case.id.encode()))) for image in images]
    _require_square_pixels(images[0], preprocessing)
    wanted = replace(preprocessing, window=(1, 1, 1), multiple=1, spacing=_spacing(images[0], preprocessing))
    prepared = prepare(images[0], Grid.of(images[0]).empty_image(), wanted)
    voxels = [prepared.voxels, *(prepared.frame.bring(region_of(image), linear=True) for image in images[1:])]
    rules = preprocessing.intensities(len(images))
    mapped = np.stack([rule(one) for rule, one in zip(rules, voxels, strict=True)])
    if np.abs(mapped).max() > np.finfo(np.float16).max:
        raise InputError("Its values overflow half precision: choose another preprocessing.intensity, such as z-score.")
    return Volume(mapped.astype(np.float16))


def _require_square_pixels(image: sitk.Image, preprocessing: Preprocessing) -> None:
    """Raise InputError when pixels, made square, would tell by an axis that is smoother how a slice was turned."""
    *sides, _ = orient(image, (0, 1, 2)).GetSpacing()
    coarse = preprocessing.spacing and preprocessing.spacing[1] >= max(sides)
    if max(sides) > LONGEST * min(sides) and not coarse:
        raise InputError(
            f"Its pixels of {sides[1]:.3g} x {sides[0]:.3g} mm tell, made square, how a slice was turned: set "
            f"preprocessing.spacing to {max(sides):.3g} mm or more along rows and columns."
        )


def _spacing(image: sitk.Image, preprocessing: Preprocessing) -> tuple[float, ...]:
    """That of the preprocessing, else the image's own with the pixels' finer one along rows and columns."""
    if preprocessing.spacing:
        return preprocessing.spacing
    columns, rows, slices = orient(image, (0, 1, 2)).GetSpacing()
    return (slices, min(columns, rows), min(columns, rows))


def with_turned_slices(image: sitk.Image, rng: np.random.Generator) -> sitk.Image:
    """The largest central square of every axial slice, each turned by a random multiple of 90 degrees.

    Which way up a slice lies can no longer be told; only what is done to it afterwards can.
    """
    axial = orient(image, (0, 1, 2))
    side = min(axial.GetSize()[:2])
    left, top = ((size - side) // 2 for size in axial.GetSize()[:2])
    square = axial[left : left + side, top : top + side, :]
    slices = sitk.GetArrayFromImage(square)
    result = sitk.GetImageFromArray(np.stack([np.rot90(one, int(rng.integers(4))) for one in slices]))
    result.CopyInformation(square)
    return result


def _resized(image: Tensor, side: int) -> Tensor:
    """``CDHW`` with square slices of another size."""
    slices = image.flatten(0, 1)[None]
    return F.interpolate(slices, size=(side, side), mode="bilinear", antialias=True)[0].view(
        *image.shape[:2], side, side
    )
