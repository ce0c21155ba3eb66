"""The Mamba block (Gu and Dao 2023) as U-Mamba (Ma et al. 2024) has it in a U-Net: all voxels are one sequence."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from NoisyLabelSegLib.ops.selective_scan import selective_scan

SMALLEST_STEP, LARGEST_STEP = 1e-3, 1e-1


class MambaBlock(nn.Module):
    """``x + Mamba(LayerNorm(x))`` for ``BCHW[D]``: voxels in raster order, the channels as their features.

    Args:
        channels: C.
        state: size of the hidden state of each channel (paper: 16).
        expand: inner channels as a multiple of `channels` (paper: 2).
        kernel: width of the causal convolution along the sequence (paper: 4).
    """

    def __init__(self, channels: int, state: int = 16, expand: int = 2, kernel: int = 4) -> None:
        super().__init__()
        inner, rank = expand * channels, math.ceil(channels / 16)
        self.sizes = [rank, state, state]
        self.norm = nn.LayerNorm(channels)
        self.in_proj = nn.Linear(channels, 2 * inner, bias=False)
        self.conv = nn.Conv1d(inner, inner, kernel, groups=inner, padding=kernel - 1)
        self.x_proj = nn.Linear(inner, sum(self.sizes), bias=False)
        self.step_proj = nn.Linear(rank, inner, bias=False)
        self.step_bias = nn.Parameter(step_bias(inner))
        self.decay = nn.Parameter(torch.arange(1.0, state + 1).log().repeat(inner, 1))
        self.skip = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, channels, bias=False)
        nn.init.uniform_(self.step_proj.weight, -(rank**-0.5), rank**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        sequence = x.flatten(2).transpose(1, 2)
        mixed = sequence + self._mix(self.norm(sequence))
        return mixed.transpose(1, 2).unflatten(2, x.shape[2:])

    def _mix(self, sequence: Tensor) -> Tensor:
        """``BLC`` to ``BLC``."""
        u, gate = self.in_proj(sequence).transpose(1, 2).chunk(2, dim=1)
        u = F.silu(self.conv(u)[..., : u.shape[-1]])
        step, b, c = self.x_proj(u.transpose(1, 2)).split(self.sizes, dim=-1)
        mixed = selective_scan(
            u,
            self.step_proj(step).transpose(1, 2),
            -self.decay.float().exp(),
            b.transpose(1, 2),
            c.transpose(1, 2),
            self.skip,
            gate,
            self.step_bias,
            delta_softplus=True,
        )
        return self.out_proj(mixed.transpose(1, 2))


def step_bias(inner: int) -> Tensor:
    """What softplus turns into steps between the smallest and the largest one, evenly in their logarithm."""
    low, high = math.log(SMALLEST_STEP), math.log(LARGEST_STEP)
    step = (torch.rand(inner) * (high - low) + low).exp()
    return step + torch.log(-torch.expm1(-step))
