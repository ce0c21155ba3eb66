"""AffinityUMamba's network: one encoder, a CNN decoder and an Affinity-Mamba (AM) decoder.

Zhang, Wang, Nailon, Cheng, "AffinityUMamba: uncertainty-aware medical image segmentation via probabilistic weak
supervision beyond gold-standard annotations", MICCAI 2025, sections 2.1 and 2.2. The prediction is the AM branch's.

Decisions where the paper is silent:

- Blocks: nnU-Net's (two convolutions, instance norm, leaky ReLU), MONAI's; a Mamba block follows those of the encoder
  and of the AM decoder from level `mamba_from` downwards. Level 0 is the full resolution, where the sequence is
  longest.
- PNE (2) and IAE (1) work on the branches' logits: the paper's p has as many channels as there are classes. PNE's guide
  is the network's input; its intensities are z-scored, so sigma = 1 is a contrast of one standard deviation.
- IAE's guide is the CNN branch after PNE. ``"sum"`` is (1) as written, which makes logits up to 27 times larger in 3D;
  ``"mean"`` divides by the number of neighbours that are added.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from monai.networks.blocks.dynunet_block import UnetBasicBlock, UnetOutBlock, UnetUpBlock
from torch import Tensor, nn

from NoisyLabelSegLib.networks.mamba import MambaBlock
from NoisyLabelSegLib.ops.aggregation import gaussian_aggregate, thresholded_aggregate

BRANCHES = 2


class AffinityUMamba(nn.Module):
    """Maps ``BCHW[D]`` to logits ``B(2N)HW[D]``: N of the AM branch, the prediction, then N of the CNN branch.

    Args:
        spatial_dims: 2 for ``BCHW``, 3 for ``BCHWD``; spatial sizes must be multiples of 2 ** (levels - 1).
        in_channels: channels of the input.
        out_channels: N, the number of classes.
        features: channels of each level; the image halves between levels.
        mamba_from: first level with Mamba blocks; the number of levels (or more) is a network without Mamba.
        state: size of Mamba's hidden state.
        pne: sizes of PNE's neighbourhoods (paper: 3, 5, 7); none switches it off.
        sigma: of PNE's Gaussian over intensities.
        iae: see the module's text; "none" switches it off.
        deep_supervision: gives the decoders' lower levels heads, for ``levels=True``.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        features: Sequence[int] = (32, 64, 128, 256, 320),
        mamba_from: int = 0,
        state: int = 16,
        pne: Sequence[int] = (3, 5, 7),
        sigma: float = 1.0,
        iae: Literal["sum", "mean", "none"] = "sum",
        deep_supervision: bool = False,
    ) -> None:
        super().__init__()
        if iae not in ("sum", "mean", "none"):
            raise ValueError(f"iae must be sum, mean or none, not {iae!r}")
        self.pne, self.sigma, self.iae = tuple(pne), sigma, iae
        self.encoder = _Encoder(spatial_dims, in_channels, features, mamba_from, state)
        heads = len(features) - 1 if deep_supervision else 1
        self.cnn = _Decoder(spatial_dims, features, out_channels, heads, len(features), state)
        self.am = _Decoder(spatial_dims, features, out_channels, heads, mamba_from, state)

    def forward(self, x: Tensor, levels: bool = False) -> Tensor | list[Tensor]:
        """Logits; with ``levels`` a list, the full resolution first, then the lower ones that have heads."""
        skips = self.encoder(x)
        cnn, am = self.cnn(skips), self.am(skips)
        cnn[0], am[0] = self._enhance(cnn[0], am[0], x)
        joined = [torch.cat(pair, dim=1) for pair in zip(am, cnn, strict=True)]
        return joined if levels else joined[0]

    def _enhance(self, cnn: Tensor, am: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """Equations (2) and (1), in float32: PNE for the CNN branch, then IAE for the AM branch."""
        cnn, am = cnn.float(), am.float()
        if self.pne:
            cnn = cnn + gaussian_aggregate(cnn, image.float(), self.pne, self.sigma)
        if self.iae != "none":
            am = am + thresholded_aggregate(am, cnn.detach(), 3, kind=self.iae)
        return cnn, am


class _Encoder(nn.Module):
    def __init__(self, dimensions: int, in_channels: int, features: Sequence[int], mamba_from: int, state: int) -> None:
        super().__init__()
        channels = [in_channels, *features]
        self.levels = nn.ModuleList(
            nn.Sequential(
                _block(dimensions, channels[level], channels[level + 1], stride=2 if level else 1),
                *_mixers(channels[level + 1], level, mamba_from, state),
            )
            for level in range(len(features))
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        skips = []
        for level in self.levels:
            x = level(x)
            skips.append(x)
        return skips


class _Decoder(nn.Module):
    def __init__(
        self, dimensions: int, features: Sequence[int], classes: int, heads: int, mamba_from: int, state: int
    ) -> None:
        super().__init__()
        levels = range(len(features) - 1)
        self.ups = nn.ModuleList(
            UnetUpBlock(dimensions, features[n + 1], features[n], 3, 1, 2, NORM, ACTIVATION) for n in levels
        )
        self.mixers = nn.ModuleList(nn.Sequential(*_mixers(features[n], n, mamba_from, state)) for n in levels)
        self.heads = nn.ModuleList(UnetOutBlock(dimensions, features[n], classes) for n in range(heads))

    def forward(self, skips: Sequence[Tensor]) -> list[Tensor]:
        """Logits of the levels that have heads, the full resolution first."""
        x, logits = skips[-1], []
        for level in reversed(range(len(self.ups))):
            x = self.mixers[level](self.ups[level](x, skips[level]))
            if level < len(self.heads):
                logits.append(self.heads[level](x))
        return logits[::-1]


NORM = ("instance", {"affine": True})
ACTIVATION = ("leakyrelu", {"inplace": True, "negative_slope": 0.01})


def _block(dimensions: int, in_channels: int, out_channels: int, stride: int) -> nn.Module:
    block: nn.Module = UnetBasicBlock(dimensions, in_channels, out_channels, 3, stride, NORM, ACTIVATION)
    return block


def _mixers(channels: int, level: int, mamba_from: int, state: int) -> list[nn.Module]:
    return [MambaBlock(channels, state)] if level >= mamba_from else []
