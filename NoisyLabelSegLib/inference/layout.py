"""How an image's axes are used and how much of it is seen: this follows from its whole grid and the model alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.inference.frame import orientation
from NoisyLabelSegLib.inference.recipe import Preprocessing
from NoisyLabelSegLib.regions import Box, is_empty

AXIS_NAMES = ("sagittal", "coronal", "axial")
ANISOTROPY = 1.25  # Above this ratio of spacings the coarsest axis is taken for the one the scanner stepped along.


@dataclass(frozen=True)
class Layout:
    """See the module's text; nothing changes where only a part of the image is at hand.

    Attributes:
        permutation: see `Frame`; `note` is a sentence about it.
        axes: see `_axes`.
        spacing: working spacing in mm, in ITK axis order after `orient`.
    """

    grid: Grid
    preprocessing: Preprocessing
    permutation: tuple[int, ...]
    note: str
    axes: tuple[tuple[int, bool], ...]
    spacing: NDArray[np.float64]

    @classmethod
    def of(cls, grid: Grid, preprocessing: Preprocessing) -> Layout:
        permutation, note = _slices_last(grid, preprocessing.dimensions)
        axes = _axes(grid, permutation)
        return cls(grid, preprocessing, permutation, note, axes, _working_spacing(_along(axes, grid), preprocessing))

    @property
    def resamples(self) -> bool:
        return not np.allclose(self.spacing, _along(self.axes, self.grid), rtol=0.01)

    def crop(self, box: Box) -> Box:
        """The mask's box and margin, at least the window, within the image; of an empty box the whole image.

        It is computed in the oriented image, so that rounding is the same however the image lies on disk.
        """
        if is_empty(box):
            return self.grid.whole_box()
        own, reverse = [axis for axis, _ in self.axes], np.array([flipped for _, flipped in self.axes])
        whole = np.array(self.grid.size)[own]
        low, high = (np.array([getattr(side, end) for side in box[::-1]])[own] for end in ("start", "stop"))
        low, high = np.where(reverse, whole - high, low), np.where(reverse, whole - low, high)
        working_voxel = self.spacing / _along(self.axes, self.grid)
        window = np.array(self.preprocessing.window[::-1], dtype=float)
        margin = self.preprocessing.margin * working_voxel
        if self.preprocessing.dimensions == 2:
            window = np.append(window, 1)
            # Across slices a margin of a few slices lets a lesion grow at its ends.
            margin[2] = self.preprocessing.margin // 4
        size = np.maximum(high - low + 2 * margin, window * working_voxel)
        start = np.floor((low + high - size) / 2 + 0.5)
        stop = np.minimum(start + np.ceil(size), whole)
        start = np.maximum(start, 0)
        start, stop = np.where(reverse, whole - stop, start), np.where(reverse, whole - start, stop)
        return tuple(slice(int(start[axis]), int(stop[axis])) for axis in np.argsort(own)[::-1])


def _slices_last(grid: Grid, dimensions: int) -> tuple[tuple[int, ...], str]:
    """Order of the patient axes (L, P, S) that puts the acquisition axis last, and a sentence about it.

    An image of one slice is that slice, whatever its spacing; else the scanner stepped along the coarsest axis.
    """
    if dimensions == 3:
        return (0, 1, 2), ""
    axes = [axis for axis, _ in _axes(grid, (0, 1, 2))]
    size, spacing = np.array(grid.size)[axes], np.array(grid.spacing)[axes]
    single = np.flatnonzero(size == 1)
    order = np.sort(spacing)
    if single.size:
        axis = int(max(single, key=lambda a: (spacing[a], a)))  # of several the coarsest, of equal ones the last
        note = f"The image is a single {AXIS_NAMES[axis]} slice."
    elif order[2] > ANISOTROPY * order[1]:
        axis = int(np.argmax(spacing))
        note = f"Slices are {AXIS_NAMES[axis]}: the spacing is largest ({spacing[axis]:g} mm) across them."
    else:
        axis, note = 2, f"Spacing {times(spacing)} mm shows no acquisition plane: axial slices were used."
    return (*(a for a in range(3) if a != axis), axis), note


def _axes(grid: Grid, permutation: Sequence[int]) -> tuple[tuple[int, bool], ...]:
    """For each axis after `orient`: the image's own axis it came from, and whether it was reversed."""
    code = orientation(grid)
    found = []
    for patient_axis in permutation:
        axis = next(i for i, letter in enumerate(code) if letter in ("RL", "AP", "IS")[patient_axis])
        found.append((axis, code[axis] != "LPS"[patient_axis]))
    return tuple(found)


def _along(axes: Sequence[tuple[int, bool]], grid: Grid) -> NDArray[np.float64]:
    """The grid's spacing in the order of `_axes`."""
    return np.array([grid.spacing[axis] for axis, _ in axes])


def _working_spacing(source: NDArray[np.float64], preprocessing: Preprocessing) -> NDArray[np.float64]:
    """Working spacing in ITK axis order; a 2D model leaves the spacing across slices alone."""
    if not preprocessing.spacing:
        return source
    wanted = np.array(preprocessing.spacing[::-1])
    return np.array([*wanted, source[2]]) if preprocessing.dimensions == 2 else wanted


def times(spacing: Sequence[float] | NDArray[np.float64]) -> str:
    return " x ".join(f"{value:.3g}" for value in spacing)
