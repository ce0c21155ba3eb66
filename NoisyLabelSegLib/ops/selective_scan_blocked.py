"""The selective scan in plain PyTorch, on any device, as a scan of two levels.

The sequence is cut into chunks. All chunks are scanned at once, step by step, from empty states; the chunks' last
states are carried from chunk to chunk; then all chunks are scanned again from their true first states, now with the
contraction with C. No tensor of the size channels × states × L is ever made, and nothing is divided by a decay or
logarithmed. The backward pass scans the adjoint states alike, from the end, and makes the states again.

Shapes: a sequence is ``(steps, batch, D, 1, chunks)``, B and C are ``(steps, batch, G, N, chunks)``, a state is
``(batch, D, N, chunks)``; so each step reads memory that lies together.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from NoisyLabelSegLib.ops.scan_operator import chunk_count, scan_operator

CHUNK = 32
KEPT = 8  # Steps whose states the backward pass keeps at once.
BLOCK = 2**16  # States that a thread works on at once: they fit into its cache, and PyTorch shares them out.


def _forward(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    x, step = _split(u).unsqueeze(3), _split(delta).unsqueeze(3)
    x.mul_(step)
    b, c, rate = _split(b), _split(c), _rate(a)
    first = _first_states(x, step, b, rate)
    # From here on, each step's output takes the place of its input.
    for rows, group in _parts(first, b.shape[2], BLOCK):
        state = first[:, rows, :, :-1].clone(memory_format=torch.contiguous_format)
        work = torch.empty_like(state)
        steps = zip(*(_unbind(m, rows) for m in (step, x)), *(_unbind(m, group) for m in (b, c)), strict=True)
        for step_k, x_k, b_k, c_k in steps:
            _advance(state, work, step_k, rate[rows], x_k, b_k)
            torch.sum(torch.mul(state, c_k, out=work), dim=2, keepdim=True, out=x_k)
    return _join(x.squeeze(3), u.shape[-1]), first


def _first_states(x: Tensor, step: Tensor, b: Tensor, rate: Tensor) -> Tensor:
    """The state before each chunk, and that at the end."""
    last = x.new_zeros(*x.shape[1:3], rate.shape[1], x.shape[-1])
    for rows, group in _parts(last, b.shape[2], BLOCK):
        state, work = last[:, rows], torch.empty_like(last[:, rows])
        for step_k, x_k, b_k in zip(_unbind(step, rows), _unbind(x, rows), _unbind(b, group), strict=True):
            _advance(state, work, step_k, rate[rows], x_k, b_k)
    return _carry(last, _whole_decays(step, rate))


def _last_adjoints(gy: Tensor, step: Tensor, c: Tensor, rate: Tensor) -> Tensor:
    """The gradient of each chunk's last state that the chunks behind it give."""
    coming = gy.new_zeros(*gy.shape[1:3], rate.shape[1], gy.shape[-1])
    for rows, group in _parts(coming, c.shape[2], BLOCK):
        adjoint, decay = coming[:, rows], torch.empty_like(coming[:, rows])
        steps = zip(_unbind(step, rows), _unbind(gy, rows), _unbind(c, group), strict=True)
        for step_k, gy_k, c_k in reversed(list(steps)):
            torch.mul(step_k, rate[rows], out=decay)
            adjoint.addcmul_(gy_k, c_k).mul_(decay.exp2_())
    return _carry(coming.flip(-1), _whole_decays(step, rate).flip(0))[..., :-1].flip(-1)


def _advance(state: Tensor, decay: Tensor, step: Tensor, rate: Tensor, x: Tensor, b: Tensor) -> None:
    torch.mul(step, rate, out=decay)
    state.mul_(decay.exp2_()).addcmul_(x, b)


def _whole_decays(step: Tensor, rate: Tensor) -> Tensor:
    """What a chunk leaves of the state before it, ``(chunks, batch, D, N)``."""
    return (step.sum(dim=0).movedim(-1, 0).contiguous() * rate.squeeze(-1)).exp2_()


def _carry(last: Tensor, decays: Tensor) -> Tensor:
    """The true states between the chunks, from the last states of scans that began empty and the whole decays."""
    lasts = last.movedim(-1, 0).contiguous()
    states = lasts.new_zeros(len(lasts) + 1, *lasts.shape[1:])
    between = states.unbind()
    for before, after, last_k, decay_k in zip(between, between[1:], lasts.unbind(), decays.unbind(), strict=False):
        torch.addcmul(last_k, decay_k, before, out=after)
    return states.movedim(0, -1).contiguous()


def _backward(
    u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, first: Tensor, gy: Tensor
) -> tuple[Tensor, ...]:
    length = u.shape[-1]
    x, step, dx = (_split(m).unsqueeze(3) for m in (u, delta, gy))
    x.mul_(step)
    b, c, rate = _split(b), _split(c), _rate(a)
    last = _last_adjoints(dx, step, c, rate)
    da, db, dc = torch.zeros_like(a), torch.zeros_like(b), torch.zeros_like(c)
    for rows, group in _parts(first, b.shape[2], BLOCK // 2):
        own, shared = (m[:, :, rows] for m in (x, step, dx)), (m[:, :, group] for m in (b, c, db, dc))
        da[rows] = _part_backward(_Steps(*own, *shared), rate[rows], first[:, rows, :, :-1], last[:, rows])
    du, ddelta = _join(dx.squeeze(3), length), _join(x.squeeze(3), length)
    ddelta.mul_(math.log(2)).addcmul_(du, u)
    return du.mul_(delta), ddelta, da, _join(db, length), _join(dc, length)


class _Steps(NamedTuple):
    """Some steps of a block of channels; ``gy`` makes room for x's gradient, ``x`` for the step's by the decay."""

    x: Tensor
    step: Tensor
    gy: Tensor
    b: Tensor
    c: Tensor
    db: Tensor
    dc: Tensor


def _part_backward(part: _Steps, rate: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """Writes the part's gradients and returns A's: a few steps at a time, so that few states are kept.

    ``last`` becomes what arrives before the chunks.
    """
    state = first.clone(memory_format=torch.contiguous_format)
    work, da = torch.empty_like(state), torch.zeros_like(state)
    pieces, states = [_Steps(*piece) for piece in zip(*(m.split(KEPT) for m in part), strict=True)], [state]
    for piece in pieces[:-1]:
        states.append(states[-1].clone())
        for k, step in enumerate(piece.step):
            _advance(states[-1], work, step, rate, piece.x[k], piece.b[k])
    while pieces:
        _steps_backward(pieces.pop(), rate, states.pop(), last, da, work)
    return da.sum(dim=(0, 3))


def _steps_backward(p: _Steps, rate: Tensor, state: Tensor, adjoint: Tensor, da: Tensor, work: Tensor) -> None:
    """From the state before the steps and the adjoint after them, which becomes that before them; adds to ``da``."""
    p.dc.addcmul_((p.gy * p.x).sum(dim=2, keepdim=True), p.b)
    decayed = state.new_empty(len(p.x), *state.shape)
    steps = list(zip(decayed.unbind(), *(m.unbind() for m in p), strict=True))
    for kept, x, step, _, b, *_ in steps:
        torch.mul(step, rate, out=work)
        torch.mul(state, work.exp2_(), out=kept)
        torch.addcmul(kept, x, b, out=state)
    for kept, x, step, gy, b, c, db, dc in reversed(steps):
        dc += torch.sum(torch.mul(kept, gy, out=work), dim=1, keepdim=True)
        adjoint.addcmul_(gy, c)
        torch.sum(torch.mul(adjoint, b, out=work), dim=2, keepdim=True, out=gy)
        db += torch.sum(torch.mul(adjoint, x, out=work), dim=1, keepdim=True)
        kept.mul_(adjoint)
        da.addcmul_(kept, step)
        torch.sum(kept.mul_(rate), dim=2, keepdim=True, out=x)
        torch.mul(step, rate, out=work)
        adjoint.mul_(work.exp2_())


def _rate(a: Tensor) -> Tensor:
    """exp(delta A) is 2^(delta rate): PyTorch's exp2 takes half the time of its exp."""
    return (a * math.log2(math.e)).unsqueeze(-1)


def _split(sequence: Tensor) -> Tensor:
    """A copy of ``(..., L)`` as ``(steps, ..., chunks)``, filled up with zeros: they change no state."""
    length = sequence.shape[-1]
    count, steps = chunk_count(length, CHUNK), min(CHUNK, length)
    missing = count * steps - length
    whole = F.pad(sequence, (0, missing)) if missing else sequence
    return whole.unflatten(-1, (count, steps)).movedim(-1, 0).clone(memory_format=torch.contiguous_format)


def _join(steps: Tensor, length: int) -> Tensor:
    """The inverse of `_split`."""
    return steps.movedim(0, -1).flatten(-2)[..., :length].contiguous()


def _unbind(sequence: Tensor, part: slice) -> tuple[Tensor, ...]:
    return sequence[:, :, part].unbind()


def _parts(state: Tensor, groups: int, size: int) -> list[tuple[slice, slice]]:
    """Blocks of channels, each within a group, and that group."""
    batch, channels, states, count = state.shape
    width = channels // groups
    block = max(1, size * torch.get_num_threads() // (batch * states * count))
    return [
        (slice(start, min(start + block, end)), slice(group, group + 1))
        for group, end in enumerate(range(width, channels + 1, width))
        for start in range(end - width, end, block)
    ]


scan_blocked = scan_operator("selective_scan_blocked", CHUNK, _forward, _backward)
