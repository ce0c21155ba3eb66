"""A part of an image: all that a computation may need of it, however large the rest is and wherever it lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import SimpleITK as sitk

from NoisyLabelSegLib.dicom_series import CONTRAST_AGENT, MODALITY
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
        header: what is known of the image's DICOM header, by `dicom_series.MODALITY` and `dicom_series.CONTRAST_AGENT`.
    """

    grid: Grid
    voxels: Region
    value_range: tuple[float, float]
    channels: tuple[Region, ...] = ()
    header: Mapping[str, str] = field(default_factory=dict)

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
        header = {key: image.GetMetaData(key) for key in (MODALITY, CONTRAST_AGENT) if image.HasMetaDataKey(key)}
        return cls(grid, first, (lowest, highest), tuple(further), header)
