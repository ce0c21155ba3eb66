"""Makes an operator of PyTorch, which `torch.export` and autograd know, of a scan and its gradient."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

Forward = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
Backward = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, ...]]
Scan = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def scan_operator(name: str, chunk: int, forward: Forward, backward: Backward) -> Scan:
    """y_t = C_t · h_t with h_t = exp(delta_t A) h_{t-1} + delta_t u_t B_t, of u, delta, A, B and C.

    u and delta are ``(batch, D, L)``, A is ``(D, N)``, B and C are ``(batch, G, N, L)``, all float32 or all float64.

    Args:
        name: in PyTorch's registry.
        chunk: steps from one state that is kept for the backward pass to the next.
        forward: returns y and the states before each chunk and at the end, ``(batch, D, N, ceil(L / chunk) + 1)``.
        backward: takes the same five, these states and y's gradient; returns the five gradients.
    """
    inputs = "Tensor u, Tensor delta, Tensor a, Tensor b, Tensor c"
    scan = torch.library.custom_op(
        f"noisylabelseg::{name}", forward, mutates_args=(), schema=f"({inputs}) -> (Tensor, Tensor)"
    )
    gradient = torch.library.custom_op(
        f"noisylabelseg::{name}_backward",
        backward,
        mutates_args=(),
        schema=f"({inputs}, Tensor states, Tensor gy) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    )
    scan.register_fake(partial(_shapes, chunk))
    gradient.register_fake(lambda *tensors: tuple(map(torch.empty_like, tensors[:5])))
    scan.register_autograd(lambda ctx, gy, _: gradient(*ctx.saved_tensors, gy), setup_context=_keep)
    return lambda *tensors: scan(*tensors)[0]


def _shapes(chunk: int, u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    batch, channels, length = u.shape
    return torch.empty_like(u), u.new_empty(batch, channels, a.shape[1], chunk_count(length, chunk) + 1)


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, output[1])


def chunk_count(length: int, chunk: int) -> int:
    return (length + chunk - 1) // chunk
