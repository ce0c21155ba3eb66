"""Training windows at random places of whole images, a third of them about a labelled voxel (nnU-Net's share).

For data sets whose structures a window about the mask cannot hold. Cases are prepared when they are first asked for
and then lie, as the network sees them, on disk. Validation sees each case whole.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from NoisyLabelSegLib.inference.preprocessing import Intensity, Preprocessing
from training.data.cases import Case
from training.data.drawings import Strategy
from training.data.on_disk import OnDisk
from training.data.windows import Crop, Starts, Windows, load, map_intensities

FOREGROUND = 1 / 3  # Of the patches, those about a labelled voxel.
PLACES = 1000  # Labelled voxels that are kept of each label.


@dataclass(frozen=True)
class Volume(Crop):
    """A whole case: `Crop`, with the intensities that the network takes in half precision.

    Attributes:
        places: labelled voxels, (label, slice, row, column), at most `PLACES` of each label.
    """

    places: NDArray[np.int32]


class Patches(Windows):
    """`Windows` at random places, `Augmentation.patches` of a case and epoch; see the module's text."""

    def _crops(self, cases: Sequence[Case]) -> Sequence[Crop]:
        training = self.augmentation is not None
        prepare = partial(
            _whole,
            preprocessing=self.preprocessing,
            starts=self.starts,
            training=training,
            strong=self.strong,
            drawings=self.drawings,
        )
        return OnDisk(Volume, [partial(prepare, case) for case in cases])

    def _samples(self, number: int) -> Sequence[int | None]:
        return super()._samples(number) if self.augmentation is None else [None] * self.augmentation.patches

    def _view(self, crop: Crop, z: int | None, rng: np.random.Generator) -> Crop:
        assert isinstance(crop, Volume)
        view: tuple[Any, ...] = (...,) if z is None else (..., z, slice(None), slice(None))
        if self.augmentation is not None:
            view = (..., *_place(crop, self.preprocessing.window, rng))
        return in_memory(crop.cut(view))


def in_memory(part: Crop) -> Crop:
    """A part of a `Volume` as networks take it."""
    strong = None if part.strong is None else part.strong.astype(np.float32)
    drawn = None if part.drawn is None else np.array(part.drawn)
    labels = (np.array(one) for one in (part.expert, part.coarse))
    return Crop(part.voxels.astype(np.float32), *labels, strong=strong, drawn=drawn)


def _place(volume: Volume, window: Sequence[int], rng: np.random.Generator) -> tuple[slice | int, ...]:
    """Where a patch lies: about a voxel of a random label, or anywhere; in 2D the slice's number comes first."""
    size = np.array([*[1] * (3 - len(window)), *window])
    room = np.array(volume.expert.shape) - size
    start = rng.integers(0, room + 1)
    if len(volume.places) and rng.random() < FOREGROUND:
        label = rng.choice(np.unique(volume.places[:, 0]))
        place = rng.choice(volume.places[volume.places[:, 0] == label])[1:]
        start = np.clip(place - size // 2, 0, room)
    box = [slice(int(s), int(s + n)) for s, n in zip(start, size, strict=True)]
    return tuple(box) if len(window) == 3 else (box[0].start, *box[1:])


def _whole(
    case: Case,
    preprocessing: Preprocessing,
    starts: Starts,
    *,
    training: bool,
    strong: Intensity | None,
    drawings: Sequence[Strategy],
) -> Volume:
    wanted: dict[str, Any] = {"strong": strong is not None, "drawings": drawings}
    crop = load(case, preprocessing, starts, training=training, whole=True, **wanted)
    return as_seen(crop, case.id, preprocessing, strong)


def as_seen(crop: Crop, name: str, preprocessing: Preprocessing, strong: Intensity | None) -> Volume:
    """A crop with the intensities that the network takes; labelled voxels are chosen by the case's name."""
    mapped = map_intensities(crop, preprocessing, strong)
    half = None if mapped.strong is None else mapped.strong.astype(np.float16)
    places = _places(crop.expert, np.random.default_rng(zlib.crc32(name.encode())))
    return Volume(mapped.voxels.astype(np.float16), crop.expert, crop.coarse, places, strong=half, drawn=crop.drawn)


def _places(labels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.int32]:
    kept = [np.empty((0, 4), np.int32)]
    for label in np.flatnonzero(np.bincount(labels.ravel())[1:]) + 1:
        found = np.argwhere(labels == label).astype(np.int32)
        found = rng.permutation(found)[:PLACES]
        kept.append(np.insert(found, 0, label, axis=1))
    return np.concatenate(kept)
