"""Sums over each voxel's neighbourhood with weights that differ from pair to pair, accumulated shift by shift.

The window is cut at the image's border. Memory is linear in the image and does not depend on the window; the backward
pass makes the weights again. Gradients reach the values, not the guide that the weights are made of.

Images are laid out as lines, see `_Lines`, so that a shift is an offset along contiguous memory. Of each two opposite
shifts one is enough: a pair of voxels is met once and each end gets its share of the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from NoisyLabelSegLib.ops.box import box_mean, check_shape, check_size, widened

EPSILON = 1e-6
BLOCK = 2**17  # Voxels that are worked on together on a CPU: they stay in its cache.
FAR = 1e18  # A guide that is like no other; its square is still finite in float32.

# The weights of the second slice's voxels in the sums of the first one's, and the other way round.
Weigh = Callable[[slice, slice], tuple[Tensor, Tensor]]


def gaussian_aggregate(values: Tensor, guide: Tensor, sizes: Sequence[int] = (3, 5, 7), sigma: float = 1.0) -> Tensor:
    """Equation (2) without its last term: neighbours' values weighted by how alike the guide is there.

    Args:
        values: ``BCHW[D]``.
        guide: the image, ``BGHW[D]``; it gets no gradient.
        sizes: widths k of the windows, odd; each counts in proportion to 1 / √k.
        sigma: of the Gaussian exp(-|difference|² / sigma) (the paper's form, without a factor 2).

    Returns:
        ``BCHW[D]``, of the values' dtype; sums are made in float32 at least.
    """
    for size in sizes:
        check_size(size)
    if not sizes or sigma <= 0:
        raise ValueError(
            f"A Gaussian aggregation needs at least one size and sigma > 0, not {tuple(sizes)} and {sigma}."
        )
    check_shape("guide", guide.shape, (len(values), guide.shape[1], *values.shape[2:]))
    result: Tensor = _Gaussian.apply(values, _wide(guide.detach()), tuple(sorted(sizes)), sigma)
    return result


def thresholded_aggregate(
    values: Tensor, guide: Tensor, size: int = 3, *, kind: Literal["sum", "mean"] = "sum"
) -> Tensor:
    """Equation (1) without its last term: the neighbours' values where the guide is at least its mean over the window.

    Args:
        values: ``BCHW[D]``.
        guide: the same shape, channel by channel; it gets no gradient.
        size: k, odd.
        kind: "mean" divides by the number of neighbours that are added.

    Returns:
        ``BCHW[D]``, of the values' dtype; sums are made in float32 at least.
    """
    check_size(size)
    check_shape("guide", guide.shape, values.shape)
    guide = _wide(guide.detach())
    mean = box_mean(guide, size)
    # Else rounding decides whether a flat region's voxels reach their own mean.
    mean -= mean.abs() * (guide.ndim * size * torch.finfo(guide.dtype).eps)
    total: Tensor = _Thresholded.apply(_wide(values), guide, mean, size)
    if kind == "mean":
        total = total / _Thresholded.apply(torch.ones_like(guide), guide, mean, size)
    return total.to(values.dtype)


class _Gaussian(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, guide: Tensor, sizes: tuple[int, ...], sigma: float) -> Tensor:
        lines = _Lines(values.shape, sizes[-1])
        weigh = _alike(lines.of(guide * _scale(sigma), border=FAR))
        # The last line, of ones, becomes the sum of the weights.
        given = lines.of(torch.cat([values, torch.ones_like(values[:, :1])], dim=1))
        total, result, norms = given.clone(), torch.zeros_like(given[:-1]), []
        for size, smaller, share in zip(sizes, (1, *sizes), _shares(sizes), strict=False):
            _accumulate(total, given, lines.shifts(size, smaller), weigh)
            norms.append(total[-1:].clamp(min=1))
            result.addcdiv_(total[:-1], norms[-1], value=share)
        ctx.save_for_backward(guide, *norms)
        ctx.sizes, ctx.sigma = sizes, sigma
        return lines.image(result).to(values.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        guide, *norms = ctx.saved_tensors
        sizes: tuple[int, ...] = ctx.sizes
        lines = _Lines(grad.shape, sizes[-1])
        weigh = _alike(lines.of(guide * _scale(ctx.sigma), border=FAR))
        coming = lines.of(grad)
        total, shared = torch.zeros_like(coming), torch.zeros_like(coming)
        # A pair is in the windows of its own size and of all larger ones.
        for size, smaller, share, norm in reversed([*zip(sizes, (1, *sizes), _shares(sizes), norms, strict=False)]):
            shared.addcdiv_(coming, norm, value=share)
            _accumulate(total, shared, lines.shifts(size, smaller), weigh)
        return lines.image(total + shared).to(grad.dtype), None, None, None


class _Thresholded(torch.autograd.Function):
    """Sums of the values_j with guide_j >= mean_i, over all j around i."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, guide: Tensor, mean: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(guide, mean)
        ctx.size = size
        lines = _Lines(values.shape, size)
        given = lines.of(values)
        total = lines.of(values * (guide >= mean))
        _accumulate(total, given, lines.shifts(size), _reaching(lines.of(guide), lines.of(mean)))
        return lines.image(total)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        guide, mean = ctx.saved_tensors
        # From i to j instead of from j to i: guide_j >= mean_i is -mean_i >= -guide_j.
        return _Thresholded.apply(grad, -mean, -guide, ctx.size), None, None, None


def _alike(guide: Tensor) -> Weigh:
    """2 ** -|difference|² of lines ``(G, voxels)``: the same for both ends."""

    def weigh(here: slice, there: slice) -> tuple[Tensor, Tensor]:
        difference = guide[:, there] - guide[:, here]
        distance = difference.square_() if len(guide) == 1 else difference.square_().sum(dim=0, keepdim=True)
        weight = distance.neg_().exp2_()
        return weight, weight

    return weigh


def _reaching(guide: Tensor, mean: Tensor) -> Weigh:
    """1 where one end's guide is at least the other end's mean."""

    def weigh(here: slice, there: slice) -> tuple[Tensor, Tensor]:
        first, second = torch.empty_like(guide[:, here]), torch.empty_like(guide[:, here])
        torch.ge(guide[:, there], mean[:, here], out=first)
        torch.ge(guide[:, here], mean[:, there], out=second)
        return first, second

    return weigh


def _accumulate(total: Tensor, given: Tensor, shifts: Sequence[int], weigh: Weigh) -> None:
    """Add to each voxel's total what is given at the voxels that are shifts away, in both directions."""
    voxels = given.shape[1]
    block = BLOCK if given.device.type == "cpu" else voxels
    for start in range(0, voxels, block):
        for shift in shifts:
            stop = min(start + block, voxels - shift)
            if start < stop:
                here, there = slice(start, stop), slice(start + shift, stop + shift)
                to_here, to_there = weigh(here, there)
                total[:, here].addcmul_(to_here, given[:, there])
                total[:, there].addcmul_(to_there, given[:, here])


class _Lines:
    """``BCHW[D]`` as C lines of all voxels, with a border after each row, column and image.

    The border is as wide as the window reaches, so a shift is one number along the line and ends in the border, never
    in another row.
    """

    def __init__(self, shape: Sequence[int], size: int) -> None:
        self.batch, self.spatial = shape[0], tuple(shape[2:])
        self.reaches = [min(size // 2, length - 1) for length in self.spatial]
        self.padded = [length + reach for length, reach in zip(self.spatial, self.reaches, strict=True)]

    def of(self, image: Tensor, border: float = 0.0) -> Tensor:
        """``(C, voxels)``, float32 or float64."""
        ends = [width for reach in reversed(self.reaches) for width in (0, reach)]
        return F.pad(_wide(image).transpose(0, 1), ends, value=border).flatten(1)

    def image(self, lines: Tensor) -> Tensor:
        """The way back, without the border."""
        padded = lines.view(-1, self.batch, *self.padded)
        where = (slice(None), slice(None), *(slice(length) for length in self.spatial))
        return padded[where].transpose(0, 1).contiguous()

    def shifts(self, size: int, smaller: int = 1) -> list[int]:
        """One of each two opposite shifts within a window, without those within a smaller one."""
        found = []
        for offset in product(*(range(-reach, reach + 1) for reach in self.reaches)):
            if offset > (0,) * len(offset) and smaller // 2 < max(map(abs, offset)) <= size // 2:
                shift = 0
                for step, length in zip(offset, self.padded, strict=True):
                    shift = shift * length + step
                found.append(shift)
        return found


def _scale(sigma: float) -> float:
    """Of a guide, for weights that are powers of 2: on a CPU `exp` gets slow where it underflows, as at the border."""
    return (math.log2(math.e) / (sigma + EPSILON)) ** 0.5


def _shares(sizes: Sequence[int]) -> list[float]:
    weights = [size**-0.5 for size in sizes]
    return [weight / sum(weights) for weight in weights]


def _wide(x: Tensor) -> Tensor:
    return x.to(widened(x.dtype))
