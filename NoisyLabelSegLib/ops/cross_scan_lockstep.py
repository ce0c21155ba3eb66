"""Selective scans along all directions of a map in plain PyTorch: they advance together, some steps at a time.

The map is turned once, so that a pixel's channels lie together. The next pixels of each direction are fetched by their
places, and the decays and inputs of these steps are made at once, for all directions and channels; then
h = decay h + input is one call a step, and what follows from the states is made at once again and goes back to the
pixels. No sequence is ever copied out, and what is worked on stays in the cache. Of the states, those before each piece
of steps are kept; the backward pass makes the others again.

Shapes: rows are ``(L * batch, channels)`` of a map, ``(L * batch * K, channels)`` of a map of each direction. Of a
piece, sequences are ``(steps, batch, K, 1, C)``, B and C ``(steps, batch, K, N, 1)``, states
``(steps, batch, K, N, C)``.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

STATES = 2**14  # Of a step: of more items than have so many, one part is scanned after the other.
BLOCKS = (2**18, 2**19)  # States of a piece: enough for PyTorch to share them out, and few enough for the cache.
PIECES = 64  # Of a long sequence, at least: their states take little memory beside the map.


class Direction(NamedTuple):
    """How a map becomes a sequence.

    Attributes:
        axis: the fastest one, counted without batch and channels; the others follow in their order.
        backward: whether the sequence is read from its end.
    """

    axis: int
    backward: bool


def directions(ndim: int) -> tuple[Direction, ...]:
    """The K = 2 ndim directions of a map: each axis once the fastest, the last one first; then the same backward.

    Of an image: rows, columns, rows backward, columns backward.
    """
    return tuple(Direction(axis, backward) for backward in (False, True) for axis in reversed(range(ndim)))


def places(space: tuple[int, ...], device: torch.device) -> Tensor:
    """Where in the flattened map each direction is at each step, ``(K, L)``."""
    numbers = torch.arange(math.prod(space), device=device).view(space)
    sequences = ((numbers.movedim(axis, -1).flatten(), backward) for axis, backward in directions(len(space)))
    return torch.stack([sequence.flip(0) if backward else sequence for sequence, backward in sequences])


class _Given(NamedTuple):
    """The operator's tensors: delta and ``bias`` before the softplus, ``skip`` is the sum of the directions' D."""

    u: Tensor
    delta: Tensor
    a: Tensor
    b: Tensor
    c: Tensor
    skip: Tensor
    bias: Tensor

    def parts(self) -> list[tuple[slice, _Given]]:
        """The batch, some items at a time."""
        count = _items_at_once(self.u, self.a)
        parts = [slice(start, start + count) for start in range(0, len(self.u), count)]
        own = ("u", "delta", "b", "c")
        return [(items, self._replace(**{name: getattr(self, name)[items] for name in own})) for items in parts]


def _forward(
    u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, skip: Tensor, bias: Tensor, softplus: bool
) -> tuple[Tensor, Tensor]:
    y, first = torch.empty_like(u, memory_format=torch.contiguous_format), _first_states(u, a)
    length = _piece_length(u, a)
    for items, given in _Given(u, delta, a, b, c, skip, bias).parts():
        walk, before = _Walk(given, length, softplus), first[:, items]
        rows, state = walk.u * skip, torch.zeros_like(before[0])
        for kept, at in zip(before, walk.pieces, strict=True):
            kept.copy_(state)
            states, _ = walk.states(walk.inputs(at), state)
            state = states[-1].clone()
            at.add(rows, states.mul_(walk.matrix(walk.c, at)).sum(dim=3))
        _write_map(y[items], rows, u.ndim - 2)
    return y, first


def _backward(
    u: Tensor,
    delta: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    skip: Tensor,
    bias: Tensor,
    softplus: bool,
    first: Tensor,
    gy: Tensor,
) -> tuple[Tensor, ...]:
    du, ddelta, db, dc = (torch.empty_like(m, memory_format=torch.contiguous_format) for m in (u, delta, b, c))
    da, dskip, dbias = (torch.zeros_like(m) for m in (a, skip, bias))
    length = _piece_length(u, a)
    for items, given in _Given(u, delta, a, b, c, skip, bias).parts():
        walk, gy_rows = _Walk(given, length, softplus), _rows(gy[items], gy.ndim - 2, a.dtype)
        dskip += (gy_rows * walk.u).sum(dim=0)
        du_rows = gy_rows * skip
        da += _walk_back(walk, first[:, items], gy_rows, du_rows)
        dbias += walk.delta.view(-1, *bias.shape).sum(dim=0)
        for gradient, rows in ((du, du_rows), (ddelta, walk.delta), (db, walk.b), (dc, walk.c)):
            _write_map(gradient[items], rows, u.ndim - 2)
    return du, ddelta, da, db, dc, dskip, dbias


def _walk_back(walk: _Walk, first: Tensor, gy_rows: Tensor, du_rows: Tensor) -> Tensor:
    """Adds to u's gradient, lets those of delta, B and C take the place of their rows, and returns A's."""
    coming, da = torch.zeros_like(first[0]), torch.zeros_like(first[0])
    adjoint_room, work_room = walk.room(), walk.room()
    for before, at in reversed(list(zip(first, walk.pieces, strict=True))):
        p = walk.inputs(at)
        states, decays = walk.states(p, before)
        adjoint, work = adjoint_room[: len(states)], work_room[: len(states)]
        gy = walk.sequence(gy_rows, at.pixels)
        torch.mul(gy, walk.matrix(walk.c, at), out=adjoint)
        at.write(walk.c, torch.mul(states, gy, out=work).sum(dim=4))
        _add_what_comes(adjoint, walk.decay_steps, coming)
        at.write(walk.b, torch.mul(adjoint, p.x, out=work).sum(dim=4))
        dx = torch.mul(adjoint, p.b, out=work).sum(dim=3, keepdim=True)
        at.add(du_rows, dx * p.step)
        through_decay = adjoint.mul_(decays)
        coming.copy_(through_decay[0])
        through_decay[0] *= before
        through_decay[1:] *= states[:-1]
        da += torch.mul(through_decay, p.step, out=work).sum(dim=0)
        dstep = through_decay.mul_(walk.a).sum(dim=3, keepdim=True).addcmul_(dx, p.u)
        at.write(walk.delta, dstep.mul_(p.raw.sigmoid_()) if walk.softplus else dstep)
    return da.sum(dim=0).mT


def _add_what_comes(adjoint: Tensor, decays: tuple[Tensor, ...], coming: Tensor) -> None:
    """To each step's gradient of its state, from the end, what the steps behind it give."""
    steps = adjoint.unbind()
    later = steps[-1].add_(coming)
    for k in reversed(range(len(steps) - 1)):
        later = steps[k].addcmul_(later, decays[k + 1])


class _Piece(NamedTuple):
    """Some steps of all directions: their rows in a map, and in what has a map of each direction."""

    pixels: Tensor
    own: Tensor

    def add(self, rows: Tensor, values: Tensor) -> None:
        rows.index_add_(0, self.pixels, values.view(-1, rows.shape[1]))

    def write(self, rows: Tensor, values: Tensor) -> None:
        rows.index_copy_(0, self.own, values.view(-1, rows.shape[1]))


class _Inputs(NamedTuple):
    """What a piece's states are made of."""

    u: Tensor
    raw: Tensor
    step: Tensor
    x: Tensor
    b: Tensor


class _Walk:
    """Some items of the batch, along all directions."""

    def __init__(self, given: _Given, length: int, softplus: bool) -> None:
        dtype, ndim = given.a.dtype, given.u.ndim - 2
        self.softplus, self.bias = softplus, given.bias.unsqueeze(1)
        self.u, self.delta, self.b, self.c = (_rows(m, ndim, dtype) for m in (given.u, given.delta, given.b, given.c))
        self.a = given.a.mT.contiguous()
        self.rate = self.a * math.log2(math.e)  # exp(delta A) is 2^(delta rate): exp2 takes half the time of exp.
        self.pieces = _pieces(given, length)
        self._shape = (-1, len(given.u), len(given.a))
        self._states, self._decays = self.room(), self.room()
        self.state_steps, self.decay_steps = self._states.unbind(), self._decays.unbind()

    def room(self) -> Tensor:
        """For the states of a piece."""
        longest = len(self.pieces[0].own) // math.prod(self._shape[1:])
        return self.a.new_empty(longest, *self._shape[1:], *self.a.shape[1:])

    def sequence(self, rows: Tensor, at: Tensor) -> Tensor:
        return rows.index_select(0, at).view(*self._shape, 1, rows.shape[1])

    def matrix(self, rows: Tensor, at: _Piece) -> Tensor:
        return rows.index_select(0, at.own).view(*self._shape, rows.shape[1], 1)

    def inputs(self, at: _Piece) -> _Inputs:
        u, raw = self.sequence(self.u, at.pixels), self.sequence(self.delta, at.own).add_(self.bias)
        step = F.softplus(raw) if self.softplus else raw
        return _Inputs(u, raw, step, u * step, self.matrix(self.b, at))

    def states(self, given: _Inputs, before: Tensor) -> tuple[Tensor, Tensor]:
        """The states after each step, from that before them, and the decays; they hold until the next call."""
        states, decays = (room[: len(given.x)] for room in (self._states, self._decays))
        torch.mul(given.step, self.rate, out=decays).exp2_()
        torch.mul(given.x, given.b, out=states)
        for state, decay in zip(self.state_steps[: len(states)], self.decay_steps, strict=False):
            before = state.addcmul_(decay, before)
        return states, decays


def _pieces(given: _Given, length: int) -> list[_Piece]:
    batch, count = len(given.u), len(given.a)
    at = places(given.u.shape[2:], given.u.device).T.unsqueeze(1)
    pixels = at * batch + torch.arange(batch, device=at.device).unsqueeze(1)
    own = pixels * count + torch.arange(count, device=at.device)
    parts = (rows.split(length) for rows in (pixels, own))
    return [_Piece(*(rows.flatten() for rows in part)) for part in zip(*parts, strict=True)]


def _rows(m: Tensor, ndim: int, dtype: torch.dtype) -> Tensor:
    """``(..., channels, *space)`` as ``(L * ..., channels)``."""
    channels, length = m.shape[-ndim - 1], math.prod(m.shape[-ndim:])
    return m.to(dtype).reshape(-1, length).t().clone(memory_format=torch.contiguous_format).view(-1, channels)


def _write_map(target: Tensor, rows: Tensor, ndim: int) -> None:
    """The inverse of `_rows`, into a contiguous map."""
    length = math.prod(target.shape[-ndim:])
    target.view(-1, length).copy_(rows.view(length, -1).t())


def _items_at_once(u: Tensor, a: Tensor) -> int:
    return torch.sym_min(u.shape[0], max(1, STATES // a.numel()))


def _piece_length(u: Tensor, a: Tensor) -> int:
    of_step = a.numel() * _items_at_once(u, a)
    least, most = (size // of_step for size in BLOCKS)
    fitting = torch.sym_min(most, torch.sym_max(least, math.prod(u.shape[2:]) // PIECES))
    return torch.sym_max(1, fitting)


def _first_states(u: Tensor, a: Tensor) -> Tensor:
    """Room for the states before each piece."""
    count, channels, states = a.shape
    pieces = -(-math.prod(u.shape[2:]) // _piece_length(u, a))
    return a.new_empty(pieces, u.shape[0], count, states, channels)


_INPUTS = "Tensor u, Tensor delta, Tensor a, Tensor b, Tensor c, Tensor skip, Tensor bias, bool softplus"
_scan = torch.library.custom_op(
    "noisylabelseg::cross_scan_lockstep", _forward, mutates_args=(), schema=f"({_INPUTS}) -> (Tensor, Tensor)"
)
_gradient = torch.library.custom_op(
    "noisylabelseg::cross_scan_lockstep_backward",
    _backward,
    mutates_args=(),
    schema=f"({_INPUTS}, Tensor first, Tensor gy) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.softplus = inputs
    ctx.save_for_backward(*tensors, output[1])


def _gradients(ctx: Any, gy: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    *tensors, first = ctx.saved_tensors
    return (*_gradient(*tensors, ctx.softplus, first, gy), None)


def _shape_of(m: Tensor) -> Tensor:
    return torch.empty_like(m, memory_format=torch.contiguous_format)


_scan.register_fake(lambda u, delta, a, *_: (_shape_of(u), _first_states(u, a)))
_gradient.register_fake(lambda *inputs: tuple(map(_shape_of, inputs[:7])))
_scan.register_autograd(_gradients, setup_context=_keep)


def scan_lockstep(
    u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, skip: Tensor, bias: Tensor, softplus: bool
) -> Tensor:
    """The sum over the directions of their selective scans, on the map's grid, and of ``skip`` u.

    Args:
        u: ``(batch, C, *space)``.
        delta: ``(batch, K, C, *space)``.
        a: ``(K, C, N)``, float32 or float64: in this type everything is computed; so are skip and bias.
        b, c: ``(batch, K, N, *space)``.
        skip: ``(C,)``.
        bias: ``(K, C)``, added to delta.
        softplus: the step sizes are softplus(delta + bias).
    """
    y: Tensor = _scan(u, delta, a, b, c, skip, bias, softplus)[0]
    return y
