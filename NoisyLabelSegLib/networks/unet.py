"""U-Net (Ronneberger et al. 2015), MONAI's `BasicUNet`, in 2D or 3D."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def unet(
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    features: Sequence[int] = (32, 32, 64, 128, 256, 32),
    norm: str = "batch",
    dropout: float = 0.0,
) -> nn.Module:
    """Build a five-level U-Net.

    Args:
        spatial_dims: 2 for ``BCHW``, 3 for ``BCHWD``; each spatial size must be a multiple of 16.
        in_channels: channels of the input.
        out_channels: channels of the logits.
        features: channels of the five encoder levels and of the last decoder level.
        norm: "batch" or "instance".
        dropout: probability of zeroing a channel.
    """
    from monai.networks.nets import BasicUNet

    return BasicUNet(
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        out_channels=out_channels,
        features=tuple(features),
        act=("LeakyReLU", {"inplace": True, "negative_slope": 0.1}),
        norm=(norm, {"affine": True}),
        dropout=dropout,
    )
