"""U-Net++ (Zhou et al. 2018), MONAI's: nested skip connections; the answer is the last, full-resolution head's."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


def unet_plus_plus(
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    features: Sequence[int] = (32, 32, 64, 128, 256, 32),
    norm: str = "instance",
    dropout: float = 0.0,
) -> nn.Module:
    """Build a five-level U-Net++.

    Args:
        spatial_dims: 2 for ``BCHW``, 3 for ``BCHWD``; each spatial size must be a multiple of 16.
        in_channels: channels of the input.
        out_channels: channels of the logits.
        features: channels of the five encoder levels and of the last decoder level.
        norm: "batch" or "instance".
        dropout: probability of zeroing a channel.
    """
    from monai.networks.nets import BasicUNetPlusPlus

    network = BasicUNetPlusPlus(
        spatial_dims, in_channels, out_channels, tuple(features), norm=(norm, {"affine": True}), dropout=dropout
    )
    for level in (1, 2, 3):  # heads of the other columns: without deep supervision nothing would train them
        setattr(network, f"final_conv_0_{level}", nn.Identity())
    return nn.Sequential(network, _Only())


class _Only(nn.Module):
    def forward(self, outputs: Sequence[Tensor]) -> Tensor:
        (only,) = outputs
        return only
