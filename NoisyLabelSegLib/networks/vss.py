"""VM-UNet's building blocks (Ruan and Xiang 2024) on maps ``BCHW[D]``: the VSS block, and what changes a map's size.

The visual state space (VSS) block is the one of VMamba's first version (Liu et al. 2024), which VM-UNet took: norm, a
linear layer to a map and a gate, depthwise convolution, SiLU, selective scan both ways along every axis (four
directions in 2D, six in 3D), norm, gate, linear, residual. Vision Mamba (Zhu et al. 2024) convolves and scans all
patches as one sequence, forwards and backwards; VMamba's later versions have a feed-forward layer instead of the gate.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from monai.networks.layers import Conv
from torch import Tensor, nn
from torch.nn import functional as F

from NoisyLabelSegLib.networks.mamba import step_bias
from NoisyLabelSegLib.ops.cross_scan import ScanInputs, cross_selective_scan

EXPAND = 2


class VSSBlock(nn.Module):
    """``x + SS2D(norm(x))``, see the module's text.

    Args:
        spatial_dims: 2 for ``BCHW``, 3 for ``BCHWD``.
        channels: C.
        state: size of the hidden state of each channel.
    """

    def __init__(self, spatial_dims: int, channels: int, state: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.mix = SS2D(spatial_dims, channels, EXPAND * channels, channels, state)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = x + self.mix(self.norm(x))
        return mixed


class SS2D(nn.Module):
    """The gated selective scan of a map, from `in_channels` over `inner` to `out_channels`; in 3D too."""

    def __init__(self, spatial_dims: int, in_channels: int, inner: int, out_channels: int, state: int) -> None:
        super().__init__()
        self.enter = pointwise(spatial_dims, in_channels, 2 * inner, bias=False)
        self.local = depthwise(spatial_dims, inner)
        self.selection = Selection(spatial_dims, inner, state)
        self.norm = ChannelNorm(inner)
        self.leave = pointwise(spatial_dims, inner, out_channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x, gate = self.enter(x).chunk(2, dim=1)
        given = self.selection(F.silu(self.local(x)))
        y = cross_selective_scan(
            given.u, given.delta, given.A, given.B, given.C, given.D, given.delta_bias, delta_softplus=True
        )
        left: Tensor = self.leave(self.norm(y) * F.silu(gate))
        return left


class Selection(nn.Module):
    """What a selective scan needs beside the map; every direction has its own, all made in one pass over the map."""

    def __init__(self, spatial_dims: int, channels: int, state: int) -> None:
        super().__init__()
        self.directions, rank = 2 * spatial_dims, math.ceil(channels / (16 * EXPAND))
        self.sizes = [rank, state, state]
        self.project = pointwise(spatial_dims, channels, self.directions * sum(self.sizes), bias=False)
        self.step = pointwise(
            spatial_dims, self.directions * rank, self.directions * channels, bias=False, groups=self.directions
        )
        self.step_bias = nn.Parameter(step_bias(self.directions * channels).unflatten(0, (self.directions, channels)))
        self.decay = nn.Parameter(torch.arange(1.0, state + 1).log().repeat(self.directions, channels, 1))
        self.skip = nn.Parameter(torch.ones(self.directions, channels))

    def forward(self, x: Tensor) -> ScanInputs:
        step, b, c = self.project(x).unflatten(1, (self.directions, -1)).split(self.sizes, dim=2)
        delta = self.step(step.flatten(1, 2)).unflatten(1, (self.directions, -1))
        return ScanInputs(x, delta, -self.decay.exp(), b, c, self.skip, self.step_bias)


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each voxel."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class PatchMerging(nn.Module):
    """Divides each axis by its stride: a patch's voxels become one, their channels joined, normed and projected."""

    def __init__(self, in_channels: int, out_channels: int, stride: Sequence[int]) -> None:
        super().__init__()
        joined = in_channels * math.prod(stride)
        self.stride = tuple(stride)
        self.norm = ChannelNorm(joined)
        self.reduce = pointwise(len(stride), joined, out_channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        places = [[slice(first, None, step) for first in range(step)] for step in (1, 1, *self.stride)]
        joined = torch.cat([x[place] for place in itertools.product(*places)], dim=1)
        merged: Tensor = self.reduce(self.norm(joined))
        return merged


def patch_embedding(in_channels: int, out_channels: int, patch: Sequence[int]) -> list[nn.Module]:
    """The layers that divide an image into patches."""
    convolution = Conv[Conv.CONV, len(patch)](in_channels, out_channels, tuple(patch), stride=tuple(patch))
    return [convolution, ChannelNorm(out_channels)]


def patch_expanding(in_channels: int, out_channels: int, stride: Sequence[int]) -> nn.Sequential:
    """Multiplies each axis by its stride: a linear layer gives a voxel the channels of its patch."""
    # A transposed convolution whose kernels do not overlap is that layer and its rearrangement in one.
    expand = Conv[Conv.CONVTRANS, len(stride)](
        in_channels, out_channels, tuple(stride), stride=tuple(stride), bias=False
    )
    return nn.Sequential(expand, ChannelNorm(out_channels))


def pointwise(
    spatial_dims: int, in_channels: int, out_channels: int, *, bias: bool = True, groups: int = 1
) -> nn.Module:
    """The linear layer of each voxel."""
    layer: nn.Module = Conv[Conv.CONV, spatial_dims](in_channels, out_channels, 1, bias=bias, groups=groups)
    return layer


def depthwise(spatial_dims: int, channels: int) -> nn.Module:
    """A convolution of each channel with its own kernel of three voxels an axis."""
    layer: nn.Module = Conv[Conv.CONV, spatial_dims](channels, channels, 3, padding=1, groups=channels)
    return layer
