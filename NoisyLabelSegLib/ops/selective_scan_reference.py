"""The selective scan as its definition reads: a step at a time, in the precision of what it is given."""

# ruff: noqa: N803 - the literature's and mamba-ssm's names.

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def selective_scan_reference(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    """What `selective_scan` must return; slow, and differentiable as often as one likes."""
    if delta_bias is not None:
        delta = delta + delta_bias[:, None]
    if delta_softplus:
        delta = F.softplus(delta)
    b, c = (_of_channels(m, u.shape[1]) for m in (B, C))
    state, outputs = u.new_zeros(u.shape[0], *A.shape), []
    for t in range(u.shape[2]):
        step = delta[:, :, t, None]
        state = torch.exp(step * A) * state + step * b[..., t] * u[:, :, t, None]
        outputs.append((c[..., t] * state).sum(dim=-1))
    y = torch.stack(outputs, dim=-1)
    if D is not None:
        y = y + D[:, None] * u
    return y if z is None else y * F.silu(z)


def _of_channels(matrix: Tensor, channels: int) -> Tensor:
    """``(B, N, L)`` or ``(B, G, N, L)`` to ``(B, D, N, L)``."""
    grouped = matrix.unsqueeze(1) if matrix.ndim == 3 else matrix
    return grouped.repeat_interleave(channels // grouped.shape[1], dim=1)
