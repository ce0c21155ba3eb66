"""Scans along all directions of a map against their definition in float64: values and all gradients."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.ops import cross_scan, cross_scan_lockstep, scan_backends
from NoisyLabelSegLib.ops.cross_scan import ScanInputs, cross_modal_scan, cross_selective_scan, directions
from NoisyLabelSegLib.ops.cross_scan_reference import cross_modal_scan_reference, cross_selective_scan_reference
from NoisyLabelSegLib.ops.selective_scan import Backend, use_backend
from NoisyLabelSegLib.ops.selective_scan_reference import selective_scan_reference

SHAPES = {  # batch, C, N, space
    "a square": (2, 3, 4, (4, 4)),
    "odd sizes": (2, 4, 3, (5, 7)),
    "one pixel": (1, 2, 2, (1, 1)),
    "one row": (1, 3, 1, (1, 9)),
    "one column": (3, 1, 2, (6, 1)),
    "one channel and one state": (1, 1, 1, (3, 2)),
    "a volume": (2, 3, 2, (2, 3, 4)),
    "a volume of one slice": (1, 2, 3, (3, 5, 1)),
}


def inputs(
    batch: int, channels: int, states: int, space: tuple[int, ...], seed: int = 5, largest_step: float = 0.3
) -> ScanInputs:
    generator = torch.Generator().manual_seed(seed)
    count = 2 * len(space)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return ScanInputs(
        u=normal(batch, channels, *space),
        delta=torch.rand(batch, count, channels, *space, generator=generator, dtype=torch.float64) * largest_step,
        A=-normal(count, channels, states).abs() * 4 - 0.1,
        B=normal(batch, count, states, *space),
        C=normal(batch, count, states, *space),
        D=normal(count, channels),
        delta_bias=normal(count, channels).abs() / 10,
    )


def changed(given: ScanInputs, change: Callable[[Tensor], Tensor]) -> ScanInputs:
    return given._replace(**{name: change(m) for name, m in given._asdict().items() if m is not None})


def tensors(given: ScanInputs) -> list[Tensor]:
    return [tensor for tensor in given if tensor is not None]


def with_gradients(scan: Callable[..., Tensor], given: ScanInputs, softplus: bool = True) -> list[Tensor]:
    """The output and the gradient of each input, for a fixed gradient of the output."""
    own = changed(given, lambda tensor: tensor.detach().requires_grad_())
    y = scan(*own, delta_softplus=softplus)
    weight = torch.linspace(-1, 2, y.numel(), dtype=torch.float64).sin().reshape(y.shape).to(y.dtype)
    return [y.detach(), *torch.autograd.grad(y, tensors(own), weight)]


def relative_errors(
    scan: Callable[..., Tensor], given: ScanInputs, dtype: torch.dtype, softplus: bool = True
) -> list[float]:
    """Largest difference to the reference over its largest magnitude: of the output, then of each gradient."""
    expected = with_gradients(cross_selective_scan_reference, given, softplus)
    found = with_gradients(scan, changed(given, lambda tensor: tensor.to(dtype)), softplus)
    return [float((f - e).abs().max() / e.abs().max().clamp_min(1e-30)) for f, e in zip(found, expected, strict=True)]


def gathered_scan(*given: Any, delta_softplus: bool = False) -> Tensor:
    """What runs where sequences are copied out, with the selective scan that runs everywhere."""
    return cross_scan._scan_gathered(ScanInputs(*given), delta_softplus, "blocked")


def test_an_image_is_read_by_rows_and_columns_and_both_backward() -> None:
    image = torch.tensor([[0, 1, 2], [3, 4, 5]])
    order = cross_scan_lockstep.places(image.shape, image.device)
    assert order.tolist() == [[0, 1, 2, 3, 4, 5], [0, 3, 1, 4, 2, 5], [5, 4, 3, 2, 1, 0], [5, 2, 4, 1, 3, 0]]


def test_in_a_volume_each_axis_is_once_the_fastest_both_ways() -> None:
    assert [tuple(d) for d in directions(3)] == [(2, False), (1, False), (0, False), (2, True), (1, True), (0, True)]
    first_steps = [order[:3].tolist() for order in cross_scan_lockstep.places((3, 4, 5), torch.device("cpu"))]
    assert first_steps == [[0, 1, 2], [0, 5, 10], [0, 20, 40], [59, 58, 57], [59, 54, 49], [59, 39, 19]]


@pytest.mark.parametrize("softplus", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_scan_agrees_with_the_definition(shape: str, softplus: bool) -> None:
    given = inputs(*SHAPES[shape])
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-13)):
        value, *gradients = relative_errors(cross_selective_scan, given, dtype, softplus)
        assert value < tolerance and max(gradients) < 10 * tolerance


@pytest.mark.parametrize("scan", [cross_selective_scan, gathered_scan])
@pytest.mark.parametrize("shape", ["odd sizes", "a volume"])
def test_skip_and_bias_may_be_missing(shape: str, scan: Callable[..., Tensor]) -> None:
    given = inputs(*SHAPES[shape])._replace(D=None, delta_bias=None)
    assert max(relative_errors(scan, given, torch.float64, softplus=False)) < 1e-12


@pytest.mark.parametrize("shape", SHAPES)
def test_sequences_copied_out_give_the_same(shape: str) -> None:
    assert max(relative_errors(gathered_scan, inputs(*SHAPES[shape]), torch.float64)) < 1e-12


@pytest.mark.parametrize(("states", "block"), [(1, 1), (100, 700), (10**6, 1)])
def test_pieces_and_parts_of_the_batch_change_nothing(states: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_scan_lockstep, "STATES", states)
    monkeypatch.setattr(cross_scan_lockstep, "BLOCKS", (block, 2 * block))
    assert max(relative_errors(cross_selective_scan, inputs(5, 3, 2, (4, 5)), torch.float64)) < 1e-13


@pytest.mark.parametrize("largest_step", [10.0, 1000.0])
def test_large_steps_give_no_nan(largest_step: float) -> None:
    given = inputs(1, 3, 4, (6, 8), largest_step=largest_step)
    value, *gradients = relative_errors(cross_selective_scan, given, torch.float32)
    assert value < 1e-6 and max(gradients) < 1e-5


def test_tiny_steps_keep_their_digits() -> None:
    """Of softplus far below zero, too, the gradient is right to single precision."""
    given = inputs(1, 3, 4, (6, 8))
    value, *gradients = relative_errors(
        cross_selective_scan, given._replace(delta_bias=torch.full((4, 3), -9.0, dtype=torch.float64)), torch.float32
    )
    assert value < 1e-6 and max(gradients) < 1e-5


@pytest.mark.parametrize("space", [(2, 3), (2, 1, 2)])
def test_the_gradient_is_that_of_finite_differences(space: tuple[int, ...]) -> None:
    given = tensors(changed(inputs(1, 2, 1, space), Tensor.requires_grad_))
    assert torch.autograd.gradcheck(partial(cross_selective_scan, delta_softplus=True), given)


@pytest.mark.parametrize("name", ScanInputs._fields)
def test_one_input_alone_may_need_a_gradient(name: str) -> None:
    given = inputs(1, 2, 3, (3, 4))
    all_of_them = dict(zip(ScanInputs._fields, with_gradients(cross_selective_scan, given, False)[1:], strict=True))
    own = getattr(given, name).clone().requires_grad_()
    y = cross_selective_scan(*given._replace(**{name: own}))
    weight = torch.linspace(-1, 2, y.numel(), dtype=torch.float64).sin().reshape(y.shape)
    torch.testing.assert_close(torch.autograd.grad(y, own, weight)[0], all_of_them[name])


def test_it_can_be_differentiated_once_only() -> None:
    given = inputs(1, 2, 2, (3, 3))
    u = given.u.requires_grad_()
    (gradient,) = torch.autograd.grad(cross_selective_scan(*given).square().sum(), u, create_graph=True)
    with pytest.raises(RuntimeError, match="autograd"):
        torch.autograd.grad(gradient.sum(), u)


def last_in_memory(m: Tensor) -> Tensor:
    """The same values with the first axis after the batch the fastest in memory (channels-last), as a strided view."""
    room = m.new_zeros(2 * m.shape[0], *m.shape[2:], m.shape[1])
    view = room[::2].movedim(-1, 1)
    return view.copy_(m)


@pytest.mark.parametrize("shape", ["odd sizes", "a volume"])
def test_what_lies_otherwise_in_memory_gives_the_same(shape: str) -> None:
    given = inputs(*SHAPES[shape])
    maps = {name: last_in_memory(getattr(given, name)) for name in ("u", "delta", "B", "C")}
    turned = given._replace(A=given.A.mT.contiguous().mT, **maps)
    assert not any(tensor.is_contiguous() for tensor in maps.values())
    for one, other in zip(*(with_gradients(cross_selective_scan, g) for g in (given, turned)), strict=True):
        torch.testing.assert_close(one, other)


def test_an_image_in_channels_last_gives_the_same() -> None:
    given = inputs(*SHAPES["odd sizes"])
    turned = given._replace(u=given.u.to(memory_format=torch.channels_last))
    torch.testing.assert_close(cross_selective_scan(*turned), cross_selective_scan(*given))


def test_inputs_are_left_as_they_are() -> None:
    given = inputs(1, 2, 2, (1, 1))
    before = changed(given, Tensor.clone)
    with_gradients(cross_selective_scan, given)
    assert all(torch.equal(one, other) for one, other in zip(tensors(given), tensors(before), strict=True))


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_it_runs_without_gradients(mode: Callable[[], torch.inference_mode | torch.no_grad]) -> None:
    given = inputs(1, 2, 3, (4, 5))
    with mode():
        y = cross_selective_scan(*given)
    torch.testing.assert_close(y, cross_selective_scan_reference(*given))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single(dtype: torch.dtype) -> None:
    given = changed(inputs(2, 3, 4, (9, 11)), lambda tensor: tensor.to(dtype))
    exact = with_gradients(cross_selective_scan_reference, changed(given, Tensor.double))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = with_gradients(cross_selective_scan, given)
    for one, without_autocast in zip(found, with_gradients(cross_selective_scan, given), strict=True):
        assert one.dtype == dtype and torch.equal(one, without_autocast)
    for one, other in zip(found, exact, strict=True):
        error = (one.double() - other).abs().max() / other.abs().max()
        assert error < torch.finfo(dtype).eps


def test_projections_made_in_half_precision_fit_a_map_in_single() -> None:
    """As autocast gives them: u in float32 from a norm, the rest from convolutions."""
    given = changed(inputs(1, 3, 2, (4, 5)), Tensor.float)
    mixed = given._replace(delta=given.delta.bfloat16(), B=given.B.bfloat16(), C=given.C.bfloat16())
    y, *gradients = with_gradients(cross_selective_scan, mixed)
    assert y.dtype == torch.float32
    assert [gradient.dtype for gradient in gradients] == [tensor.dtype for tensor in tensors(mixed)]
    rounded = changed(mixed, Tensor.double)
    torch.testing.assert_close(
        y.double(), cross_selective_scan_reference(*rounded, delta_softplus=True), atol=1e-5, rtol=1e-5
    )


class Scan(nn.Module):
    def forward(self, u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, bias: Tensor) -> Tensor:
        return cross_selective_scan(u, delta, a, b, c, d, bias, delta_softplus=True)


@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_scan_takes_maps_of_any_size(strict: bool) -> None:
    given = inputs(2, 2, 3, (4, 5))
    batch, height, width = (torch.export.Dim(name, min=1, max=4096) for name in ("batch", "height", "width"))
    of_map, of_directions = {0: batch, 2: height, 3: width}, {0: batch, 3: height, 4: width}
    shapes = (of_map, of_directions, None, of_directions, of_directions, None, None)
    program = torch.export.export(Scan(), tuple(tensors(given)), dynamic_shapes=shapes, strict=strict)
    for size in ((2, (4, 5)), (1, (7, 3)), (9, (2, 30))):
        other = inputs(size[0], 2, 3, size[1])
        expected = cross_selective_scan_reference(*other, delta_softplus=True)
        torch.testing.assert_close(program.module()(*other), expected)


def modalities(space: tuple[int, ...] = (3, 4), channels: tuple[int, int] = (2, 2)) -> tuple[ScanInputs, ScanInputs]:
    strong, weak = (inputs(2, count, 3, space, seed) for seed, count in enumerate(channels))
    return strong, weak


@pytest.mark.parametrize("channels", [(2, 2), (3, 1)])
@pytest.mark.parametrize("space", [(3, 4), (2, 3, 2)])
def test_the_cross_modal_scan_agrees_with_the_definition(space: tuple[int, ...], channels: tuple[int, int]) -> None:
    def gradients(scan: Callable[..., tuple[Tensor, Tensor]]) -> list[Tensor]:
        own = [changed(given, lambda m: m.clone().requires_grad_()) for given in modalities(space, channels)]
        y_s, y_w = scan(*own, delta_softplus=True)
        return [y_s, y_w, *torch.autograd.grad(y_s.sin().sum() + y_w.cos().sum(), [*tensors(own[0]), *tensors(own[1])])]

    found, expected = gradients(cross_modal_scan), gradients(cross_modal_scan_reference)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", ["u", "delta", "A", "B", "C", "D", "delta_bias"])
def test_each_modality_is_read_by_the_other_ones_c_and_c_alone_is_swapped(name: str) -> None:
    strong, weak = modalities()
    before = cross_modal_scan(strong, weak)
    after = cross_modal_scan(strong._replace(**{name: 2 * getattr(strong, name)}), weak)
    changes = [not torch.equal(one, other) for one, other in zip(before, after, strict=True)]
    assert changes == ([False, True] if name == "C" else [True, False])


def test_modalities_that_do_not_differ_give_the_plain_scan_twice() -> None:
    given = modalities()[0]
    y = cross_selective_scan(*given)
    assert all(torch.equal(other, y) for other in cross_modal_scan(given, given))


def test_modalities_of_different_grids_are_refused() -> None:
    with pytest.raises(ValueError, match="C must be"):
        cross_modal_scan(inputs(1, 2, 3, (3, 4)), inputs(1, 2, 3, (4, 3)))


@pytest.mark.parametrize(
    ("name", "shape", "sentence"),
    [
        ("u", (2, 4, 6), "u must be BCHW or BCHWD"),
        ("u", (2, 3, 4, 0), "u must be .* not empty"),
        ("delta", (2, 3, 4, 5), "delta must be"),
        ("delta", (2, 4, 3, 5, 4), "delta must be"),
        ("A", (3, 2), "A must be"),
        ("A", (6, 3, 2), "A must be"),
        ("B", (2, 4, 3, 4, 5), "B must be"),
        ("C", (2, 1, 2, 4, 5), "C must be"),
        ("D", (3,), "D must be"),
        ("delta_bias", (1, 3), "delta_bias must be"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(name: str, shape: tuple[int, ...], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        cross_selective_scan(*inputs(2, 3, 2, (4, 5))._replace(**{name: torch.zeros(shape)}))


@pytest.mark.parametrize("name", ["triton", "mamba-ssm"])
def test_a_backend_that_cannot_run_says_why(name: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(InputError, match=f"'{name}': it needs tensors on a CUDA device, and these are on cpu"):
        cross_selective_scan(*inputs(1, 1, 1, (2, 2)), backend=name)


@pytest.fixture(scope="module")
def interpreter() -> Iterator[ProcessPoolExecutor]:
    """A process where Triton interprets its kernels on the CPU, which it decides when it is imported."""
    pytest.importorskip("triton")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            yield process


def triton_errors(given: ScanInputs) -> list[float]:
    """With chunks of 4 steps: the interpreter takes milliseconds for each."""
    from NoisyLabelSegLib.ops import selective_scan_triton

    selective_scan_triton.CHUNK = 4
    with use_backend("triton"):
        return relative_errors(cross_selective_scan, given, torch.float64)


@pytest.mark.parametrize("space", [(2, 3), (2, 1, 3)])
def test_tritons_scan_agrees_with_the_definition(space: tuple[int, ...], interpreter: ProcessPoolExecutor) -> None:
    assert max(interpreter.submit(triton_errors, inputs(2, 2, 3, space)).result()) < 1e-12


def test_mamba_ssms_scan_gets_the_directions_as_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its kernel needs a GPU: here the definition stands in for it, and is called as it is."""
    monkeypatch.setattr(scan_backends, "choose", lambda backend, u: "mamba-ssm")
    monkeypatch.setattr(
        scan_backends, "module", lambda name: SimpleNamespace(selective_scan_fn=selective_scan_reference)
    )
    given = inputs(2, 3, 2, (3, 4))
    y = cross_selective_scan(*changed(given, Tensor.float), delta_softplus=True)
    torch.testing.assert_close(
        y.double(), cross_selective_scan_reference(*given, delta_softplus=True), rtol=1e-5, atol=1e-5
    )
