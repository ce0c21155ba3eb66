"""The selective scan in plain PyTorch against what runs without a compiler: mamba-ssm's reference loop, mambapy."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.ops.selective_scan import Backend, selective_scan
from NoisyLabelSegLib.ops.selective_scan_reference import selective_scan_reference
from training.benchmarks.neighbourhood import resident

CHANNELS, STATES, THREADS = 64, 16, 2
LENGTHS = (4096, 16384)
ERRORS_LENGTH = 1024
LARGEST_STEPS = (0.1, 10.0)

Scan = Callable[..., Tensor]


def reference_loop(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """What mamba-ssm's `selective_scan_ref` does: all decays and inputs of all states, then a loop over the steps."""
    decays = torch.exp(torch.einsum("bdl,dn->bdln", delta, a))
    pushed = torch.einsum("bdl,bnl,bdl->bdln", delta, b, u)
    state, outputs = torch.zeros_like(decays[:, :, 0]), []
    for t in range(u.shape[2]):
        state = decays[:, :, t] * state + pushed[:, :, t]
        outputs.append(torch.einsum("bdn,bn->bd", state, c[:, :, t]))
    return torch.stack(outputs, dim=2)


def parallel_scan(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Mamba as mambapy computes it: its parallel scan over the steps of all states."""
    from mambapy.pscan import pscan

    steps, inner = delta.mT.unsqueeze(-1), c.mT.unsqueeze(-1)
    pushed = steps * b.mT.unsqueeze(2) * u.mT.unsqueeze(-1)
    states: Tensor = pscan(torch.exp(steps * a), pushed)
    return (states @ inner).squeeze(-1).mT


def main() -> None:
    """Print times, peaks of extra memory, and errors to float64, each as a ratio or relative to the largest value."""
    torch.set_num_threads(THREADS)
    console = Console(width=140)
    console.print(f"float32, batch 1, {CHANNELS} channels, {STATES} states, {THREADS} threads")
    table = Table("peer", "pass", "steps", "ours ms", "peer ms", "times as fast", "ours MB", "peer MB", "of its memory")
    for row in _rows():
        table.add_row(*row)
    console.print(table)
    for largest in LARGEST_STEPS:
        value, gradient = errors(largest)
        console.print(f"steps up to {largest:g}: error of the values {value:.1e}, of the gradients {gradient:.1e}")
    if torch.cuda.is_available():
        _compare_kernels(console)


def _rows() -> Iterator[tuple[str, ...]]:
    short, long = LENGTHS
    for peer, name in ((reference_loop, "mamba-ssm's reference"), (parallel_scan, "mambapy")):
        try:
            yield _row(name, peer, short, backward=False)
            yield _row(name, peer, long, backward=False)
            yield _row(name, peer, short, backward=True)
        except ImportError:
            yield name, "not installed", *[""] * 7


def _row(name: str, peer: Scan, length: int, backward: bool) -> tuple[str, ...]:
    given = inputs(length)
    ours, theirs = (partial(run, scan, given, backward) for scan in (selective_scan, peer))
    slow = backward and peer is reference_loop
    ours_ms, theirs_ms = best_ms(ours, 20), best_ms(theirs, 3 if slow else 5)
    ours_mb, theirs_mb = (extra_megabytes(scan, length, backward) for scan in (selective_scan, peer))
    return (
        name,
        "forward + backward" if backward else "forward",
        str(length),
        f"{ours_ms:.1f}",
        f"{theirs_ms:.0f}",
        f"{theirs_ms / ours_ms:.1f}",
        f"{ours_mb:.1f}",
        f"{theirs_mb:.1f}",
        f"1/{theirs_mb / ours_mb:.1f}",
    )


def inputs(length: int, largest_step: float = LARGEST_STEPS[0], device: str = "cpu") -> list[Tensor]:
    """u, delta, A (mamba-ssm's initial values), B and C."""
    generator = torch.Generator().manual_seed(0)
    u, delta = (
        torch.randn(1, CHANNELS, length, generator=generator),
        torch.rand(1, CHANNELS, length, generator=generator),
    )
    b, c = torch.randn(2, 1, STATES, length, generator=generator)
    a = -torch.arange(1.0, STATES + 1).repeat(CHANNELS, 1)
    return [tensor.to(device) for tensor in (u, delta * largest_step, a, b, c)]


def run(scan: Scan, given: list[Tensor], backward: bool) -> list[Tensor]:
    """The output, and with `backward` the gradients for a fixed gradient of it."""
    if not backward:
        with torch.no_grad():
            return [scan(*given)]
    own = [tensor.detach().requires_grad_() for tensor in given]
    y = scan(*own)
    return [y.detach(), *torch.autograd.grad(y, own, torch.cos(own[0].detach()))]


def best_ms(call: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


def extra_megabytes(scan: Scan, length: int, backward: bool) -> float:
    """Peak of the resident memory beyond what was there before the call, in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        return executor.submit(_extra_megabytes, scan, length, backward).result()


def _extra_megabytes(scan: Scan, length: int, backward: bool) -> float:
    torch.set_num_threads(THREADS)
    given = inputs(length)
    run(scan, inputs(STATES), backward)  # what is loaded at the first call is not the operator's
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    run(scan, given, backward)
    return resident("VmHWM") - before


def errors(largest_step: float) -> tuple[float, float]:
    """Largest differences to float64 over the largest magnitude: of the values, and of the worst of the gradients."""
    given = inputs(ERRORS_LENGTH, largest_step)
    found = run(selective_scan, given, backward=True)
    exact = run(selective_scan_reference, [tensor.double() for tensor in given], backward=True)
    value, *gradients = [float((f - e).abs().max() / e.abs().max()) for f, e in zip(found, exact, strict=True)]
    return value, max(gradients)


def _compare_kernels(console: Console) -> None:
    given = inputs(LENGTHS[1], device="cuda")

    def milliseconds(backend: Backend, backward: bool) -> float:
        def call() -> None:
            run(partial(selective_scan, backend=backend), given, backward)
            torch.cuda.synchronize()

        call()
        return best_ms(call, 20)

    for backward in (False, True):
        try:
            ours, theirs = milliseconds("triton", backward), milliseconds("mamba-ssm", backward)
        except InputError as error:
            console.print(str(error))
            return
        name = "forward + backward" if backward else "forward"
        console.print(f"Triton against mamba-ssm's kernel, {name}: {ours:.2f} and {theirs:.2f} ms, {ours / theirs:.2f}")


if __name__ == "__main__":
    main()
