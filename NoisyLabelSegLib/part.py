"""A part of an image: all that a computation may need of it, however large the rest is and wherever it lies."""

from __future__ import annotations

from dataclasses import dataclass

import SimpleITK as sitk

from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.regions import Region


@dataclass(frozen=True, eq=False)
class Part:
    """See the module's text.

    Attributes:
        grid: of the whole image.
        voxels: scalars in a box of it.
        value_range: lowest and highest value in the whole image.
    """

    grid: Grid
    voxels: Region
    value_range: tuple[float, float]

    @classmethod
    def whole(cls, image: sitk.Image) -> Part:
        """A 3D image as its own part; its voxels are not copied, so it must live as long."""
        grid, voxels = Grid.of(image), sitk.GetArrayViewFromImage(image)
        return cls(grid, Region(grid.whole_box(), voxels), (float(voxels.min()), float(voxels.max())))
