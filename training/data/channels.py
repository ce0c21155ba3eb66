"""A case's image, channel by channel."""

from __future__ import annotations

import SimpleITK as sitk

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import read_image, same_grid
from training.data.cases import Case
from training.data.pairing import strong_of


def read_channels(case: Case, count: int = 0) -> list[sitk.Image]:
    """The channels of a case's image, all on the grid of the first.

    Args:
        case: the case.
        count: how many a network takes; of one more than there are, the last one is the strong image, resampled.

    Raises:
        InputError: when a file cannot be read or lies on another grid, or the strong image is missing.
    """
    image = read_image(case.image)
    others = [read_image(path) for path in case.channels]
    for path, other in zip(case.channels, others, strict=True):
        if not same_grid(other, image):
            raise InputError(f"The channel '{path}' is not on the grid of '{case.image}': resample it first.")
    if count == 2 + len(others):
        if case.strong is None:
            raise InputError(f"The case '{case.id}' has no strong image, which the network needs: leave it out.")
        others.append(strong_of(case, image))
    return [image, *others]
