"""Attention U-Net (Oktay et al. 2018), MONAI's: gates on the skip connections."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def attention_unet(
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    features: Sequence[int] = (32, 64, 128, 256, 320),
    dropout: float = 0.0,
) -> nn.Module:
    """Build a U-Net that halves the image between levels.

    Args:
        spatial_dims: 2 for ``BCHW``, 3 for ``BCHWD``; spatial sizes must be multiples of 2 ** (levels - 1).
        in_channels: channels of the input.
        out_channels: channels of the logits.
        features: channels of each level.
        dropout: probability of zeroing a channel.
    """
    from monai.networks.nets import AttentionUnet

    return AttentionUnet(
        spatial_dims, in_channels, out_channels, tuple(features), [2] * (len(features) - 1), dropout=dropout
    )
