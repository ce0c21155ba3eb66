"""RefineSeg's losses (Du et al., MICCAI 2025) on what annotators drew; pixels that nobody drew on do not take part.

Rows are annotated pixels: ``observed`` (n, L) is u = A p, what an annotator is expected to draw there, (1).

Decisions where the paper is silent or needs reading:

- u is a probability, so (3) is -log u at the drawn class: a cross-entropy of u would take the softmax twice.
- (4) sums over pixels and classes at once, which for one-hot drawings is one minus the mean of u at the drawn class:
  ``dice: joint``. Taken class by class, and over the classes that are drawn, it minds small ones: ``per_class``.
- (6) is v = M' u with M's diagonal zero, so M's rows must sum to 1 for v to be a probability. L_neg is named without a
  formula and is -log v at the class that was drawn as "not this". Where several classes are excluded at one pixel, each
  counts.
- (7) takes the square of every entry of A - I: its mean over pixels, summed over entries. Zhang et al. (2020) make the
  mean trace small instead: ``trace``.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

DiceOver = Literal["per_class", "joint"]
Regulariser = Literal["identity", "trace", "none"]
TINY = 1e-7


def positive_loss(
    observed: Tensor, drawn: Tensor, alpha: float = 0.6, beta: float = 0.4, dice: DiceOver = "per_class"
) -> Tensor:
    """(2): ``alpha`` times (3) plus ``beta`` times (4).

    Args:
        observed: ``(n, L)``, each row a distribution.
        drawn: ``(n,)``, the classes drawn, int64.
        alpha, beta: weights of both terms.
        dice: see the module's text.
    """
    return alpha * partial_cross_entropy(observed, drawn) + beta * partial_dice(observed, drawn, dice)


def partial_cross_entropy(observed: Tensor, drawn: Tensor) -> Tensor:
    """(3); see `positive_loss`. Of no pixels 0."""
    chosen = observed.gather(1, drawn[:, None])
    return -chosen.clamp(min=TINY).log().sum() / max(len(drawn), 1)


def partial_dice(observed: Tensor, drawn: Tensor, dice: DiceOver = "per_class") -> Tensor:
    """(4); see `positive_loss`. Of no pixels 0."""
    if not len(drawn):
        return observed.sum()
    truth = torch.nn.functional.one_hot(drawn, observed.shape[1]).to(observed)
    over = (0, 1) if dice == "joint" else (0,)
    overlap, total = (observed * truth).sum(over), (observed + truth).sum(over)
    found = 1 - 2 * overlap / total.clamp(min=TINY)
    return found if dice == "joint" else found[truth.any(dim=0)].mean()


def complementary_loss(observed: Tensor, excluded: Tensor, flips: Tensor) -> Tensor:
    """L_neg of (8): -log v, v = M' u of (6), over every pair of a pixel and a class that it is said not to be.

    Args:
        observed: ``(n, L)``, each row a distribution.
        excluded: ``(n, L)``, bool.
        flips: M, ``(L, L)``: rows sum to 1, the diagonal is zero.

    Returns:
        The mean over the pairs; 0 without any.
    """
    v = observed @ flips
    return -(v.clamp(min=TINY).log() * excluded).sum() / excluded.sum().clamp(min=1)


def regulariser(transitions: Tensor, kind: Regulariser) -> Tensor:
    """(7), or Zhang et al.'s trace; see the module's text. ``transitions`` is ``(n, L, L)``; of none 0."""
    if kind == "none" or not len(transitions):
        return transitions.sum() * 0
    if kind == "trace":
        return transitions.diagonal(dim1=1, dim2=2).sum(dim=1).mean()
    identity = torch.eye(transitions.shape[1], device=transitions.device, dtype=transitions.dtype)
    return (transitions - identity).square().sum(dim=(1, 2)).mean()
