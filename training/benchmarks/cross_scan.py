"""Scans along all directions of a map against one selective scan after the other: copied out, scanned, put back."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from NoisyLabelSegLib.ops.cross_scan import ScanInputs, cross_selective_scan, directions
from NoisyLabelSegLib.ops.cross_scan_reference import gather, merge
from NoisyLabelSegLib.ops.selective_scan import selective_scan
from training.benchmarks.neighbourhood import resident

THREADS = (1, 2)
REPEATS = 7

Scan = Callable[[ScanInputs], Tensor]


class Case(NamedTuple):
    """Sizes of a map and of what is scanned."""

    batch: int
    channels: int
    space: tuple[int, ...]
    states: int

    def __str__(self) -> str:
        return f"{self.batch} × {self.channels} × {' × '.join(map(str, self.space))}, N = {self.states}"


SQUARES = [Case(4, channels, (side, side), n) for side in (32, 64) for channels in (48, 96) for n in (8, 16)]
CASES = [*SQUARES, Case(1, 48, (24, 24, 24), 8)]


def separate(given: ScanInputs) -> Tensor:
    """A sequence, its scan and its way back for each direction in turn, summed up."""
    total = torch.zeros_like(given.u)
    for k, direction in enumerate(directions(given.u.ndim - 2)):
        u, delta, b, c = (gather(m, direction) for m in (given.u, given.delta[:, k], given.B[:, k], given.C[:, k]))
        skip, bias = (None if m is None else m[k] for m in (given.D, given.delta_bias))
        y = selective_scan(u, delta, given.A[k], b, c, skip, None, bias, delta_softplus=True)
        total = total + merge(y, direction, given.u.shape[2:])
    return total


def together(given: ScanInputs) -> Tensor:
    return cross_selective_scan(*given, delta_softplus=True)


def main() -> None:
    """Print a line a case: ms and MB of the forward and backward pass, ours and theirs, ratios, and the difference."""
    table = Table("map", "threads", "ms", "separate ms", "times", "MB", "separate MB", "times", "differs by")
    for case in CASES:
        given = inputs(case)
        ours_mb, theirs_mb = (extra_megabytes(scan, case) for scan in (together, separate))
        difference = largest_difference(given)
        for threads in THREADS:
            torch.set_num_threads(threads)
            ours_ms, theirs_ms = best_ms(given)
            table.add_row(
                str(case),
                str(threads),
                f"{ours_ms:.0f}",
                f"{theirs_ms:.0f}",
                f"{theirs_ms / ours_ms:.2f}",
                f"{ours_mb:.0f}",
                f"{theirs_mb:.0f}",
                f"{theirs_mb / ours_mb:.2f}",
                f"{difference:.0e}",
            )
    console = Console(width=140)
    console.print(
        f"float32, forward + backward of all inputs, best of {REPEATS} in turn; MB are the peak beyond the inputs"
    )
    console.print(table)


def inputs(case: Case) -> ScanInputs:
    """Step sizes, A and D are about mamba-ssm's initial ones."""
    generator = torch.Generator().manual_seed(0)
    count = len(directions(len(case.space)))

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    return ScanInputs(
        u=normal(case.batch, case.channels, *case.space),
        delta=normal(case.batch, count, case.channels, *case.space),
        A=-torch.arange(1.0, case.states + 1).repeat(count, case.channels, 1),
        B=normal(case.batch, count, case.states, *case.space),
        C=normal(case.batch, count, case.states, *case.space),
        D=torch.ones(count, case.channels),
        delta_bias=normal(count, case.channels) / 3 - 4,
    )


def run(scan: Scan, given: ScanInputs) -> list[Tensor]:
    """The output, and the gradients for a fixed gradient of it."""
    own = [tensor.detach().requires_grad_() for tensor in given if tensor is not None]
    y = scan(ScanInputs(*own))
    return [y.detach(), *torch.autograd.grad(y, own, torch.cos(own[0].detach()))]


def best_ms(given: ScanInputs) -> list[float]:
    """Of both, taking turns, so that what else the machine does meets both."""
    times: dict[Scan, list[float]] = {together: [], separate: []}
    for _ in range(REPEATS):
        for scan, taken in times.items():
            start = time.perf_counter()
            run(scan, given)
            taken.append(1000 * (time.perf_counter() - start))
    return [min(taken) for taken in times.values()]


def largest_difference(given: ScanInputs) -> float:
    """Of the output and all gradients, over the largest magnitude of each."""
    pairs = zip(run(together, given), run(separate, given), strict=True)
    return max(float((one - other).abs().max() / other.abs().max()) for one, other in pairs)


def extra_megabytes(scan: Scan, case: Case) -> float:
    """Peak of the resident memory beyond what was there before the call, in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        return executor.submit(_extra_megabytes, scan, case).result()


def _extra_megabytes(scan: Scan, case: Case) -> float:
    torch.set_num_threads(max(THREADS))
    given = inputs(case)
    run(scan, inputs(Case(1, 2, (4,) * len(case.space), 2)))  # what is loaded at the first call is not the operator's
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    before = resident("VmRSS")
    run(scan, given)
    return resident("VmHWM") - before


if __name__ == "__main__":
    main()
