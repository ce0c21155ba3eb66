"""UNETR (Hatamizadeh et al. 2022), MONAI's: a vision transformer as encoder, which sees images of one size only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from NoisyLabelSegLib.errors import InputError


def unetr(
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    image_size: Sequence[int] = (),
    features: int = 16,
    hidden: int = 768,
    mlp: int = 3072,
    heads: int = 12,
    dropout: float = 0.0,
) -> nn.Module:
    """Build a UNETR.

    Args:
        spatial_dims: 2 for ``BCHW``, 3 for ``BCHWD``.
        in_channels: channels of the input.
        out_channels: channels of the logits.
        image_size: spatial size that it is trained with, multiples of 16, the preprocessing's window; an image of
            another size is seen through windows of this one.
        features: channels of the decoder's first level.
        hidden: size of the transformer's tokens, a multiple of `heads`.
        mlp: size of the transformer's feed-forward layers.
        heads: attention heads.
        dropout: probability of zeroing a value in the transformer.
    """
    from monai.networks.nets import UNETR

    if len(image_size) != spatial_dims or any(size < 16 or size % 16 for size in image_size):
        raise ValueError(f"image_size must be {spatial_dims} multiples of 16, such as the preprocessing's window")
    network = UNETR(
        in_channels=in_channels,
        out_channels=out_channels,
        img_size=tuple(image_size),
        feature_size=features,
        hidden_size=hidden,
        mlp_dim=mlp,
        num_heads=heads,
        dropout_rate=dropout,
        spatial_dims=spatial_dims,
    )
    for block in network.vit.blocks:  # never called without cross-attention: nothing would train them
        block.norm_cross_attn, block.cross_attn = nn.Identity(), nn.Identity()
    return _OfOneSize(network, tuple(image_size))


class _OfOneSize(nn.Module):
    """Shows a network that takes one size only larger or smaller images through windows, in evaluation."""

    def __init__(self, network: nn.Module, size: tuple[int, ...]) -> None:
        super().__init__()
        self.network, self.size = network, size

    def forward(self, x: Tensor) -> Tensor:
        if tuple(x.shape[2:]) == self.size:
            logits: Any = self.network(x)
        elif self.training:
            raise InputError(
                f"The network was built for windows of {list(self.size)} voxels and cannot learn from "
                f"{list(x.shape[2:])}: set network.arguments.image_size to preprocessing.window."
            )
        else:
            from monai.inferers import sliding_window_inference

            logits = sliding_window_inference(x, self.size, 1, self.network, overlap=0.25, mode="gaussian")
        assert isinstance(logits, Tensor)
        return logits
