"""Omega's gradient as (8) to (10) say it: the virtual step is differentiated through. For tests."""

from __future__ import annotations

import torch
from torch import Tensor

from training.paradigms.dale.confidence import Losses, Parameters


def confidence_gradient_reference(
    parameters: Parameters, fuzzy: Losses, clear: Losses, weights: Tensor, inner_rate: float
) -> Tensor:
    """See `confidence_gradient`."""
    leaves = {name: value.detach().requires_grad_() for name, value in parameters.items()}
    weights = weights.detach().requires_grad_()
    inner = (weights * fuzzy(leaves)).mean()
    towards = torch.autograd.grad(inner, list(leaves.values()), create_graph=True)
    moved = {name: value - inner_rate * step for (name, value), step in zip(leaves.items(), towards, strict=True)}
    (gradient,) = torch.autograd.grad(clear(moved).mean(), weights)
    return gradient
