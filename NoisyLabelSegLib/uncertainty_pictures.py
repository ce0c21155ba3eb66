"""Pictures of an uncertainty and of suspect labels: what was seen, given and found, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from NoisyLabelSegLib.outcome import Map
from NoisyLabelSegLib.regions import Region
from NoisyLabelSegLib.report_pictures import (
    GREY_LEVELS,
    SLICES_SHOWN,
    View,
    crop,
    encode_png,
    enlarge,
    grey_levels,
    inner_edge,
)
from NoisyLabelSegLib.result import Maps, Result

UNSURE = 0.1
"""Less entropy than this, spread over a whole slice, tells nothing."""

Colours = NDArray[np.uint8]
RAMP = np.array([(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)], float)
"""Of growing brightness, for values from 0 to 1: colour-blind eyes and grey prints keep their order."""


@dataclass(frozen=True)
class Shown:
    """One place: the slice's number on the image's grid, the pictures (PNG), and their titles."""

    number: int
    titles: tuple[str, ...]
    files: tuple[bytes, ...]


@dataclass(frozen=True)
class Hung:
    """A result's arrays as (slice, row, column), as a person looks at them; made by `of`.

    Attributes:
        given, found: numbers of the structures from 1, in their order; ``given`` is None without labels.
        entropy, suspect: 0 to 1.
    """

    result: Result
    view: View
    given: NDArray[Any] | None
    found: NDArray[Any]
    entropy: NDArray[Any]
    suspect: NDArray[Any] | None

    @classmethod
    def of(cls, result: Result) -> Hung:
        view = View.of(result)
        array, labelled = view.plane.array, "suspect" in result.maps
        given, found = (array(stage.label_map()) for stage in (result.stages[0], result.stages[-1]))
        suspect = array(result.maps["suspect"]) if labelled else None
        return cls(result, view, given if labelled else None, found, array(result.maps["entropy"]), suspect)

    def uncertain_slices(self) -> Iterator[Shown]:
        """The slices with most uncertainty, kept apart, in the order of their numbers."""
        total = np.where(self.entropy > UNSURE, self.entropy, 0).sum(axis=(1, 2), dtype=np.float64)
        area = np.count_nonzero(self.found, axis=(1, 2))
        telling = (total > 0) | (area > 0)
        gap = max(1, int(telling.sum()) // (2 * SLICES_SHOWN))
        chosen: list[int] = []
        for index in np.lexsort((-area, -total)).tolist():
            if len(chosen) < SLICES_SHOWN and telling[index] and all(abs(index - other) >= gap for other in chosen):
                chosen.append(index)
        everything = (self.found > 0) | (self.entropy > 0.5)
        if self.given is not None:
            everything |= self.given > 0
        window = crop(np.logical_or.reduce(everything, axis=0), self.view.spacing)
        for index in sorted(chosen or [len(total) // 2], key=self.view.number):
            yield self._shown(index, window, "Entropy", self.entropy)

    def around(self, suspect: Mapping[str, Any]) -> Shown:
        """A suspect region, in a white frame: the slice through its middle."""
        assert self.suspect is not None
        index, row, column = self._place(suspect["index"])
        footprint = np.zeros(self.found.shape[1:], bool)
        footprint[row, column] = True
        window = crop(footprint, self.view.spacing)
        return self._shown(index, window, "Suspect score", self.suspect, self._voxels(suspect)[index])

    def _voxels(self, suspect: Mapping[str, Any]) -> NDArray[np.bool_]:
        found = self.result.regions[suspect["rank"] - 1].region
        region = Region(found.box, found.values.astype(np.float32))
        image = Maps(self.result.image, {"suspect": Map("suspect", "", region, 0, 1)})["suspect"]
        return np.asarray(self.view.plane.array(image) > 0)

    def _place(self, index: tuple[int, int, int]) -> tuple[int, int, int]:
        """Slice, row and column of a voxel (I, J, K) of the image."""
        plane, oriented = self.view.plane, self._oriented
        point = self.result.image.TransformIndexToPhysicalPoint([int(i) for i in index])
        found = oriented.TransformPhysicalPointToIndex(point)
        rows = oriented.GetSize()[plane.rows]
        row = found[plane.rows] if plane.top == "A" else rows - 1 - found[plane.rows]
        return found[plane.axis], row, found[plane.columns]

    @cached_property
    def _oriented(self) -> sitk.Image:
        return sitk.DICOMOrient(self.result.image, "LPS")

    def _shown(
        self,
        index: int,
        window: tuple[slice, slice],
        title: str,
        values: NDArray[Any],
        framed: NDArray[np.bool_] | None = None,
    ) -> Shown:
        spacing, place = self.view.spacing, (index, *window)
        greys = enlarge(grey_levels(self.view.image[place]), spacing).astype(float) * 255 / (GREY_LEVELS - 1)
        grey = np.repeat(greys[..., None], 3, axis=2).astype(np.uint8)
        pictures = {"Image": grey}
        if self.given is not None:
            pictures["Given labels"] = self._outlined(grey, enlarge(self.given[place], spacing))
        pictures["Model"] = self._outlined(grey, enlarge(self.found[place], spacing))
        pictures[title] = overlaid(grey, enlarge(values[place], spacing))
        if framed is not None:
            inside = enlarge(framed[window].astype(np.uint8), spacing) > 0
            pictures[title][ndimage.binary_dilation(inside) & ~inside] = 255
        return Shown(self.view.number(index), tuple(pictures), tuple(map(encode_png, pictures.values())))

    def _outlined(self, grey: Colours, labels: NDArray[Any]) -> Colours:
        """Every structure's outline in its colour; the dark halo keeps it visible on bright tissue."""
        picture = grey.copy()
        picture[ndimage.binary_dilation(labels > 0) & (labels == 0)] = 0
        for number, segment in enumerate(self.result.stages[-1].segments, 1):
            picture[inner_edge(labels == number)] = np.round(255 * np.array(segment.color))
        return picture


def overlaid(grey: Colours, values: NDArray[Any]) -> Colours:
    """Values, 0 to 1, in the colours of `RAMP` over the picture, which shows through where they are low."""
    at = np.clip(values, 0, 1)[..., None] * (len(RAMP) - 1)
    colours = np.stack([np.interp(at[..., 0], np.arange(len(RAMP)), channel) for channel in RAMP.T], axis=-1)
    opacity = 0.8 * np.clip(4 * values, 0, 1)[..., None]
    return np.asarray(np.round(opacity * colours + (1 - opacity) * grey), np.uint8)
