"""Slices of a tilted gantry or at uneven distances, resampled to a grid that a `SimpleITK.Image` can express.

The new grid keeps the planes and the pixels of the slices, and its third axis is perpendicular to them. So a tilt costs
a shift of each slice within its own plane, and nothing is mixed across slices, which are thick where gantries tilt.

Uneven slices are interpolated linearly, at the distance that the closest quarter of them has: so the finely sliced part
of a scan is not thinned out (the median would do so where it is the smaller part), and the coarse part only gains
slices. One odd pair, such as where two parts of a scan meet, decides nothing, and half the median is the least.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.grid import Grid

LARGEST_GAP = 2.5
"""Of the median distance of two slices: beyond it slices are missing, and what lay there is not to be invented."""
STEEPEST = 45.0
"""Degrees: no gantry tilts so far."""
UNEVEN, SHIFTED = 0.1, 0.5
"""Distances that differ by a tenth of their mean, and slices shifted by half a pixel, are still a plain grid."""


@dataclass(frozen=True, eq=False)
class Stack:
    """Parallel slices where they were acquired.

    Attributes:
        voxels: (K, J, I).
        pixel: size of a pixel along I and J, mm.
        positions: (K, 3), LPS in mm: the centre of each slice's first pixel.
        axes: (2, 3): the directions of I and J.
    """

    voxels: NDArray[np.generic]
    pixel: NDArray[np.float64]
    positions: NDArray[np.float64]
    axes: NDArray[np.float64]

    @property
    def normal(self) -> NDArray[np.float64]:
        return np.cross(*self.axes)

    @property
    def heights(self) -> NDArray[np.float64]:
        """Of each slice along the normal, from the first one, mm."""
        return np.asarray((self.positions - self.positions[0]) @ self.normal)

    @property
    def steps(self) -> NDArray[np.float64]:
        """The slices' distances, mm."""
        return np.abs(np.diff(self.heights))

    @property
    def shifts(self) -> NDArray[np.float64]:
        """(K, 2): how far each slice lies from straight above the first one, in pixels along I and J."""
        return np.asarray((self.positions - self.positions[0]) @ self.axes.T / self.pixel)

    @property
    def tilt(self) -> float:
        """Degrees between the way from the first to the last slice and the normal."""
        way = self.positions[-1] - self.positions[0]
        along = abs(float(way @ self.normal))
        return float(np.degrees(np.arctan2(np.linalg.norm(way - way @ self.normal * self.normal), along)))

    @property
    def is_tilted(self) -> bool:
        return bool(np.linalg.norm(self.shifts * self.pixel, axis=1).max() > SHIFTED * self.pixel.min())

    @property
    def is_uneven(self) -> bool:
        return bool(np.abs(self.steps - self.steps.mean()).max() > UNEVEN * self.steps.mean())

    def ascending(self) -> Stack:
        """The same slices in the order of their heights."""
        order = np.argsort(self.heights)
        return Stack(self.voxels[order], self.pixel, self.positions[order], self.axes)


def problems(stack: Stack) -> list[str]:
    """Why the slices are no plain grid; nothing when they are one."""
    found = []
    if stack.is_tilted:
        found.append(f"a tilted gantry (slices shifted against each other, {stack.tilt:.1f} degrees)")
    if stack.is_uneven:
        found.append(f"uneven slice spacing ({stack.steps.min():.4g} to {stack.steps.max():.4g} mm)")
    return found


def straightened(stack: Stack, what: str) -> tuple[sitk.Image, str]:
    """Slices on a plain grid that covers all of them, the least value where there are none.

    Args:
        stack: with `problems`.
        what: names the series in the sentence.

    Returns:
        The image, of the slices' pixel type, and a sentence that says what was done.

    Raises:
        InputError: slices are missing, or they are shifted as no gantry does it.
    """
    stack = stack.ascending()
    why = " and ".join(problems(stack))
    if stack.steps.max() > LARGEST_GAP * np.median(stack.steps):
        raise InputError(f"{what} has {why}: slices are missing, and what lies there is not made up; get all of them.")
    if np.ptp(stack.shifts * stack.pixel, axis=0).max() > np.tan(np.radians(STEEPEST)) * np.ptp(stack.heights):
        raise InputError(f"{what} has {why}, which no scanner makes: check the slices' positions.")
    shifted, start = _side_by_side(stack)
    values, spacing = _evenly_spaced(shifted, stack)
    i, j, k = (float(mm) for mm in (*stack.pixel, spacing))
    origin = stack.positions[0] + (start * stack.pixel) @ stack.axes
    direction = np.column_stack([*stack.axes, stack.normal]).ravel()
    grid = Grid(values.shape[::-1], (i, j, k), tuple(origin.tolist()), tuple(direction.tolist()))
    whole = np.issubdtype(stack.voxels.dtype, np.integer)
    image = grid.image((np.rint(values) if whole else values).astype(stack.voxels.dtype))
    size = " x ".join(map(str, grid.size))
    return image, (
        f"The series has {why}: it was resampled (linear) to slices parallel to the acquired ones, straight above each "
        f"other and {spacing:.4g} mm apart ({size} voxels), and the result lies on that grid."
    )


def _side_by_side(stack: Stack) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """All slices on one lattice of pixels, that of the first one, and where on it they begin (I, J)."""
    start = np.floor(stack.shifts.min(axis=0) + 1e-6).astype(np.intp)
    stop = np.ceil(stack.shifts.max(axis=0) - 1e-6).astype(np.intp)
    size = (np.array(stack.voxels.shape[:0:-1]) + stop - start).tolist()
    method = sitk.ResampleImageFilter()
    method.SetSize(size)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetDefaultPixelValue(float(stack.voxels.min()))
    result = np.empty((len(stack.voxels), *size[::-1]), np.float32)
    for pixels, shift, target in zip(stack.voxels, stack.shifts, result, strict=True):
        method.SetOutputOrigin((start - shift).tolist())
        target[:] = sitk.GetArrayFromImage(method.Execute(sitk.GetImageFromArray(pixels.astype(np.float32))))
    return result, start


def _evenly_spaced(slices: NDArray[np.float32], stack: Stack) -> tuple[NDArray[np.float32], float]:
    """Slices interpolated at even heights from the first to the last one, and their distance."""
    heights, steps = stack.heights, stack.steps
    wanted = max(np.quantile(steps, 0.25), np.median(steps) / 2)
    count = round(heights[-1] / wanted) + 1
    even = np.linspace(0, heights[-1], count)
    above = np.clip(np.searchsorted(heights, even), 1, len(heights) - 1)
    share = ((even - heights[above - 1]) / (heights[above] - heights[above - 1])).astype(np.float32)
    result = slices[above - 1]
    result += share[:, None, None] * (slices[above] - result)
    return result, heights[-1] / (count - 1)
