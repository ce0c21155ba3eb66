"""A pixel's own share of a segmentation loss: maps whose mean is the loss, so that pixels can be weighed one by one.

Soft Dice is 1 - 2 Σpy / Σ(p + y) = Σ(p + y - 2py) / Σ(p + y): a pixel's share is how far it disagrees, over the sum of
all. So a pixel that is found where none is drawn has a share too. The sum below is the whole image's, whatever the
pixels weigh; so the loss is linear in their weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

PixelLoss = Callable[[Tensor, Tensor], Tensor]
Loss = Literal[
    "cross_entropy",
    "dice",
    "dice_cross_entropy",
    "generalised_cross_entropy",
    "dice_generalised_cross_entropy",
]
SMOOTH = 1e-5  # Of the numerator, too, of MONAI's DiceLoss.
TOLERANCE = 0.7
"""q of the generalised cross-entropy: near 0 it is cross-entropy, at 1 the mean absolute error."""


def cross_entropy_map(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of logits ``BNHW[D]`` and labels ``BHW[D]``, ``BHW[D]``."""
    return F.cross_entropy(_wide(logits), labels, reduction="none")


def dice_map(logits: Tensor, labels: Tensor) -> Tensor:
    """Soft Dice of the foreground classes, the mean over them, of logits ``BNHW[D]`` and labels ``BHW[D]``, ``BHW[D]``.

    An image's mean is its Dice loss, (3.2) of ReReNet's thesis. One without foreground loses nearly 1 until the
    prediction vanishes; the cross-entropy is what teaches it.
    """
    p = _wide(logits).softmax(dim=1)[:, 1:]
    y = F.one_hot(labels, logits.shape[1]).movedim(-1, 1)[:, 1:].to(p)
    space = tuple(range(2, p.ndim))
    total = (p + y).sum(dim=space, keepdim=True) + SMOOTH
    return (labels[0].numel() * (p + y - 2 * p * y) / total).mean(dim=1)


def dice_cross_entropy_map(logits: Tensor, labels: Tensor) -> Tensor:
    """Dice + cross-entropy; see both."""
    return dice_map(logits, labels) + cross_entropy_map(logits, labels)


def generalised_cross_entropy_map(logits: Tensor, labels: Tensor) -> Tensor:
    """(1 - p^q) / q of the labelled class's probability p (Zhang and Sabuncu, NeurIPS 2018), ``BHW[D]``.

    Where the network is sure that a label is wrong, its gradient vanishes.
    """
    return (1 - (-TOLERANCE * cross_entropy_map(logits, labels)).exp()) / TOLERANCE


def dice_generalised_cross_entropy_map(logits: Tensor, labels: Tensor) -> Tensor:
    """Dice + generalised cross-entropy; see both. The rival of Dice + cross-entropy."""
    return dice_map(logits, labels) + generalised_cross_entropy_map(logits, labels)


def _wide(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


PIXEL_LOSSES: dict[Loss, PixelLoss] = {
    "cross_entropy": cross_entropy_map,
    "dice": dice_map,
    "dice_cross_entropy": dice_cross_entropy_map,
    "generalised_cross_entropy": generalised_cross_entropy_map,
    "dice_generalised_cross_entropy": dice_generalised_cross_entropy_map,
}
