"""Affinities and counts over each voxel's neighbourhood, the k × k (× k) window cut at the image's border.

All of these are linear in the neighbours' values, hence box sums (see `box`), and their memory is linear in the image.
What is not is in `aggregation`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from NoisyLabelSegLib.ops.box import Boxes, box_sum, check_shape, check_size, widened

Spread = Literal["means", "sums"]


def neighbour_counts(labels: Tensor, classes: int, size: int = 3, *, centre: bool = True) -> Tensor:
    """How many neighbours have each label: ``BHW[D]``, int64, to ``BNHW[D]``, float32.

    Args:
        labels: 0 to classes - 1; a voxel with any other label belongs to no class.
        classes: N.
        size: k, odd.
        centre: whether a voxel is one of its own neighbours.
    """
    names = torch.arange(classes, device=labels.device).view(-1, *[1] * (labels.ndim - 1))
    own = (labels.unsqueeze(1) == names).float()
    counts = box_sum(own, size)
    return counts if centre else counts - own


def mean_masked_cosine(features: Tensor, mask: Tensor, size: int = 3, *, centre: bool = True) -> Tensor:
    """Mean cosine between a voxel's features and those of its neighbours in a mask: equations (3) and (5).

    x̂_i · box(m x̂)_i / box(m)_i, a few channels at a time; 0 where no neighbour is in the mask. The cosine with a
    zero vector is 0. Differentiable in the features, not in the mask.

    Args:
        features: ``BCHW[D]``.
        mask: bool or weights >= 0, ``BHW[D]``.
        size: k, odd.
        centre: whether a voxel is one of its own neighbours.

    Returns:
        ``BHW[D]``, -1 to 1, float32 at least.
    """
    check_size(size)
    check_shape("mask", mask.shape, features[:, 0].shape)
    weights = mask.detach().unsqueeze(1).to(widened(features.dtype))
    count = _around(weights, size, centre).squeeze(1)
    share = torch.where(count > 0, 1 / count, 0)
    total: Tensor = _MaskedCosine.apply(features, weights, size, centre)
    return total * share


@torch.no_grad()
def label_affinity(
    features: Tensor, labels: Tensor, query: Tensor, classes: int, size: int = 3, *, centre: bool = True
) -> tuple[Tensor, Tensor]:
    """Equations (3) to (5): mean cosine to the neighbours labelled as asked for, and to all others; without gradient.

    Args:
        features: ``BCHW[D]``.
        labels: of the neighbours, ``BHW[D]``.
        query: the label asked for at each voxel, ``BHW[D]``, 0 to classes - 1.
        classes: N.
        size: k, odd.
        centre: whether a voxel is one of its own neighbours.

    Returns:
        a_pos and a_neg, ``BHW[D]``, -1 to 1, float32 at least; 0 where there is no such neighbour.
    """
    check_size(size)
    check_shape("labels", labels.shape, features[:, 0].shape)
    check_shape("query", query.shape, labels.shape)
    sums = [_label_sums(*item, classes, size, centre) for item in zip(features, labels, query, strict=True)]
    same, every = (torch.stack(parts) for parts in zip(*sums, strict=True))
    counts = neighbour_counts(labels, classes, size, centre=centre).to(same.dtype)
    same_count = counts.gather(1, query.unsqueeze(1)).squeeze(1)
    all_count = _around(torch.ones_like(same[:1, None]), size, centre).squeeze(1)
    other_count = all_count - same_count
    return same / same_count.clamp(min=1), torch.where(other_count > 0, (every - same) / other_count.clamp(min=1), 0)


@torch.no_grad()
def local_spread(values: Tensor, size: int = 3, *, kind: Spread = "means") -> Tensor:
    """The spread of the window's vectors, equation (8): sqrt(relu(E|p|² - |E p|²)); without gradient.

    ``"means"`` makes it a standard deviation; ``"sums"`` is as written, with sums for E, and hardly ever above 0.

    Args:
        values: ``BCHW[D]``.
        size: k, odd.
        kind: see above.

    Returns:
        ``BHW[D]``, of the values' dtype.
    """
    check_size(size)
    return torch.stack([_spread(item, size, kind) for item in values]).to(values.dtype)


class _MaskedCosine(torch.autograd.Function):
    """Sum of the cosines with the neighbours times their weights, ``B1HW[D]``, made of the features ``BCHW[D]``."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weights: Tensor, size: int, centre: bool) -> Tensor:
        ctx.save_for_backward(features, weights)
        ctx.size, ctx.centre = size, centre
        return torch.stack([_cosine_sums(*item, size, centre) for item in zip(features, weights, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        features, weights = ctx.saved_tensors
        result = torch.empty_like(features, memory_format=torch.contiguous_format)
        for item in zip(features, weights, grad.unsqueeze(1), result, strict=True):
            _cosine_gradient(*item, ctx.size, ctx.centre)
        return result, None, None, None


def _cosine_sums(features: Tensor, weights: Tensor, size: int, centre: bool) -> Tensor:
    """Of one item, ``CHW[D]``."""
    boxes, scale = Boxes(features, size), _scale(features)
    total = scale.new_zeros(boxes.count, *scale.shape)
    for part in features.split(boxes.count):
        unit = part * scale
        total[: len(part)].addcmul_(unit, boxes.sum(unit, weights, centre=centre))
    return total.sum(dim=0)


def _cosine_gradient(features: Tensor, weights: Tensor, grad: Tensor, result: Tensor, size: int, centre: bool) -> None:
    """Of one item, written into ``result``: once to the unit vectors, then on to the vectors."""
    boxes, scale = Boxes(features, size), _scale(features)
    along = scale.new_zeros(boxes.count, *scale.shape)
    steps = torch.empty_like(features, dtype=scale.dtype)
    for part, step in zip(features.split(boxes.count), steps.split(boxes.count), strict=True):
        unit = part * scale
        torch.mul(boxes.sum(unit, weights, centre=centre), grad, out=step)
        step.addcmul_(boxes.sum(unit, grad, centre=centre), weights)
        along[: len(part)].addcmul_(unit, step)
    turn = along.sum(dim=0) * scale
    for part, step, target in zip(features, steps, result, strict=True):
        target.copy_(step.sub_(part * turn).mul_(scale))


def _label_sums(
    features: Tensor, labels: Tensor, query: Tensor, classes: int, size: int, centre: bool
) -> tuple[Tensor, Tensor]:
    """Of one item: sums of the cosines with the neighbours labelled as asked for, and with all."""
    boxes, scale = Boxes(features, size), _scale(features)
    masks = list(_masks(labels, query, classes, scale.dtype))
    same, every = (scale.new_zeros(boxes.count, *scale.shape) for _ in range(2))
    for part in features.split(boxes.count):
        unit = part * scale
        every[: len(part)].addcmul_(unit, boxes.sum(unit, centre=centre))
        for member, asked in masks:
            same[: len(part)].addcmul_(boxes.sum(unit, member, centre=centre), unit * asked)
    return same.sum(dim=0), every.sum(dim=0)


def _spread(values: Tensor, size: int, kind: Spread) -> Tensor:
    """Of one item, ``CHW[D]``."""
    boxes = Boxes(values, size)
    squares = torch.zeros(boxes.count, *values.shape[1:], dtype=widened(values.dtype), device=values.device)
    squared_sums = torch.zeros_like(squares)
    count = boxes.sum(torch.ones_like(squares[:1])) if kind == "means" else torch.ones_like(squares[:1])
    for part in values.to(squares.dtype).split(boxes.count):
        if kind == "means":
            # The same spread, of smaller numbers: their squares are about to be subtracted.
            part = part - part.mean(dim=tuple(range(1, part.ndim)), keepdim=True)
        squares[: len(part)].addcmul_(part, part)
        squared_sums[: len(part)].add_(boxes.sum(part).div(count).square_())
    mean_square = boxes.sum(squares.sum(dim=0, keepdim=True)) / count
    return torch.relu(mean_square.squeeze(0) - squared_sums.sum(dim=0)).sqrt_()


def _masks(labels: Tensor, query: Tensor, classes: int, dtype: torch.dtype) -> Iterator[tuple[Tensor, Tensor]]:
    """For each label that is asked for: the voxels that have it, and those that ask for it."""
    for label in range(classes):
        asked = query == label
        if bool(asked.any()):
            yield (labels == label).to(dtype), asked.to(dtype)


def _scale(features: Tensor) -> Tensor:
    """1 / length of the vectors along the channels of ``CHW[D]``; 0 for those without a length."""
    squares = torch.zeros_like(features[0], dtype=widened(features.dtype))
    for channel in features:
        wide = channel.to(squares.dtype)
        squares.addcmul_(wide, wide)
    return torch.where(squares > 0, squares.rsqrt(), 0)


def _around(x: Tensor, size: int, centre: bool) -> Tensor:
    return box_sum(x, size) if centre else box_sum(x, size) - x
