"""Progressive Knowledge Transfer's loss (thesis chapter 5, section 5.3.3) on one level's features.

Decisions where the thesis is silent or needs reading:

- Squared norms of (5.11) and (5.12) are means over voxels and channels, else lambda depends on the level's size.
- rho falls from 1 at t = 1 to 0 at t = T, linearly or as half a cosine. So does alpha, but from 1 to 1 - `noise`: as
  much noise as `noise` says enters at the last step, none at the first; 0 is "PKT without noise".
- Weak features in the target are detached, and so are fused ones: the loss moves the prediction alone.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Schedule = Literal["cosine", "linear"]


def falling(schedule: Schedule, steps: int) -> Tensor:
    """From 1 at the first of ``steps`` steps to 0 at the last, ``(T,)``; of a single one 1."""
    if schedule not in ("cosine", "linear"):
        raise ValueError(f"schedule must be cosine or linear, not {schedule!r}")
    passed = torch.arange(steps) / max(steps - 1, 1)
    return 1 - passed if schedule == "linear" else (1 + torch.cos(math.pi * passed)) / 2


def degraded_targets(
    fused: Tensor, weak: Tensor, rho: Tensor, alpha: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """(5.8) and (5.9) for all steps at once.

    Args:
        fused, weak: features ``BCHW[D]``.
        rho, alpha: ``(T,)``, how much of the target is fused, and how much of it is not noise; 0 to 1.
        generator: of the noise.

    Returns:
        ``TBCHW[D]``, without gradient.
    """
    rho, alpha = (values.to(fused).reshape(-1, *[1] * fused.ndim) for values in (rho, alpha))
    between = torch.lerp(weak.detach(), fused.detach(), rho)
    if bool((alpha == 1).all()):
        return between
    noise = torch.empty_like(between).normal_(generator=generator)
    return alpha.sqrt() * between + (1 - alpha).sqrt() * noise


def transfer_loss(predicted: Tensor, targets: Tensor, smoothness: float) -> Tensor:
    """(5.13), of predictions and targets ``TBCHW[D]``; ``smoothness`` is gamma."""
    loss = F.mse_loss(predicted, targets)
    if smoothness and len(predicted) > 1:
        loss = loss + smoothness * F.mse_loss(predicted[1:], predicted[:-1])
    return loss
