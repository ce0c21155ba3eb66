"""A part of an image: all that a computation may need of it, however large the rest is and wherever it lies."""

from __future__ import annotations

from collections.abc import Sequence
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
        channels: of an image of several channels all but the first, in the box of `voxels`.
    """

    grid: Grid
    voxels: Region
    value_range: tuple[float, float]
    channels: tuple[Region, ...] = ()

    @classmethod
    def whole(cls, image: sitk.Image, channels: Sequence[sitk.Image] = ()) -> Part:
        """A 3D image as its own part; its voxels are not copied, so it must live as long.

        Args:
            image: the image, or its first channel.
            channels: the further ones, on the same grid.
        """
        grid = Grid.of(image)
        first, *further = (Region(grid.whole_box(), sitk.GetArrayViewFromImage(one)) for one in (image, *channels))
        lowest, highest = float(first.values.min()), float(first.values.max())
        return cls(grid, first, (lowest, highest), tuple(further))
