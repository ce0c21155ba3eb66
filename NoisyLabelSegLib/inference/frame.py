"""Where a network's input lies in the image it was taken from: the way there, and exactly back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.regions import Box, Region

HAIR = 1e-3  # Of a voxel.


@dataclass(frozen=True)
class Frame:
    """Where a crop lies in the image it was taken from: brings arrays of that grid into the crop, and back.

    Attributes:
        grid: the image's.
        permutation: order of the patient axes L, P, S in the working frame; the last one holds the slices.
        box: the crop in the image's array.
        working: the crop's working grid.
        padding: voxels before and after each array axis.
    """

    grid: Grid
    permutation: tuple[int, ...]
    box: Box
    working: Grid
    padding: tuple[tuple[int, int], ...]

    @property
    def inside(self) -> Box:
        """What of the crop's array is the image's, and no padding."""
        lengths = self.working.size[::-1]
        first, second, third = (slice(low, low + n) for (low, _), n in zip(self.padding, lengths, strict=True))
        return first, second, third

    def bring(self, region: Region, *, linear: bool) -> NDArray[Any]:
        """Crop a region of the image as an array (slices, rows, columns); label maps are padded with 0."""
        crop = orient(self.grid.crop(self.box).image(region.cut(self.box)), self.permutation)
        if not _same_lattice(Grid.of(crop), self.working):
            crop = sitk.Cast(crop, sitk.sitkFloat32) if linear else crop
            crop = _resample(crop, self.working, sitk.sitkLinear if linear else sitk.sitkNearestNeighbor)
        voxels = sitk.GetArrayFromImage(crop)
        return np.pad(voxels, self.padding, mode="edge") if linear else np.pad(voxels, self.padding)

    def restore(self, values: NDArray[Any], fill: float = 0) -> sitk.Image:
        """Put a crop's array back on the image's grid, ``fill`` outside the crop.

        Floating-point maps are interpolated linearly where the working grid differs from the image's, others by
        nearest neighbour.
        """
        crop = self._restore(values)
        whole = self.grid.empty_image(crop.GetPixelID())
        start = [side.start for side in self.box[::-1]]
        whole = sitk.Paste(whole + fill if fill else whole, crop, crop.GetSize(), (0, 0, 0), start)
        return whole

    def restore_region(self, values: NDArray[Any]) -> Region:
        """`restore`, but only the crop's box."""
        return Region(self.box, sitk.GetArrayFromImage(self._restore(values)))

    def _restore(self, values: NDArray[Any]) -> sitk.Image:
        """An array of the crop as an image with the crop's voxels of the image's grid."""
        crop = self.working.image(values[self.inside])
        grid = oriented(self.grid.crop(self.box), self.permutation)
        if not _same_lattice(self.working, grid):
            linear = np.issubdtype(values.dtype, np.floating)
            crop = _resample(crop, grid, sitk.sitkLinear if linear else sitk.sitkNearestNeighbor)
        inverse = tuple(int(i) for i in np.argsort(self.permutation))
        return sitk.DICOMOrient(sitk.PermuteAxes(crop, inverse), orientation(self.grid))


def orient(image: sitk.Image, permutation: Sequence[int]) -> sitk.Image:
    """Turn an image's axes into L, P, S and then into the order of ``permutation``: no voxel is interpolated."""
    return sitk.PermuteAxes(sitk.DICOMOrient(image, "LPS"), tuple(permutation))


def oriented(grid: Grid, permutation: Sequence[int]) -> Grid:
    return Grid.of(orient(grid.empty_image(), permutation))


def orientation(grid: Grid) -> str:
    return sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(grid.direction)


def resampled_grid(grid: Grid, spacing: NDArray[np.float64]) -> Grid:
    """The same physical extent at another spacing, centred on it but for a hair.

    Exactly centred voxels can lie midway between the region's, where rounding alone would decide which one is nearest,
    otherwise for the same image in another orientation.
    """
    old_size = np.array(grid.size)
    size = np.maximum(np.round(old_size * grid.spacing / spacing), 1).astype(int)
    centre, direction = grid.to_physical((old_size - 1) / 2), np.reshape(grid.direction, (3, 3))
    origin = centre - direction @ (((size - 1) / 2 - HAIR) * spacing)
    return Grid(tuple(size.tolist()), tuple(spacing.tolist()), tuple(origin.tolist()), grid.direction)


def _resample(image: sitk.Image, grid: Grid, interpolator: int) -> sitk.Image:
    # Points in the outer half voxel lie beyond the last sample: the nearest one holds there, not a default value.
    method = sitk.ResampleImageFilter()
    method.SetSize(grid.size)
    method.SetOutputSpacing(grid.spacing)
    method.SetOutputOrigin(grid.origin)
    method.SetOutputDirection(grid.direction)
    method.SetInterpolator(interpolator)
    method.SetUseNearestNeighborExtrapolator(True)
    return method.Execute(image)


def _same_lattice(a: Grid, b: Grid) -> bool:
    return a.size == b.size and np.allclose(a.spacing, b.spacing) and np.allclose(a.origin, b.origin)
