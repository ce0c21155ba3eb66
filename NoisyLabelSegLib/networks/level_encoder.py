"""An encoder that is a row of levels, each with a stride: what ResUNet3D and VM-UNet have in common."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from NoisyLabelSegLib.errors import InputError

Stride = tuple[int, ...]


class LevelEncoder(nn.Module):
    """Maps ``BCHW[D]`` to the features of every level, the first level first.

    ``levels[n]`` alone maps the features of level n - 1, or the image, to those of level n.

    Args:
        levels: the levels themselves.
        strides: of each level to the one before it.
    """

    def __init__(self, levels: Iterable[nn.Module], strides: Sequence[Stride]) -> None:
        super().__init__()
        self.multiples = [math.prod(axis) for axis in zip(*strides, strict=True)]
        self.levels = nn.ModuleList(levels)

    def forward(self, x: Tensor) -> list[Tensor]:
        """All levels' features.

        Raises:
            InputError: when a spatial size is not a multiple of all strides.
        """
        if any(size % multiple for size, multiple in zip(x.shape[2:], self.multiples, strict=True)):
            raise InputError(
                f"The network takes images whose sizes are multiples of {self.multiples} voxels, not "
                f"{list(x.shape[2:])}: set preprocessing.multiple to {max(self.multiples)}, or such a window."
            )
        features = []
        for level in self.levels:
            x = level(x)
            features.append(x)
        return features
