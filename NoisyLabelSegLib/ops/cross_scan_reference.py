"""Scans over a map as their definition reads: a sequence is copied out for each direction, scanned, and put back."""

# ruff: noqa: N803 - the literature's and mamba-ssm's names.

from __future__ import annotations

import torch
from torch import Tensor

from NoisyLabelSegLib.ops.cross_scan import Direction, ScanInputs, directions
from NoisyLabelSegLib.ops.selective_scan_reference import selective_scan_reference


def cross_selective_scan_reference(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    """What `cross_selective_scan` must return; slow, and differentiable as often as one likes."""
    total = torch.zeros_like(u)
    for k, direction in enumerate(directions(u.ndim - 2)):
        x, step, b, c = (gather(m, direction) for m in (u, delta[:, k], B[:, k], C[:, k]))
        skip, bias = (None if m is None else m[k] for m in (D, delta_bias))
        y = selective_scan_reference(x, step, A[k], b, c, skip, None, bias, delta_softplus)
        total = total + merge(y, direction, u.shape[2:])
    return total


def cross_modal_scan_reference(
    strong: ScanInputs, weak: ScanInputs, delta_softplus: bool = False
) -> tuple[Tensor, Tensor]:
    """What `cross_modal_scan` must return."""
    y_s = cross_selective_scan_reference(
        strong.u, strong.delta, strong.A, strong.B, weak.C, strong.D, strong.delta_bias, delta_softplus
    )
    y_w = cross_selective_scan_reference(
        weak.u, weak.delta, weak.A, weak.B, strong.C, weak.D, weak.delta_bias, delta_softplus
    )
    return y_s, y_w


def gather(m: Tensor, direction: Direction) -> Tensor:
    """``(batch, channels, *space)`` as the direction's sequence ``(batch, channels, L)``."""
    sequence = m.movedim(direction.axis + 2, -1).flatten(2)
    return sequence.flip(-1) if direction.backward else sequence


def merge(sequence: Tensor, direction: Direction, space: tuple[int, ...]) -> Tensor:
    """The inverse of `gather`."""
    forward = sequence.flip(-1) if direction.backward else sequence
    others = [size for axis, size in enumerate(space) if axis != direction.axis]
    return forward.unflatten(-1, (*others, space[direction.axis])).movedim(-1, direction.axis + 2)
