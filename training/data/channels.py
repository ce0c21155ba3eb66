"""A case's image, channel by channel."""

from __future__ import annotations

import SimpleITK as sitk

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import read_image, same_grid
from training.data.cases import Case


def read_channels(case: Case) -> list[sitk.Image]:
    """The channels of a case's image, all on the grid of the first.

    Raises:
        InputError: when a file cannot be read or lies on another grid.
    """
    image = read_image(case.image)
    others = [read_image(path) for path in case.channels]
    for path, other in zip(case.channels, others, strict=True):
        if not same_grid(other, image):
            raise InputError(f"The channel '{path}' is not on the grid of '{case.image}': resample it first.")
    return [image, *others]
