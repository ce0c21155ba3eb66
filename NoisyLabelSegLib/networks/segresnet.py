"""SegResNet (Myronenko 2018, without the autoencoder), MONAI's: a residual encoder, group normalisation."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def segresnet(
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    features: int = 16,
    blocks_down: Sequence[int] = (1, 2, 2, 4),
    blocks_up: Sequence[int] = (1, 1, 1),
    dropout: float = 0.0,
) -> nn.Module:
    """Build a network that halves the image and doubles the channels between levels.

    Args:
        spatial_dims: 2 for ``BCHW``, 3 for ``BCHWD``; spatial sizes must be multiples of 2 ** (levels - 1).
        in_channels: channels of the input.
        out_channels: channels of the logits.
        features: channels of the first level, a multiple of 8.
        blocks_down: residual blocks of each level on the way down.
        blocks_up: of each level on the way up, one level fewer.
        dropout: probability of zeroing a channel of the input of the first level.
    """
    from monai.networks.nets import SegResNet

    return SegResNet(
        spatial_dims=spatial_dims,
        init_filters=features,
        in_channels=in_channels,
        out_channels=out_channels,
        dropout_prob=dropout or None,
        blocks_down=tuple(blocks_down),
        blocks_up=tuple(blocks_up),
    )
