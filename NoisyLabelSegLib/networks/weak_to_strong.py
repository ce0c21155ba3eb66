"""The network of two modalities whose knowledge a network of the weak one alone takes over: ARM and plainer fusions.

Chapter 5 of the thesis, section 5.3.2: a VM-UNet encoder for each modality, an Asymmetric Relationship Modelling (ARM)
module at each of the levels, and a decoder of the fused features. The weak encoder and the decoder are a `VMUNet`'s.

Decisions where the thesis is silent:

- The encoders do not see each other (figure 5.2): a level goes on from its own features f_k, not from o_k.
- (5.1) keeps the width and has no activation, (5.2) scans in all directions of SS2D, and directions have their own A,
  B, C, D and steps. The MLP of (5.4) is twice as wide as its ends, with a GELU.
- (5.5)'s SS2D is a VSS block's inside: linear, depthwise convolution, SiLU, scan, norm, gate, linear. The last layer
  brings it from the concatenation's width to that of o_k, which (5.6) adds it to.
- Linear layers of ARM have biases, those of SS2D none (VMamba's); modalities share no parameter but those of g_sh.
- The fusions of the tables: "early" stacks the images before one encoder, "concat" projects the concatenation of a
  level's features by a linear layer, "add" and "multiply" have no parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.networks.vm_unet import VMDecoder, VMEncoder, strides_of
from NoisyLabelSegLib.networks.vss import EXPAND, SS2D, ChannelNorm, Selection, depthwise, pointwise
from NoisyLabelSegLib.ops.cross_scan import ScanInputs, cross_modal_scan

Fusion = Literal["arm", "early", "concat", "add", "multiply"]


class Levels(NamedTuple):
    """Features of every level, the first level first; with "early" both are the one encoder's."""

    weak: list[Tensor]
    fused: list[Tensor]


class WeakToStrong(nn.Module):
    """Maps both modalities, ``BCHW[D]`` with the weak one's channels first, to logits ``BNHW[D]``.

    `weak`, `strong` and `decoder` map the weak image and the strong image to the features of their levels, and fused
    features to logits; `arms` fuses each level's.

    Args:
        spatial_dims, out_channels, features, blocks, state, patch, in_plane_levels: see `VMUNet`.
        in_channels: channels of both modalities.
        fusion: see the module's text.
        strong_channels: how many of the channels are the strong modality's.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        features: Sequence[int] = (96, 192, 384, 768),
        blocks: Sequence[int] = (2, 2, 2, 2),
        state: int = 16,
        patch: int | Sequence[int] = 4,
        in_plane_levels: int = 0,
        fusion: Fusion = "arm",
        strong_channels: int = 1,
    ) -> None:
        super().__init__()
        if fusion not in ("arm", "early", "concat", "add", "multiply"):
            raise ValueError(f"fusion must be arm, early, concat, add or multiply, not {fusion!r}")
        if not 0 < strong_channels < in_channels:
            raise ValueError(f"of {in_channels} channels {strong_channels} cannot be strong and the others weak")
        self.channels, self.early = [in_channels - strong_channels, strong_channels], fusion == "early"
        strides = strides_of(spatial_dims, len(features), patch, in_plane_levels)
        self.weak = VMEncoder(in_channels if self.early else self.channels[0], features, blocks, strides, state)
        if not self.early:
            self.strong = VMEncoder(strong_channels, features, blocks, strides, state)
            self.arms = nn.ModuleList(_fusion(fusion, spatial_dims, width, state) for width in features)
        self.decoder = VMDecoder(out_channels, features, blocks, strides, state)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.decoder(self.levels(x).fused)
        return logits

    def levels(self, x: Tensor) -> Levels:
        """The features of both modalities ``BCHW[D]``."""
        if self.early:
            both = self.weak(x)
            return Levels(both, both)
        weak, strong = x.split(self.channels, dim=1)
        found = self.weak(weak)
        return Levels(found, self.fuse(found, self.strong(strong)))

    def fuse(self, weak: Sequence[Tensor], strong: Sequence[Tensor]) -> list[Tensor]:
        """The fused features of every level; not for "early"."""
        return [arm(s, w) for arm, s, w in zip(self.arms, strong, weak, strict=True)]


def weak_only(network: WeakToStrong) -> dict[str, Tensor]:
    """The state of the `VMUNet` that sees the weak modality alone: weak encoder and decoder.

    With "early" the weak image stands for the strong one too, as in the thesis's fine-tuning (table 5.3).

    Raises:
        InputError: when it cannot, as the modalities have different numbers of channels.
    """
    named = network.state_dict()
    state = {
        new + name.removeprefix(old): tensor
        for old, new in (("weak.", "encoder."), ("decoder.", "decoder."))
        for name, tensor in named.items()
        if name.startswith(old)
    }
    if network.early:
        weak, strong = network.channels
        if weak != strong:
            raise InputError(
                f"A weak image of {weak} channels cannot stand for a strong one of {strong}: fuse later than early."
            )
        of_weak, of_strong = state[EMBEDDING].split(weak, dim=1)
        state[EMBEDDING] = of_weak + of_strong
    return state


EMBEDDING = "encoder.levels.0.0.0.weight"


class ARM(nn.Module):
    """MFEM, then CFAM: strong and weak features ``BCHW[D]`` of a level to the fused ones."""

    def __init__(self, spatial_dims: int, channels: int, state: int) -> None:
        super().__init__()
        self.mfem = MFEM(spatial_dims, channels, state)
        self.cfam = CFAM(spatial_dims, channels, state)

    def forward(self, strong: Tensor, weak: Tensor) -> Tensor:
        fused: Tensor = self.cfam(*self.mfem(strong, weak))
        return fused


class MFEM(nn.Module):
    """Mutual Feature Enhancement, (5.1) to (5.4): f_s and f_w ``BCHW[D]`` to o_s and o_w."""

    def __init__(self, spatial_dims: int, channels: int, state: int) -> None:
        super().__init__()
        self.strong = _Stream(spatial_dims, channels, state)
        self.weak = _Stream(spatial_dims, channels, state)

    def forward(self, strong: Tensor, weak: Tensor) -> tuple[Tensor, Tensor]:
        y_strong, y_weak = cross_modal_scan(self.strong(strong), self.weak(weak), delta_softplus=True)
        return strong + self.strong.mlp(y_strong), weak + self.weak.mlp(y_weak)


class _Stream(nn.Module):
    """One modality's part of MFEM: what comes before the scan, (5.1), and as `mlp` what comes after it, (5.4)."""

    def __init__(self, spatial_dims: int, channels: int, state: int) -> None:
        super().__init__()
        self.local = nn.Sequential(pointwise(spatial_dims, channels, channels), depthwise(spatial_dims, channels))
        self.selection = Selection(spatial_dims, channels, state)
        self.mlp = nn.Sequential(
            ChannelNorm(channels),
            pointwise(spatial_dims, channels, EXPAND * channels),
            nn.GELU(),
            pointwise(spatial_dims, EXPAND * channels, channels),
        )

    def forward(self, features: Tensor) -> ScanInputs:
        given: ScanInputs = self.selection(self.local(features))
        return given


class CFAM(nn.Module):
    """Complementary Feature Aggregation, (5.5) and (5.6): o_s and o_w ``BCHW[D]`` to f_fused."""

    def __init__(self, spatial_dims: int, channels: int, state: int) -> None:
        super().__init__()
        self.shared = SS2D(spatial_dims, 2 * channels, 2 * channels, channels, state)
        self.strong_gate, self.weak_gate, self.strong_out, self.weak_out = (
            pointwise(spatial_dims, channels, channels) for _ in range(4)
        )

    def forward(self, strong: Tensor, weak: Tensor) -> Tensor:
        shared = self.shared(torch.cat([strong, weak], dim=1))
        from_strong: Tensor = self.strong_out(strong + torch.sigmoid(self.strong_gate(strong)) * shared)
        from_weak: Tensor = self.weak_out(weak + torch.sigmoid(self.weak_gate(weak)) * shared)
        return from_strong + from_weak


class Concatenation(nn.Module):
    """A linear layer of both."""

    def __init__(self, spatial_dims: int, channels: int) -> None:
        super().__init__()
        self.project = pointwise(spatial_dims, 2 * channels, channels)

    def forward(self, strong: Tensor, weak: Tensor) -> Tensor:
        fused: Tensor = self.project(torch.cat([strong, weak], dim=1))
        return fused


class Elementwise(nn.Module):
    """An operation without parameters."""

    def __init__(self, operation: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.operation = operation

    def forward(self, strong: Tensor, weak: Tensor) -> Tensor:
        return self.operation(strong, weak)


def _fusion(fusion: Fusion, spatial_dims: int, channels: int, state: int) -> nn.Module:
    if fusion == "arm":
        return ARM(spatial_dims, channels, state)
    if fusion == "concat":
        return Concatenation(spatial_dims, channels)
    return Elementwise(torch.add if fusion == "add" else torch.mul)
