"""The selective scan as a kernel of Triton, for CUDA; only ever imported when it is to run.

A program has one channel of one sequence and goes through it in chunks; within a chunk, an associative scan. The
backward pass goes from the last chunk to the first and makes the chunk's states again from the state before it.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from NoisyLabelSegLib.ops.scan_operator import chunk_count, scan_operator

CHUNK = 64


@triton.jit
def _then(
    decay: tl.tensor, state: tl.tensor, next_decay: tl.tensor, next_state: tl.tensor
) -> tuple[tl.tensor, tl.tensor]:
    return decay * next_decay, state * next_decay + next_state


@triton.jit
def _forward_kernel(
    u: tl.tensor,
    delta: tl.tensor,
    a: tl.tensor,
    b: tl.tensor,
    c: tl.tensor,
    y: tl.tensor,
    first: tl.tensor,
    length: int,
    channels: int,
    width: int,
    states: int,
    chunk: tl.constexpr,
    lanes: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    channel, group = row % channels, row // width
    n, t = tl.arange(0, lanes), tl.arange(0, chunk)
    own = n < states
    rate = tl.load(a + channel * states + n, mask=own, other=0)
    state = tl.zeros_like(rate)
    count = tl.cdiv(length, chunk)
    for k in range(count):
        at = k * chunk + t
        inside = at < length
        tile, in_tile = (group * states + n[:, None]) * length + at[None, :], own[:, None] & inside[None, :]
        step = tl.load(delta + row * length + at, mask=inside, other=0)
        x = step * tl.load(u + row * length + at, mask=inside, other=0)
        tl.store(first + (row * states + n) * (count + 1) + k, state, mask=own)
        decay = tl.exp(rate[:, None] * step[None, :])
        pushed = x[None, :] * tl.load(b + tile, mask=in_tile, other=0)
        pushed += tl.where(t[None, :] == 0, decay * state[:, None], 0)
        _, after = tl.associative_scan((decay, pushed), 1, _then)
        tl.store(y + row * length + at, tl.sum(after * tl.load(c + tile, mask=in_tile, other=0), 0), mask=inside)
        state = tl.sum(tl.where(t[None, :] == chunk - 1, after, 0), 1)
    tl.store(first + (row * states + n) * (count + 1) + count, state, mask=own)


@triton.jit
def _backward_kernel(
    u: tl.tensor,
    delta: tl.tensor,
    a: tl.tensor,
    b: tl.tensor,
    c: tl.tensor,
    first: tl.tensor,
    gy: tl.tensor,
    du: tl.tensor,
    ddelta: tl.tensor,
    da: tl.tensor,
    db: tl.tensor,
    dc: tl.tensor,
    length: int,
    channels: int,
    width: int,
    states: int,
    chunk: tl.constexpr,
    lanes: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    channel, group = row % channels, row // width
    n, t = tl.arange(0, lanes), tl.arange(0, chunk)
    own = n < states
    rate = tl.load(a + channel * states + n, mask=own, other=0)
    coming, rate_gradient = tl.zeros_like(rate), tl.zeros_like(rate)
    count = tl.cdiv(length, chunk)
    for back in range(count):
        k = count - 1 - back
        at = k * chunk + t
        inside = at < length
        tile, in_tile = (group * states + n[:, None]) * length + at[None, :], own[:, None] & inside[None, :]
        step = tl.load(delta + row * length + at, mask=inside, other=0)
        value = tl.load(u + row * length + at, mask=inside, other=0)
        from_y = tl.load(gy + row * length + at, mask=inside, other=0)
        b_tile, c_tile = tl.load(b + tile, mask=in_tile, other=0), tl.load(c + tile, mask=in_tile, other=0)
        decay = tl.exp(rate[:, None] * step[None, :])

        # The state before each step: the scan of what happened one step before.
        has_last = (t > 0) & (at - 1 < length)
        last_step = tl.load(delta + row * length + at - 1, mask=has_last, other=0)
        last_x = last_step * tl.load(u + row * length + at - 1, mask=has_last, other=0)
        pushed = last_x[None, :] * tl.load(b + tile - 1, mask=own[:, None] & has_last[None, :], other=0)
        initial = tl.load(first + (row * states + n) * (count + 1) + k, mask=own, other=0)
        pushed += tl.where(t[None, :] == 0, initial[:, None], 0)
        _, before = tl.associative_scan((tl.exp(rate[:, None] * last_step[None, :]), pushed), 1, _then)
        kept = decay * before

        # The gradient of each state after its step: the scan from the end, with the decay of the step after.
        next_step = tl.load(delta + row * length + at + 1, mask=(t < chunk - 1) & (at + 1 < length), other=0)
        arriving = from_y[None, :] * c_tile + tl.where(t[None, :] == chunk - 1, coming[:, None], 0)
        next_decay = tl.exp(rate[:, None] * next_step[None, :])
        _, adjoint = tl.associative_scan((next_decay, arriving), 1, _then, reverse=True)
        coming = tl.sum(tl.where(t[None, :] == 0, decay * adjoint, 0), 1)

        x = step * value
        tl.atomic_add(dc + tile, from_y[None, :] * (kept + x[None, :] * b_tile), mask=in_tile)
        tl.atomic_add(db + tile, adjoint * x[None, :], mask=in_tile)
        through_decay = adjoint * kept
        rate_gradient += tl.sum(through_decay * step[None, :], 1)
        dx = tl.sum(adjoint * b_tile, 0)
        tl.store(du + row * length + at, dx * step, mask=inside)
        through_step = dx * value + tl.sum(through_decay * rate[:, None], 0)
        tl.store(ddelta + row * length + at, through_step, mask=inside)
    tl.store(da + row * states + n, rate_gradient, mask=own)


def _forward(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    u, delta, a, b, c = (tensor.contiguous() for tensor in (u, delta, a, b, c))
    y, first = torch.empty_like(u), u.new_empty(*u.shape[:2], a.shape[1], chunk_count(u.shape[2], CHUNK) + 1)
    with torch.cuda.device_of(u):
        _forward_kernel[_grid(u)](u, delta, a, b, c, y, first, *_sizes(u, b))
    return y, first


def _backward(
    u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, first: Tensor, gy: Tensor
) -> tuple[Tensor, ...]:
    u, delta, a, b, c, gy = (tensor.contiguous() for tensor in (u, delta, a, b, c, gy))
    du, ddelta, da = torch.empty_like(u), torch.empty_like(u), a.new_empty(len(u), *a.shape)
    db, dc = torch.zeros_like(b), torch.zeros_like(c)
    with torch.cuda.device_of(u):
        _backward_kernel[_grid(u)](u, delta, a, b, c, first, gy, du, ddelta, da, db, dc, *_sizes(u, b))
    return du, ddelta, da.sum(dim=0), db, dc


def _grid(u: Tensor) -> tuple[int]:
    return (u.shape[0] * u.shape[1],)


def _sizes(u: Tensor, b: Tensor) -> tuple[int, ...]:
    _, channels, length = u.shape
    _, groups, states, _ = b.shape
    return length, channels, channels // groups, states, CHUNK, triton.next_power_of_2(states)


scan_triton = scan_operator("selective_scan_triton", CHUNK, _forward, _backward)
