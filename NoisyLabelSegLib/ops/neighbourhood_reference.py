"""The operators of `neighbourhood` and `aggregation` as their equations stand: all k² or k³ neighbours are copied out.

For tests: slow, in the precision of what is given, with autograd's gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


def neighbours(x: Tensor, size: int) -> Tensor:
    """All windows of ``BCHW[D]``, ``BCKHW[D]``: K = k² or k³ neighbours in order, the centre in the middle."""
    spatial = x.ndim - 2
    windows = F.pad(x, (size // 2,) * (2 * spatial))
    for axis in range(2, x.ndim):
        windows = windows.unfold(axis, size, 1)
    return windows.permute(0, 1, *range(2 + spatial, windows.ndim), *range(2, 2 + spatial)).flatten(2, 1 + spatial)


def inside(like: Tensor, size: int, centre: bool = True) -> Tensor:
    """Which of the neighbours there are, ``11KHW[D]``, bool."""
    found = neighbours(torch.ones_like(like[:1, :1]), size) > 0
    if not centre:
        found[:, :, found.shape[2] // 2] = False
    return found


def box_sum(x: Tensor, size: int) -> Tensor:
    return neighbours(x, size).sum(dim=2)


def neighbour_counts(labels: Tensor, classes: int, size: int = 3, *, centre: bool = True) -> Tensor:
    own = F.one_hot(labels, classes).movedim(-1, 1).float()
    return (neighbours(own, size) * inside(own, size, centre)).sum(dim=2)


def cosines(features: Tensor, size: int) -> Tensor:
    """Equation (3), ``BKHW[D]``; 0 with a zero vector."""
    lengths = features.square().sum(dim=1, keepdim=True)
    unit = torch.where(lengths > 0, features / lengths.where(lengths > 0, 1).sqrt(), 0)
    return (unit.unsqueeze(2) * neighbours(unit, size)).sum(dim=1)


def mean_masked_cosine(features: Tensor, mask: Tensor, size: int = 3, *, centre: bool = True) -> Tensor:
    weights = neighbours(mask.unsqueeze(1).to(features.dtype), size) * inside(features, size, centre)
    return _mean(cosines(features, size), weights.squeeze(1))


def label_affinity(
    features: Tensor, labels: Tensor, query: Tensor, classes: int, size: int = 3, *, centre: bool = True
) -> tuple[Tensor, Tensor]:
    there = inside(features, size, centre).squeeze(1)
    same = neighbours(labels.unsqueeze(1).to(features.dtype), size).squeeze(1) == query.unsqueeze(1)
    found = cosines(features, size)
    return _mean(found, there & same), _mean(found, there & ~same)


def gaussian_aggregate(values: Tensor, guide: Tensor, sizes: Sequence[int] = (3, 5, 7), sigma: float = 1.0) -> Tensor:
    total = torch.zeros_like(values)
    for size in sizes:
        distances = (neighbours(guide, size) - guide.unsqueeze(2)).square().sum(dim=1, keepdim=True)
        weights = torch.exp(-distances / (sigma + 1e-6)) * inside(guide, size)
        weights = weights / weights.sum(dim=2, keepdim=True)
        share = size**-0.5 / sum(other**-0.5 for other in sizes)
        total = total + share * (weights * neighbours(values, size)).sum(dim=2)
    return total


def thresholded_aggregate(
    values: Tensor, guide: Tensor, size: int = 3, *, kind: Literal["sum", "mean"] = "sum"
) -> Tensor:
    there = inside(guide, size)
    mean = neighbours(guide, size).sum(dim=2) / there.sum(dim=2)
    chosen = (neighbours(guide, size) >= mean.unsqueeze(2)) & there
    total = (chosen * neighbours(values, size)).sum(dim=2)
    return total / chosen.sum(dim=2) if kind == "mean" else total


def local_spread(values: Tensor, size: int = 3, *, kind: Literal["means", "sums"] = "means") -> Tensor:
    count = inside(values, size).sum(dim=2) if kind == "means" else 1
    squares = neighbours(values.square(), size).sum(dim=2) / count
    sums = neighbours(values, size).sum(dim=2) / count
    return torch.relu(squares.sum(dim=1) - sums.square().sum(dim=1)).sqrt()


def _mean(found: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean over the neighbours, ``BKHW[D]`` to ``BHW[D]``; 0 where all weights are."""
    count = weights.sum(dim=1)
    return torch.where(count > 0, (found * weights).sum(dim=1) / count.where(count > 0, 1), 0)
