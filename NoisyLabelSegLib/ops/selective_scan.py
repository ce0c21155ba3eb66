"""The selective scan of Mamba-1 (Gu and Dao 2023), at the speed that the device allows."""

# ruff: noqa: N803 - the literature's and mamba-ssm's names.

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from NoisyLabelSegLib.ops import scan_backends
from NoisyLabelSegLib.ops.scan_backends import Backend, use_backend
from NoisyLabelSegLib.ops.selective_scan_blocked import scan_blocked

__all__ = ["Backend", "selective_scan", "use_backend"]


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    *,
    backend: Backend = "auto",
) -> Tensor:
    """y_t = C_t · h_t + D u_t with h_t = exp(delta_t A) h_{t-1} + delta_t u_t B_t, a state h for each channel.

    Computed in float32, or in float64 if `u` is, whether autocast is on or not. Differentiable once.

    Args:
        u, delta: ``(batch, D, L)``, the sequences and their step sizes.
        A: ``(D, N)``, negative.
        B, C: ``(batch, N, L)``, or ``(batch, G, N, L)`` for G groups of channels.
        D: ``(D,)``, how much of `u` is added.
        z: ``(batch, D, L)``, a gate: y · silu(z) is returned.
        delta_bias: ``(D,)``, added to `delta`.
        delta_softplus: the step sizes are softplus(delta + delta_bias).
        backend: "auto" is what `use_backend` chose, else the fastest that runs on u's device.

    Returns:
        ``(batch, D, L)`` of u's type.

    Raises:
        ValueError: the shapes do not fit each other.
        InputError: the backend cannot run here.
    """
    _check_shapes(u, delta, A, B, C, D, z, delta_bias)
    chosen = scan_backends.choose(backend, u)
    if chosen == "mamba-ssm":
        return _fused(u, delta, A, B, C, D, z, delta_bias, delta_softplus)
    wide = torch.promote_types(u.dtype, torch.float32)
    x, step = u.to(wide), delta.to(wide)
    if delta_bias is not None:
        step = step + delta_bias.to(wide)[:, None]
    if delta_softplus:
        step = F.softplus(step)
    scan = scan_blocked if chosen == "blocked" else scan_backends.module(chosen).scan_triton
    y: Tensor = scan(x, step, A.to(wide), *(_grouped(matrix).to(wide) for matrix in (B, C)))
    if D is not None:
        y = y + D.to(wide)[:, None] * x
    if z is not None:
        y = y * F.silu(z.to(wide))
    return y.to(u.dtype)


def _fused(
    u: Tensor,
    delta: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
) -> Tensor:
    """mamba-ssm's kernel takes sequences of one type, and what belongs to channels in float32."""
    delta, b, c = (tensor.to(u.dtype) for tensor in (delta, _grouped(b), _grouped(c)))
    d, delta_bias = (None if tensor is None else tensor.float() for tensor in (d, delta_bias))
    gate = None if z is None else z.to(u.dtype)
    fused = scan_backends.module("mamba-ssm").selective_scan_fn
    y: Tensor = fused(u, delta, a.float(), b, c, d, gate, delta_bias, delta_softplus)
    return y


def _grouped(matrix: Tensor) -> Tensor:
    return matrix.unsqueeze(1) if matrix.ndim == 3 else matrix


def _check_shapes(
    u: Tensor,
    delta: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
) -> None:
    if u.ndim != 3 or 0 in u.shape:
        raise ValueError(f"u must be (batch, D, L) and not empty, not {tuple(u.shape)}.")
    batch, channels, length = u.shape
    for name, tensor, shape in (
        ("delta", delta, (batch, channels, length)),
        ("A", a, (channels, a.shape[-1])),
        ("D", d, (channels,)),
        ("z", z, (batch, channels, length)),
        ("delta_bias", delta_bias, (channels,)),
    ):
        if tensor is not None and tensor.shape != shape:
            raise ValueError(f"{name} must be {shape} as u is {tuple(u.shape)}, not {tuple(tensor.shape)}.")
    for name, matrix in (("B", b), ("C", c)):
        groups = _grouped(matrix).shape[1]
        if _grouped(matrix).shape != (batch, groups, a.shape[1], length) or not groups or channels % groups:
            raise ValueError(
                f"{name} must be (batch, N, L) or (batch, G, N, L) with D a multiple of G, "
                f"not {tuple(matrix.shape)} beside u {tuple(u.shape)} and A {tuple(a.shape)}."
            )
    if _grouped(b).shape != _grouped(c).shape:
        raise ValueError(f"B and C must have the same groups, not {tuple(b.shape)} and {tuple(c.shape)}.")
