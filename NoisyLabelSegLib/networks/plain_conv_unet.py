"""nnU-Net's U-Net (Isensee et al. 2021) as nnU-Net itself builds it, of the package dynamic-network-architectures."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from NoisyLabelSegLib.networks.nnunet import build_nnunet


def plain_conv_unet(
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    features: Sequence[int] = (32, 64, 128, 256, 320),
    convolutions: int = 2,
) -> nn.Module:
    """Build a U-Net that halves the image between levels.

    Args:
        spatial_dims: 2 for ``BCHW``, 3 for ``BCHWD``; spatial sizes must be multiples of 2 ** (levels - 1).
        in_channels: channels of the input.
        out_channels: channels of the logits.
        features: channels of each level.
        convolutions: of each level, on the way down and up.
    """
    return build_nnunet(
        "PlainConvUNet",
        spatial_dims,
        features,
        input_channels=in_channels,
        num_classes=out_channels,
        n_conv_per_stage=convolutions,
        n_conv_per_stage_decoder=convolutions,
    )
