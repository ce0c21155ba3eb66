"""The selective scan against its definition in float64: values and all gradients, for every backend that runs."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.ops import scan_backends, selective_scan_blocked
from NoisyLabelSegLib.ops.selective_scan import Backend, selective_scan, use_backend
from NoisyLabelSegLib.ops.selective_scan_reference import selective_scan_reference

Inputs = dict[str, Any]
SHAPES = {  # batch, D, N, L, groups
    "a single step": (1, 4, 3, 1, None),
    "fewer steps than a chunk": (2, 3, 1, 7, None),
    "exactly a chunk": (1, 2, 16, 64, None),
    "one step more than two chunks": (2, 4, 5, 129, 2),
    "many states": (1, 2, 64, 70, 1),
    "each channel its own group": (1, 3, 2, 100, 3),
}
OPTIONS = {"plain": (), "skip": ("D",), "all": ("D", "z", "delta_bias")}


def inputs(
    batch: int, channels: int, states: int, length: int, groups: int | None = None, largest_step: float = 0.3
) -> Inputs:
    generator = torch.Generator().manual_seed(5)
    sequence, matrix = (batch, channels, length), (batch, *([groups] if groups else []), states, length)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return {
        "u": normal(*sequence),
        "delta": torch.rand(sequence, generator=generator, dtype=torch.float64) * largest_step,
        "A": -normal(channels, states).abs() * 4 - 0.1,
        "B": normal(*matrix),
        "C": normal(*matrix),
        "D": normal(channels),
        "z": normal(*sequence),
        "delta_bias": normal(channels).abs(),
    }


def chosen(given: Inputs, options: str) -> Inputs:
    return {name: given[name] for name in ("u", "delta", "A", "B", "C", *OPTIONS[options])}


def with_gradients(scan: Callable[..., Tensor], given: Inputs, dtype: torch.dtype, softplus: bool) -> list[Tensor]:
    """The output and the gradient of each input, for a fixed gradient of the output."""
    own = {name: tensor.to(dtype).requires_grad_() for name, tensor in given.items()}
    y = scan(**own, delta_softplus=softplus)
    return [y.detach(), *torch.autograd.grad(y, list(own.values()), output_weight(y))]


def output_weight(y: Tensor) -> Tensor:
    return torch.linspace(-1, 2, y.numel(), dtype=torch.float64).sin().reshape(y.shape).to(y.dtype)


def relative_errors(scan: Callable[..., Tensor], given: Inputs, dtype: torch.dtype, softplus: bool) -> list[float]:
    """Largest difference to the reference over its largest magnitude: of the output, then of each gradient."""
    expected = with_gradients(selective_scan_reference, given, torch.float64, softplus)
    found = with_gradients(scan, given, dtype, softplus)
    return [float((f - e).abs().max() / e.abs().max().clamp_min(1e-30)) for f, e in zip(found, expected, strict=True)]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_blocked_scan_agrees_with_the_definition(shape: str, options: str) -> None:
    given = chosen(inputs(*SHAPES[shape]), options)
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-13)):
        value, *gradients = relative_errors(selective_scan, given, dtype, options == "all")
        assert value < tolerance and max(gradients) < 10 * tolerance


def test_blocks_of_channels_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    given = chosen(inputs(2, 6, 4, 100, 2), "plain")
    whole = with_gradients(selective_scan, given, torch.float64, False)
    monkeypatch.setattr(selective_scan_blocked, "BLOCK", 1)
    for one, other in zip(whole, with_gradients(selective_scan, given, torch.float64, False), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("largest_step", [1.0, 10.0, 1000.0])
def test_large_steps_give_no_nan(largest_step: float) -> None:
    given = chosen(inputs(1, 3, 16, 300, largest_step=largest_step), "plain")
    value, *gradients = relative_errors(selective_scan, given, torch.float32, False)
    assert value < 1e-6 and max(gradients) < 1e-5


def test_the_gradient_is_that_of_finite_differences() -> None:
    given = [tensor.requires_grad_() for tensor in inputs(1, 2, 1, 34).values()]
    assert torch.autograd.gradcheck(partial(selective_scan, delta_softplus=True), given)


@pytest.mark.parametrize("name", ["u", "delta", "A", "B", "C"])
def test_one_input_alone_may_need_a_gradient(name: str) -> None:
    given = chosen(inputs(1, 2, 3, 40), "plain")
    all_of_them = dict(zip(given, with_gradients(selective_scan, given, torch.float64, False)[1:], strict=True))
    own = given[name].clone().requires_grad_()
    y = selective_scan(**{**given, name: own})
    torch.testing.assert_close(torch.autograd.grad(y, own, output_weight(y))[0], all_of_them[name])


def test_it_can_be_differentiated_once_only() -> None:
    given = chosen(inputs(1, 2, 2, 10), "plain")
    u = given["u"].requires_grad_()
    (gradient,) = torch.autograd.grad(selective_scan(**given).square().sum(), u, create_graph=True)
    with pytest.raises(RuntimeError, match="autograd"):
        torch.autograd.grad(gradient.sum(), u)


def test_inputs_are_left_as_they_are() -> None:
    given = chosen(inputs(1, 2, 2, 1), "all")
    before = {name: tensor.clone() for name, tensor in given.items()}
    with_gradients(selective_scan, given, torch.float64, True)
    assert all(torch.equal(given[name], before[name]) for name in given)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_it_runs_without_gradients(mode: Callable[[], torch.inference_mode | torch.no_grad]) -> None:
    given = chosen(inputs(1, 2, 3, 50), "all")
    with mode():
        y = selective_scan(**given)
    torch.testing.assert_close(y, selective_scan_reference(**given))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single(dtype: torch.dtype) -> None:
    given = {name: tensor.to(dtype) for name, tensor in chosen(inputs(1, 3, 4, 200), "all").items()}
    exact = selective_scan_reference(**{name: tensor.double() for name, tensor in given.items()})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = selective_scan(**given)
    assert y.dtype == dtype and torch.equal(y, selective_scan(**given))
    torch.testing.assert_close(y.double(), exact, rtol=torch.finfo(dtype).eps, atol=1e-5)


class Scan(nn.Module):
    def forward(self, u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        return selective_scan(u, delta, a, b, c)


@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_scan_takes_any_length(strict: bool) -> None:
    given = chosen(inputs(1, 2, 3, 50), "plain")
    length = torch.export.Dim("length", min=2, max=10000)
    last = {2: length}
    program = torch.export.export(
        Scan(), tuple(given.values()), dynamic_shapes=(last, last, None, last, last), strict=strict
    )
    for steps in (50, 7, 333):
        other = chosen(inputs(1, 2, 3, steps), "plain")
        torch.testing.assert_close(program.module()(*other.values()), selective_scan_reference(**other))


def test_a_change_of_backend_ends_with_its_block() -> None:
    u = torch.zeros(1, 1, 1)
    assert scan_backends.choose("auto", u) == "blocked"
    with use_backend("mamba-ssm"):
        with pytest.raises(InputError, match="'mamba-ssm': it needs tensors on a CUDA device"):
            scan_backends.choose("auto", u)
        assert scan_backends.choose("blocked", u) == "blocked"
    assert scan_backends.choose("auto", u) == "blocked"


@pytest.mark.parametrize("name", ["triton", "mamba-ssm"])
def test_a_backend_that_cannot_run_says_why(name: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(InputError, match=f"'{name}': it needs tensors on a CUDA device, and these are on cpu"):
        selective_scan(**chosen(inputs(1, 1, 1, 4), "plain"), backend=name)


@pytest.mark.parametrize("call", [use_backend, lambda name: scan_backends.choose(name, torch.zeros(1))])
def test_a_backend_that_does_not_exist_is_named(call: Callable[[str], object]) -> None:
    with pytest.raises(InputError, match="no backend 'cuda'"):
        call("cuda")


@pytest.mark.parametrize(
    ("name", "shape", "sentence"),
    [
        ("u", (4, 9), "u must be"),
        ("u", (2, 4, 0), "u must be .* not empty"),
        ("delta", (2, 4, 8), "delta must be"),
        ("A", (3, 5), "A must be"),
        ("B", (2, 6, 9), "B must be"),
        ("B", (2, 3, 5, 9), "B must be .* D a multiple of G"),
        ("C", (2, 2, 5, 9), "B and C must have the same groups"),
        ("C", (5, 9), "C must be"),
        ("D", (1,), "D must be"),
        ("z", (2, 4), "z must be"),
        ("delta_bias", (4, 1), "delta_bias must be"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(name: str, shape: tuple[int, ...], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        selective_scan(**{**inputs(2, 4, 5, 9), name: torch.zeros(shape)})


@pytest.fixture(scope="module")
def interpreter() -> Iterator[ProcessPoolExecutor]:
    """A process where Triton interprets its kernels on the CPU, which it decides when it is imported."""
    pytest.importorskip("triton")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            yield process


def triton_errors(given: Inputs, dtype: torch.dtype) -> list[float]:
    """With chunks of 4 steps: the interpreter takes milliseconds for each."""
    from NoisyLabelSegLib.ops import selective_scan_triton

    selective_scan_triton.CHUNK = 4
    with use_backend("triton"):
        return relative_errors(selective_scan, given, dtype, False)


@pytest.mark.parametrize("shape", [(1, 2, 3, 1), (2, 2, 1, 4), (2, 4, 2, 9, 2), (1, 1, 8, 6, 1)])
def test_the_triton_scan_agrees_with_the_definition(shape: tuple[int, ...], interpreter: ProcessPoolExecutor) -> None:
    errors = interpreter.submit(triton_errors, chosen(inputs(*shape), "plain"), torch.float64).result()
    assert max(errors) < 1e-12


def test_the_triton_scan_stands_large_steps(interpreter: ProcessPoolExecutor) -> None:
    given = chosen(inputs(1, 2, 2, 10, largest_step=10.0), "plain")
    value, *gradients = interpreter.submit(triton_errors, given, torch.float32).result()
    assert value < 1e-6 and max(gradients) < 1e-5
