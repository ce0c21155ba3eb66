"""Sums over each voxel's neighbourhood, the k × k (× k) window cut at the image's border: one pass along each axis.

A window's sum is made of two sums of half its width, so a pass takes about log k additions a voxel. Running sums would
take two, but subtract large numbers from each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

CACHE = 2**20  # Voxels that are worked on together on a CPU; elsewhere memory is the limit.
MEMORY = 2**26


def box_sum(x: Tensor, size: int) -> Tensor:
    """Sum over the window of ``size`` voxels along each spatial axis of ``BCHW[D]``; outside of the image there is 0.

    Differentiable, its own adjoint; sums are made in float32 at least and returned in the input's dtype.
    """
    check_size(size)
    result: Tensor = _BoxSum.apply(x, size)
    return result


def box_mean(x: Tensor, size: int) -> Tensor:
    """Mean over the window's voxels inside the image, ``BCHW[D]``."""
    return box_sum(x, size) / box_sum(torch.ones_like(x[:1, :1]), size)


class _BoxSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, size: int) -> Tensor:
        ctx.size = size
        result, images = torch.empty_like(x, memory_format=torch.contiguous_format), x.flatten(0, 1)
        boxes = Boxes(images, size)
        for given, target in zip(images.split(boxes.count), result.flatten(0, 1).split(boxes.count), strict=True):
            target.copy_(boxes.sum(given))
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _BoxSum.apply(grad, ctx.size), None


class Boxes:
    """Box sums of images ``NHW[D]``, as many at a time as stay in the cache; without gradient.

    Attributes:
        count: how many images `sum` takes at most.
    """

    def __init__(self, images: Tensor, size: int) -> None:
        room = CACHE if images.device.type == "cpu" else MEMORY
        self.count = max(1, min(len(images), room // images.shape[1:].numel()))
        shape = images.shape[1:]
        self._widths = [2 * min(size // 2, length - 1) + 1 for length in shape]
        padded = [length + width - 1 for length, width in zip(shape, self._widths, strict=True)]
        self._padded = torch.zeros(self.count, *padded, dtype=widened(images.dtype), device=images.device)
        middle = (slice(width // 2, width // 2 + length) for width, length in zip(self._widths, shape, strict=True))
        where = (slice(None), *middle)
        self._inside = self._padded[where]

    def sum(self, images: Tensor, weights: Tensor | None = None, *, centre: bool = True) -> Tensor:
        """Sum over the windows of images, or of images times weights, with or without each window's centre."""
        inside, total = self._inside[: len(images)], self._padded[: len(images)]
        if weights is None:
            inside.copy_(images)
        else:
            torch.mul(images, weights, out=inside)
        for axis, width in enumerate(self._widths, start=1):
            total = _window_sums(total, axis, width)
        return total if centre else total - inside


def _window_sums(x: Tensor, axis: int, width: int) -> Tensor:
    """Of every window that lies inside: the axis gets shorter by ``width`` - 1."""
    if width == 1:
        return x
    half, length = width // 2, x.shape[axis] - width + 1
    halves = _window_sums(x, axis, half)
    total = halves.narrow(axis, 0, length) + halves.narrow(axis, half, length)
    return total.add_(x.narrow(axis, width - 1, length)) if width % 2 else total


def widened(dtype: torch.dtype) -> torch.dtype:
    """What sums of a dtype are made in: float32 at least."""
    return torch.promote_types(dtype, torch.float32)


def check_size(size: int) -> None:
    """Refuse a window that has no centre."""
    if size < 1 or size % 2 == 0:
        raise ValueError(f"A neighbourhood's size must be odd and at least 1, not {size}.")


def check_shape(name: str, given: Sequence[int], expected: Sequence[int]) -> None:
    """Refuse a tensor that does not belong to the image."""
    if tuple(given) != tuple(expected):
        raise ValueError(f"The {name} must have the shape {tuple(expected)}, not {tuple(given)}.")
