"""Surface distances of small lesions in a large volume: this project's time and values against MONAI's."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance
from rich.console import Console
from rich.table import Table

from NoisyLabelSegLib.metrics import assd, hd95

SHAPE = (64, 256, 256)
SPACING = (2.5, 0.7, 0.7)
RADII_MM = (3.0, 6.0, 12.0)
LESIONS_A_RADIUS = 3
REPEATS = 3

BoolArray = npt.NDArray[np.bool_]
Measure = Callable[[BoolArray, BoolArray], float]


def monai_hd95(prediction: BoolArray, reference: BoolArray) -> float:
    y_pred, y = (torch.from_numpy(mask)[None, None] for mask in (prediction, reference))
    return float(compute_hausdorff_distance(y_pred, y, include_background=True, percentile=95, spacing=SPACING))


def monai_assd(prediction: BoolArray, reference: BoolArray) -> float:
    y_pred, y = (torch.from_numpy(mask)[None, None] for mask in (prediction, reference))
    return float(compute_average_surface_distance(y_pred, y, include_background=True, symmetric=True, spacing=SPACING))


MEASURES: dict[str, tuple[Measure, Measure]] = {
    "HD95": (lambda prediction, reference: hd95(prediction, reference, SPACING), monai_hd95),
    "ASSD": (lambda prediction, reference: assd(prediction, reference, SPACING), monai_assd),
}


def lesion_pair(radius: float, generator: np.random.Generator) -> tuple[BoolArray, BoolArray]:
    """Return two ellipsoids of about ``radius`` mm, shifted a little against each other, anywhere in the volume."""
    size = np.asarray(SHAPE) * SPACING
    centre = generator.uniform(0, size)
    axes = np.ogrid[tuple(slice(0, count) for count in SHAPE)]
    masks = []
    for _ in range(2):
        middle = centre + generator.normal(0, radius / 4, 3)
        radii = radius * generator.uniform(0.8, 1.2, 3) + np.asarray(SPACING)
        terms = [((axis * step - m) / r) ** 2 for axis, step, m, r in zip(axes, SPACING, middle, radii, strict=True)]
        masks.append(terms[0] + terms[1] + terms[2] <= 1)
    return masks[0], masks[1]


def timed(measure: Measure, pair: tuple[BoolArray, BoolArray]) -> tuple[float, float]:
    """Return the value and the shortest time in ms."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        value = measure(*pair)
        times.append(1000 * (time.perf_counter() - start))
    return value, min(times)


def compare(name: str, pairs: list[tuple[BoolArray, BoolArray]]) -> tuple[float, float, float]:
    """Return our mean time and MONAI's, in ms, and the largest difference of their values, in mm."""
    ours, theirs = (np.array([timed(measure, pair) for pair in pairs]) for measure in MEASURES[name])
    return ours[:, 1].mean(), theirs[:, 1].mean(), np.abs(ours[:, 0] - theirs[:, 0]).max()


def main() -> None:
    generator = np.random.default_rng(0)
    table = Table("case", "ours ms", "MONAI ms", "ratio", "max abs difference mm")
    with warnings.catch_warnings():
        # MONAI warns of its own deprecated argument at each call.
        warnings.simplefilter("ignore", FutureWarning)
        for radius in RADII_MM:
            pairs = [lesion_pair(radius, generator) for _ in range(LESIONS_A_RADIUS)]
            for name in MEASURES:
                ours, theirs, difference = compare(name, pairs)
                case = f"{name}, radius {radius:g} mm"
                table.add_row(case, f"{ours:.2f}", f"{theirs:.1f}", f"{theirs / ours:.0f}", f"{difference:.1e}")
    console = Console()
    console.print(f"Lesion pairs in {SHAPE} voxels of {SPACING} mm, {LESIONS_A_RADIUS} a case, best of {REPEATS} runs")
    console.print(table)
