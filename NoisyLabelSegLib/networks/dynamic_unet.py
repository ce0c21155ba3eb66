"""nnU-Net's plain U-Net (Isensee et al. 2021), MONAI's `DynUNet`, with as many levels as `features` names."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def dynamic_unet(
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    features: Sequence[int] = (32, 64, 128, 256),
    norm: str = "instance",
) -> nn.Module:
    """Build a U-Net that halves the image between levels.

    Args:
        spatial_dims: 2 for ``BCHW``, 3 for ``BCHWD``; spatial sizes must be multiples of 2 ** (levels - 1).
        in_channels: channels of the input.
        out_channels: channels of the logits.
        features: channels of each level.
        norm: "batch" or "instance".
    """
    from monai.networks.nets import DynUNet

    levels = len(features)
    return DynUNet(
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        out_channels=out_channels,
        kernel_size=[3] * levels,
        strides=[1] + [2] * (levels - 1),
        upsample_kernel_size=[2] * (levels - 1),
        filters=tuple(features),
        norm_name=(norm, {"affine": True}),
        act_name=("leakyrelu", {"inplace": True, "negative_slope": 0.01}),
    )
