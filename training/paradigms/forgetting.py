"""Leaving out what loses most, the common ground of `small_loss` and `co_teaching` (Han et al., NeurIPS 2018).

A pixel is an instance. The share is left out of each class's pixels, by the labels that are taught: of all pixels alike
it would be the foreground, whose losses are the largest, and of small structures all of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Forgetting:
    """How much is left out.

    Attributes:
        forget: the share of each class's pixels that is left out in the end, about that of the wrong labels, 0 to 1.
        warm_up: epochs until then (paper: 10); 0 leaves them out from the first step on.
    """

    forget: float = 0.05
    warm_up: int = 10

    def __post_init__(self) -> None:
        if not (0 <= self.forget < 1 and self.warm_up >= 0):
            raise ValueError("paradigm.forget is a share, at least 0 and below 1, and paradigm.warm_up at least 0")

    def share(self, epoch: int) -> float:
        """What an epoch leaves out."""
        return self.forget * min(epoch / self.warm_up, 1) if self.warm_up else self.forget


def kept(losses: Tensor, labels: Tensor, forget: float) -> Tensor:
    """Which losses are not among the share of their class's largest ones, bool; all of equal ones are kept."""
    found = torch.zeros_like(labels, dtype=torch.bool)
    for value in labels.unique():
        own = labels == value
        ordered = losses[own].float()
        limit = torch.kthvalue(ordered, max(1, round(len(ordered) * (1 - forget)))).values
        found |= own & (losses <= limit)
    return found
