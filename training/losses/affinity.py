"""AffinityUMamba's two uncertainty losses: equations (7) and (8) of Zhang et al., MICCAI 2025.

Decisions:

- Both are written as sums over voxels; the mean is taken instead, else their weights in (9) depend on the crop's size.
- (7)'s indicators of an arg max have no gradient. The soft form replaces I(y_AM^i = y^j) by p_AM^i[y^j]; summed over
  the neighbours j only the number of neighbours of each class is left, which box sums give.
- (8)'s "variance" subtracts the square of a sum from a sum of squares, which is hardly ever positive. Margins, each in
  logits: ``"paper"`` is (8) as written; ``"variance"`` takes means, which make a variance, so the margin is largest at
  borders; ``"inverse"`` is largest where the prediction is flat, the confident interior; ``"constant"`` is the cited
  margin smoothing (Murugesan et al. 2023).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from NoisyLabelSegLib.methods.affinity_umamba import SIZE
from NoisyLabelSegLib.ops.neighbourhood import local_spread, neighbour_counts

Margin = Literal["paper", "variance", "inverse", "constant"]
LARGEST_MARGIN = 8.0


def affinity_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Equation (7), soft: how far a prediction disagrees with the labels around it.

    Args:
        logits: of the AM branch, ``BNHW[D]``.
        labels: the refined ones, ``BHW[D]``, int64.
    """
    probabilities = torch.softmax(logits.float(), dim=1)
    counts = neighbour_counts(labels, logits.shape[1], SIZE)
    own = labels.unsqueeze(1)
    same = counts.gather(1, own).squeeze(1)
    missed = same.sqrt() * (1 - probabilities.gather(1, own).squeeze(1))
    others = counts.scatter(1, own, 0)
    wrong = (others * probabilities).sum(dim=1) / others.sum(dim=1).clamp(min=1).sqrt()
    return (missed + wrong).mean()


def margin_loss(logits: Tensor, kind: Margin = "constant", margin: float = LARGEST_MARGIN) -> Tensor:
    """Equation (8): logits that lie further below the largest one than a margin.

    Args:
        logits: of the AM branch, ``BNHW[D]``.
        kind: see the module's text.
        margin: the largest margin (paper: 8).
    """
    logits = logits.float()
    below = logits.amax(dim=1, keepdim=True) - logits
    return torch.relu(below - _margin(logits.detach(), kind, margin)).mean()


def _margin(logits: Tensor, kind: Margin, margin: float) -> Tensor | float:
    if kind == "constant":
        return margin
    spread = local_spread(logits, SIZE, kind="sums" if kind == "paper" else "means").unsqueeze(1)
    # The smallest and the largest of an image, not of the batch it happens to be in.
    low, high = (end.reshape(-1, *[1] * (spread.ndim - 1)) for end in spread.flatten(1).aminmax(dim=1))
    share = (spread - low) / (high - low).clamp(min=1e-6)
    return margin * (1 - share if kind == "inverse" else share)
