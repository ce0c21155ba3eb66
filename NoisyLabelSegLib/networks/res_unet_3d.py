"""ResUNet3D (Lee et al. 2017) as the thesis has it for thick slices (section 4.4.2): the first pooling is in-plane.

A U-Net of residual blocks, MONAI's, with max pooling on the way down. Those blocks concatenate what is skipped with
what comes up, where Lee et al. sum them.

Decision where the thesis speaks of the pooling alone: with ``slice_wise`` the levels above an in-plane pooling look at
each slice by itself, kernels 1 x 3 x 3, a third of the work where maps are largest; false has 3 x 3 x 3 everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks.blocks.dynunet_block import UnetOutBlock, UnetResBlock
from monai.networks.blocks.unetr_block import UnetrUpBlock
from torch import Tensor, nn

from NoisyLabelSegLib.networks.affinity_umamba import ACTIVATION
from NoisyLabelSegLib.networks.level_encoder import LevelEncoder, Stride
from NoisyLabelSegLib.networks.vm_unet import strides_of


class ResUNet3D(nn.Module):
    """Maps ``BCHW[D]`` to logits ``BNHW[D]``; `encoder` gives the features of every level, the first level first.

    Args:
        spatial_dims: 3 for ``BCHWD``, slices first; 2 for ``BCHW``.
        in_channels: channels of the input.
        out_channels: N, the number of classes.
        features: channels of each level; the image halves between levels.
        in_plane_levels: how many of the halvings, the first ones, leave the number of slices of a 3D image alone.
        slice_wise: see the module's text.
        norm: "batch" or "instance".
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        features: Sequence[int] = (32, 64, 128, 256, 320),
        in_plane_levels: int = 1,
        slice_wise: bool = True,
        norm: str = "instance",
    ) -> None:
        super().__init__()
        strides = strides_of(spatial_dims, len(features), 1, in_plane_levels)
        flat = range(in_plane_levels if slice_wise and spatial_dims == 3 else 0)
        kernels = [(1, 3, 3) if level in flat else (3,) * spatial_dims for level in range(len(features))]
        normal = (norm, {"affine": True})
        self.encoder = _Encoder(in_channels, features, strides, kernels, normal)
        self.ups = nn.ModuleList(
            UnetrUpBlock(spatial_dims, features[n + 1], features[n], kernels[n], strides[n + 1], normal, res_block=True)
            for n in range(len(features) - 1)
        )
        self.head = UnetOutBlock(spatial_dims, features[0], out_channels)

    def forward(self, x: Tensor) -> Tensor:
        *skips, x = self.encoder(x)
        for up, skip in zip(reversed(self.ups), reversed(skips), strict=True):
            x = up(x, skip)
        logits: Tensor = self.head(x)
        return logits


class _Encoder(LevelEncoder):
    def __init__(
        self,
        in_channels: int,
        features: Sequence[int],
        strides: Sequence[Stride],
        kernels: Sequence[Stride],
        norm: tuple[str, dict[str, bool]],
    ) -> None:
        dimensions, channels = len(strides[0]), [in_channels, *features]
        pooling = nn.MaxPool2d if dimensions == 2 else nn.MaxPool3d
        levels = (
            nn.Sequential(
                pooling(stride) if level else nn.Identity(),
                UnetResBlock(dimensions, channels[level], channels[level + 1], kernel, 1, norm, ACTIVATION),
            )
            for level, (stride, kernel) in enumerate(zip(strides, kernels, strict=True))
        )
        super().__init__(levels, strides)
