"""VM-UNet (Ruan and Xiang 2024), a U-Net of VSS blocks, in 2D as published and in 3D; encoder and decoder also alone.

Patches are embedded, then each level's blocks follow, halved by merging in between; the decoder has as many blocks at
each level as the encoder (published: one less at the first), and adds the encoder's maps to its own. Each level of the
encoder ends in a norm, as those of VMamba do where others use its features: without it the scale of deep levels runs
away, and what fuses or teaches features cannot compare them.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from NoisyLabelSegLib.networks.level_encoder import LevelEncoder, Stride
from NoisyLabelSegLib.networks.vss import (
    ChannelNorm,
    PatchMerging,
    VSSBlock,
    patch_embedding,
    patch_expanding,
    pointwise,
)


class VMUNet(nn.Module):
    """Maps ``BCHW[D]`` to logits ``BNHW[D]``; `encoder`'s features are what `decoder` takes.

    Args:
        spatial_dims: 2 for ``BCHW``, 3 for ``BCHWD``; spatial sizes must be multiples of patch * 2 ** (levels - 1).
        in_channels: channels of the input; neighbouring slices as channels of a 2D network make it 2.5D.
        out_channels: N, the number of classes.
        features: channels of each level.
        blocks: VSS blocks of each level.
        state: size of the hidden state of each channel.
        patch: voxels an axis that are embedded as one; one number for each axis, slices first, if the slices are thick.
        in_plane_levels: how many of the halvings, the first ones, leave the number of slices of a 3D image alone.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        features: Sequence[int] = (96, 192, 384, 768),
        blocks: Sequence[int] = (2, 2, 2, 2),
        state: int = 16,
        patch: int | Sequence[int] = 4,
        in_plane_levels: int = 0,
    ) -> None:
        super().__init__()
        strides = strides_of(spatial_dims, len(features), patch, in_plane_levels)
        self.features = tuple(features)
        self.encoder = VMEncoder(in_channels, features, blocks, strides, state)
        self.decoder = VMDecoder(out_channels, features, blocks, strides, state)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.decoder(self.encoder(x))
        return logits


class VMEncoder(LevelEncoder):
    """VM-UNet's.

    Args:
        in_channels, features, blocks, state: see `VMUNet`.
        strides: of each level to the one before it, the patch's for the first; see `strides_of`.
    """

    def __init__(
        self, in_channels: int, features: Sequence[int], blocks: Sequence[int], strides: Sequence[Stride], state: int
    ) -> None:
        first = nn.Sequential(*patch_embedding(in_channels, features[0], strides[0]))
        merging = [PatchMerging(features[n - 1], features[n], strides[n]) for n in range(1, len(features))]
        levels = (
            nn.Sequential(enter, *_blocks(len(strides[0]), width, count, state), ChannelNorm(width))
            for enter, width, count in zip([first, *merging], features, blocks, strict=True)
        )
        super().__init__(levels, strides)


class VMDecoder(nn.Module):
    """Maps the features of every level, the first level first, to logits of the image's size."""

    def __init__(
        self, out_channels: int, features: Sequence[int], blocks: Sequence[int], strides: Sequence[Stride], state: int
    ) -> None:
        super().__init__()
        dimensions = len(strides[0])
        self.levels = nn.ModuleList(
            nn.Sequential(*_blocks(dimensions, width, count, state))
            for width, count in zip(features, blocks, strict=True)
        )
        self.ups = nn.ModuleList(
            patch_expanding(features[n], features[n - 1], strides[n]) for n in range(1, len(features))
        )
        self.head = nn.Sequential(
            patch_expanding(features[0], features[0], strides[0]), pointwise(dimensions, features[0], out_channels)
        )

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        x = self.levels[-1](features[-1])
        for n in reversed(range(len(self.ups))):
            x = self.levels[n](self.ups[n](x) + features[n])
        logits: Tensor = self.head(x)
        return logits


def strides_of(spatial_dims: int, levels: int, patch: int | Sequence[int], in_plane_levels: int = 0) -> list[Stride]:
    """The strides of each level to the one before it, the first one's being the patch.

    Raises:
        ValueError: when the patch does not fit the dimensions.
    """
    first = (patch,) * spatial_dims if isinstance(patch, int) else tuple(patch)
    if len(first) != spatial_dims or min(first) < 1:
        raise ValueError(f"patch must be one positive number or {spatial_dims}, not {patch}")
    in_plane, all_axes = (1,) * (spatial_dims - 2) + (2, 2), (2,) * spatial_dims
    return [first, *(in_plane if n < in_plane_levels else all_axes for n in range(levels - 1))]


def _blocks(spatial_dims: int, channels: int, count: int, state: int) -> list[nn.Module]:
    return [VSSBlock(spatial_dims, channels, state) for _ in range(count)]
