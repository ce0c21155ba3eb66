"""Neighbourhood operators against the common way, which copies all neighbours out (unfold): time, memory, agreement."""

from __future__ import annotations

import math
import re
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from NoisyLabelSegLib.ops import aggregation, neighbourhood
from NoisyLabelSegLib.ops import neighbourhood_reference as unfold

REPEATS = 2


@dataclass(frozen=True)
class Case:
    """A call to measure.

    Attributes:
        operator: name of the function.
        window: its size or sizes.
        shape: of the features or values.
        part: what the common way gets of it; its time, which is proportional to the voxels, is multiplied, and memory
            is compared on that part. At k = 7 it would take 39 GB for one item of 16 × 96³.
        gradient: whether the backward pass is included.
    """

    operator: str
    window: int | tuple[int, ...]
    shape: tuple[int, ...]
    part: tuple[int, ...]
    gradient: bool


COSINE, GAUSSIAN = "mean_masked_cosine", "gaussian_aggregate"
BATCH, ITEM, SLAB, CROP = (4, 16, 96, 96, 96), (1, 16, 96, 96, 96), (1, 16, 8, 96, 96), (2, 3, 40, 56, 40)
CASES = [Case(COSINE, k, BATCH, part, gradient) for k, part in ((3, ITEM), (7, SLAB)) for gradient in (False, True)]
CASES += [Case(GAUSSIAN, k, CROP, CROP, gradient) for k in ((3,), (3, 5), (3, 5, 7)) for gradient in (False, True)]


def main() -> None:
    """Print a line a case: seconds and MB of ours and of the common way, their ratios, and the largest difference."""
    heads = ("case", "pass", "s", "unfold s", "times", "of", "MB", "unfold MB", "times", "differs by")
    table = Table(*heads)
    for case in CASES:
        seconds, _ = _in_own_process(case, ours=True, shape=case.shape)
        _, megabytes = _in_own_process(case, ours=True, shape=case.part)
        unfold_seconds, unfold_megabytes = _in_own_process(case, ours=False, shape=case.part)
        unfold_seconds *= math.prod(case.shape) / math.prod(case.part)
        table.add_row(
            f"{case.operator} {case.window} of {_text(case.shape)}",
            "both" if case.gradient else "forward",
            f"{seconds:.3f}",
            f"{unfold_seconds:.2f}",
            f"{unfold_seconds / seconds:.1f}",
            _text(case.part),
            f"{megabytes:.0f}",
            f"{unfold_megabytes:.0f}",
            f"{unfold_megabytes / megabytes:.1f}",
            f"{_difference(case):.0e}",
        )
    console = Console(width=160)
    console.print(f"{torch.get_num_threads()} threads, float32, best of {REPEATS}; memory is the peak beyond the input")
    console.print(table)


def _in_own_process(case: Case, ours: bool, shape: tuple[int, ...]) -> tuple[float, float]:
    """Seconds and peak memory in MB."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        return executor.submit(_cost, case, ours, shape).result()


def _cost(case: Case, ours: bool, shape: tuple[int, ...]) -> tuple[float, float]:
    values, guide = _inputs(case, shape)
    # The peak so far, most of it from imports, is forgotten.
    Path("/proc/self/clear_refs").write_text("5")
    seconds, before = [], resident("VmRSS")
    for _ in range(REPEATS):
        start = time.perf_counter()
        _run(case, ours, values, guide)
        seconds.append(time.perf_counter() - start)
    return min(seconds), resident("VmHWM") - before


def _inputs(case: Case, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Features and a mask of half of the voxels, or values and an image."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(shape, generator=generator).requires_grad_(case.gradient)
    image = torch.randn(shape[0], 1, *shape[2:], generator=generator)
    return values, image[:, 0] > 0 if case.operator == COSINE else image


def _run(case: Case, ours: bool, values: Tensor, guide: Tensor) -> Tensor:
    library: Any = unfold if not ours else neighbourhood if case.operator == COSINE else aggregation
    result: Tensor = getattr(library, case.operator)(values, guide, case.window)
    return torch.autograd.grad(result.sum(), values)[0] if case.gradient else result


def _difference(case: Case) -> float:
    """The largest, on a few slices."""
    inputs = _inputs(case, (1, case.shape[1], 8, *case.shape[3:]))
    ours, theirs = (_run(case, side, *inputs) for side in (True, False))
    return float((ours - theirs).abs().max())


def resident(which: Literal["VmRSS", "VmHWM"]) -> float:
    """MB of this process, now or at its peak; Linux alone tells."""
    found = re.search(rf"{which}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else math.nan


def _text(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


if __name__ == "__main__":
    main()
