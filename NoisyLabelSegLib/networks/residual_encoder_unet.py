"""nnU-Net's U-Net with a residual encoder (Isensee et al. 2024, "ResEnc"), of dynamic-network-architectures."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from NoisyLabelSegLib.networks.nnunet import build_nnunet


def residual_encoder_unet(
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    features: Sequence[int] = (32, 64, 128, 256, 320),
    blocks: Sequence[int] = (1, 3, 4, 6, 6),
) -> nn.Module:
    """Build a U-Net that halves the image between levels, with one convolution a level on the way up.

    Args:
        spatial_dims: 2 for ``BCHW``, 3 for ``BCHWD``; spatial sizes must be multiples of 2 ** (levels - 1).
        in_channels: channels of the input.
        out_channels: channels of the logits.
        features: channels of each level.
        blocks: residual blocks of each level on the way down.
    """
    return build_nnunet(
        "ResidualEncoderUNet",
        spatial_dims,
        features,
        input_channels=in_channels,
        num_classes=out_channels,
        n_blocks_per_stage=list(blocks),
        n_conv_per_stage_decoder=1,
    )
