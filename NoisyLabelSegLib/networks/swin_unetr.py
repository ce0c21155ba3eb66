"""SwinUNETR (Hatamizadeh et al. 2022), MONAI's: a Swin transformer as encoder, a convolutional decoder."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def swin_unetr(
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    features: int = 24,
    depths: Sequence[int] = (2, 2, 2, 2),
    heads: Sequence[int] = (3, 6, 12, 24),
    window: int = 7,
) -> nn.Module:
    """Build a SwinUNETR.

    Args:
        spatial_dims: 2 for ``BCHW``, 3 for ``BCHWD``; spatial sizes must be multiples of 32, one of them
            larger.
        in_channels: channels of the input.
        out_channels: channels of the logits.
        features: channels of the first level, a multiple of 12.
        depths: transformer layers of each level.
        heads: attention heads of each level.
        window: patches along each side of a window that attention looks at.
    """
    from monai.networks.nets import SwinUNETR

    return SwinUNETR(
        in_channels=in_channels,
        out_channels=out_channels,
        depths=tuple(depths),
        num_heads=tuple(heads),
        window_size=window,
        feature_size=features,
        spatial_dims=spatial_dims,
    )
