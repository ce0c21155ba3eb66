"""PKT's dependence on the step t, (5.10) of chapter 5 of the thesis, as light heads that leave the encoder as it is.

The thesis runs the i-th block once for each t, f^{i,t} = Phi^i(f^{i-1}, t). Here the block runs once and t enters in a
head behind it, f^{i,t} = f^i + W (s_t * f^i + b_t) + c, with a scale s_t and a shift b_t learnt for each step. It
starts as the identity and exists in training only.

Inference knows no t, so something must tie what a level gives there to the predictions: else the heads could learn the
transfer by themselves and leave with it. ``anchored`` makes the features themselves the prediction of the first step,
whose target is the fused feature without noise; the thesis does not say.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class StepHeads(nn.Module):
    """One head for each level of an encoder.

    Args:
        features: channels of each level.
        steps: T.
        anchored: see the module's text.
    """

    def __init__(self, features: Sequence[int], steps: int, anchored: bool = True) -> None:
        super().__init__()
        self.heads = nn.ModuleList(StepHead(channels, steps, anchored) for channels in features)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Each level's features ``BCHW[D]`` to their predictions ``TBCHW[D]``."""
        return [head(features) for head, features in zip(self.heads, levels, strict=True)]


class StepHead(nn.Module):
    """See the module's text; T predictions take one matrix product, as W s_t is a matrix for each step."""

    free: Tensor

    def __init__(self, channels: int, steps: int, anchored: bool) -> None:
        super().__init__()
        self.register_buffer("free", (torch.arange(steps) >= int(anchored)).float()[:, None], persistent=False)
        self.scale = nn.Parameter(torch.ones(steps, channels))
        self.shift = nn.Parameter(torch.zeros(steps, channels))
        self.weight = nn.Parameter(torch.zeros(channels, channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        """``BCHW[D]`` to ``TBCHW[D]``."""
        weights = self.weight * (self.free * self.scale)[:, None]
        offsets = (self.free * (self.shift @ self.weight.T + self.bias))[:, None, :, None]
        change = torch.einsum("toc,bcv->tbov", weights, features.flatten(2)) + offsets
        return features + change.unflatten(3, features.shape[2:])
