"""PKT's predictions as algorithm 5.1 of the thesis has them: a block runs again for each step. For tests and ratios."""

from __future__ import annotations

import torch
from torch import Tensor

from NoisyLabelSegLib.networks.vm_unet import VMEncoder
from training.recipes.step_heads import StepHead, StepHeads


def literal_loop(network: VMEncoder, heads: StepHeads, image: Tensor) -> list[Tensor]:
    """(5.10): each level's predictions ``TBCHW[D]``, of the level before it and of t, for each t anew."""
    levels: list[Tensor] = network(image)
    predictions = []
    for block, head, before in zip(network.levels, heads.heads, [image, *levels[:-1]], strict=True):
        assert isinstance(head, StepHead)
        predictions.append(torch.stack([_conditioned(block(before), head, t) for t in range(len(head.scale))]))
    return predictions


def _conditioned(features: Tensor, head: StepHead, t: int) -> Tensor:
    f = features.movedim(1, -1)
    change = ((head.scale[t] * f + head.shift[t]) @ head.weight.T + head.bias) * head.free[t]
    return (f + change).movedim(-1, 1)
