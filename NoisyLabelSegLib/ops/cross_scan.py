"""Selective scans over a map along all of its axes, both ways (SS2D of VMamba), and across two modalities.

A direction's sequence is the map read with one axis the fastest. The step sizes, B and C are given on the map's grid:
what projects pixels is computed there, once for all directions.
"""

# ruff: noqa: N803 - the literature's and mamba-ssm's names.

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from NoisyLabelSegLib.ops import scan_backends
from NoisyLabelSegLib.ops.cross_scan_lockstep import Direction, directions, places, scan_lockstep
from NoisyLabelSegLib.ops.scan_backends import Backend
from NoisyLabelSegLib.ops.selective_scan import selective_scan

__all__ = ["Direction", "ScanInputs", "cross_modal_scan", "cross_selective_scan", "directions"]


class ScanInputs(NamedTuple):
    """The tensors of `cross_selective_scan`."""

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None = None
    delta_bias: Tensor | None = None


def cross_selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    *,
    backend: Backend = "auto",
) -> Tensor:
    """The sum of the selective scans of a map along its K directions, each brought back to the map's grid.

    The directions are those of `directions`: 4 of an image (rows, columns, rows backward, columns backward) and 6 of a
    volume (each axis once the fastest, the last one first; the same backward). Computed in float32, or in float64 if
    `u` is, whether autocast is on or not. Differentiable once.

    Args:
        u: ``(batch, C, *space)``, the map.
        delta: ``(batch, K, C, *space)``, the step sizes of each direction.
        A: ``(K, C, N)``, negative.
        B, C: ``(batch, K, N, *space)``.
        D: ``(K, C)``, how much of `u` each direction adds.
        delta_bias: ``(K, C)``, added to `delta`.
        delta_softplus: the step sizes are softplus(delta + delta_bias).
        backend: as of `selective_scan`. On a CPU, "blocked" copies no sequence out; the others do.

    Returns:
        ``(batch, C, *space)`` of u's type.

    Raises:
        ValueError: the shapes do not fit each other.
        InputError: the backend cannot run here.
    """
    given = ScanInputs(u, delta, A, B, C, D, delta_bias)
    _check_shapes(given)
    if scan_backends.choose(backend, u) != "blocked" or u.device.type != "cpu":
        return _scan_gathered(given, delta_softplus, backend)
    a = A.to(torch.promote_types(u.dtype, torch.float32))
    skip = a.new_zeros(a.shape[1]) if D is None else D.to(a.dtype).sum(dim=0)
    bias = a.new_zeros(a.shape[:2]) if delta_bias is None else delta_bias.to(a.dtype)
    return scan_lockstep(u, delta, a, B, C, skip, bias, delta_softplus)


def cross_modal_scan(
    strong: ScanInputs, weak: ScanInputs, delta_softplus: bool = False, *, backend: Backend = "auto"
) -> tuple[Tensor, Tensor]:
    """Scans of two modalities' maps of which each is read by the other's C, and C alone is swapped.

    y_s = C_w h_s + D_s x_s and y_w = C_s h_w + D_w x_w (5.3), along each direction of `cross_selective_scan`.

    Args:
        strong, weak: of the same grid, batch and N; their channels may differ.
        delta_softplus, backend: as of `cross_selective_scan`.

    Returns:
        y_s and y_w.

    Raises:
        ValueError: the shapes do not fit each other.
        InputError: the backend cannot run here.
    """
    read_by_weak, read_by_strong = strong._replace(C=weak.C), weak._replace(C=strong.C)
    options: dict[str, Any] = {"delta_softplus": delta_softplus, "backend": backend}
    return cross_selective_scan(*read_by_weak, **options), cross_selective_scan(*read_by_strong, **options)


def _scan_gathered(given: ScanInputs, delta_softplus: bool, backend: Backend) -> Tensor:
    """The directions' sequences, copied out, as groups of channels of one selective scan."""
    u, delta, a, b, c, d, bias = given
    order = places(u.shape[2:], u.device)[None, :, None]
    sequences, steps, b, c = (torch.take_along_dim(m.flatten(3), order, dim=-1) for m in (u.unsqueeze(1), delta, b, c))
    d, bias = (None if m is None else m.flatten(0, 1) for m in (d, bias))
    u_all, delta_all = sequences.flatten(1, 2), steps.flatten(1, 2)
    y = selective_scan(u_all, delta_all, a.flatten(0, 1), b, c, d, None, bias, delta_softplus, backend=backend)
    merged = torch.take_along_dim(y.view(sequences.shape), order.argsort(), dim=-1).sum(dim=1)
    return merged.view(u.shape)


def _check_shapes(given: ScanInputs) -> None:
    u, a = given.u, given.A
    if u.ndim not in (4, 5) or 0 in u.shape:
        raise ValueError(f"u must be BCHW or BCHWD and not empty, not {tuple(u.shape)}.")
    batch, channels, *space = u.shape
    count, states = len(directions(len(space))), a.shape[-1]
    of_states = (batch, count, states, *space)
    for name, tensor, shape in (
        ("A", a, (count, channels, states)),
        ("delta", given.delta, (batch, count, channels, *space)),
        ("B", given.B, of_states),
        ("C", given.C, of_states),
        ("D", given.D, (count, channels)),
        ("delta_bias", given.delta_bias, (count, channels)),
    ):
        if tensor is not None and tensor.shape != shape:
            raise ValueError(f"{name} must be {shape} as u is {tuple(u.shape)}, not {tuple(tensor.shape)}.")
