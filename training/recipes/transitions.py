"""How annotators err, pixel by pixel: RefineSeg's transition matrices (Du et al., MICCAI 2025, section 2.2).

A head for each strategy maps the last features of a network, at one pixel, to A with A[m, k] = p(drawn m | true k):
each column is a distribution, by a softmax over m. A is only ever made for the pixels that are asked for: at L = 14
classes that of a whole slice of 224 x 224 would take 39 MB, with its gradients several times that, for each strategy.

Decisions where the paper is silent:

- A starts near the identity, the same everywhere (``keep`` on the diagonal): else columns start uniform, u is the same
  whatever p is, and no gradient reaches the segmenter.
- M of a complementary strategy starts uniform off its diagonal and is fixed, or learnt by ``learn_flips`` (the paper's
  "linear transformation layer").
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from NoisyLabelSegLib.errors import InputError


class Transitions(nn.Module):
    """One strategy's A.

    Args:
        channels: of the features.
        classes: L.
        keep: the diagonal of A at the start, above 1 / L and below 1.
    """

    def __init__(self, channels: int, classes: int, keep: float = 0.9) -> None:
        super().__init__()
        if not 1 / classes < keep < 1:
            raise InputError(f"settings.keep must lie between 1/{classes} and 1, not {keep}.")
        self.classes = classes
        self.project = nn.Linear(channels, classes * classes)
        nn.init.zeros_(self.project.weight)
        sharpness = math.log(keep * (classes - 1) / (1 - keep))
        with torch.no_grad():
            self.project.bias.copy_((sharpness * torch.eye(classes)).flatten())

    def forward(self, features: Tensor) -> Tensor:
        """Features ``(n, channels)`` to A ``(n, L, L)``, columns sum to 1."""
        return self.project(features).unflatten(1, (self.classes, self.classes)).softmax(dim=1)


class Flips(nn.Module):
    """M of a complementary strategy: ``(L, L)``, rows sum to 1, the diagonal is zero.

    Args:
        classes: L.
        learn: whether it is learnt; else it stays uniform.
    """

    def __init__(self, classes: int, learn: bool) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(classes, classes), requires_grad=learn)

    def forward(self) -> Tensor:
        diagonal = torch.eye(len(self.scores), dtype=torch.bool, device=self.scores.device)
        return self.scores.masked_fill(diagonal, -math.inf).softmax(dim=1)


def expected_drawings(transitions: Tensor, probabilities: Tensor) -> Tensor:
    """(1): u = A p, of A ``(n, L, L)`` and p ``(n, L)``."""
    return torch.einsum("nmk,nk->nm", transitions, probabilities)


def mean_transitions(transitions: Tensor, probabilities: Tensor) -> Tensor:
    """What an annotator makes of each true class on average, ``(L, L)``: A weighted by how likely the class is.

    A column of a class that is nowhere likely is NaN.
    """
    weights = probabilities.sum(dim=0)
    summed = torch.einsum("nmk,nk->mk", transitions, probabilities)
    return summed / torch.where(weights > 0, weights, torch.nan)
