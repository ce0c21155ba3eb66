"""What a training step costs by each paradigm, against the plain one: time and memory, of PH2's small U-Net."""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from training.benchmarks.neighbourhood import resident
from training.data.cases import Case, DataSet
from training.experiment import read_experiment

EXPERIMENT = Path(__file__).parents[1] / "configs" / "ph2_unet.yaml"
CHOICES = {
    "plain": "plain",
    "small_loss": "small_loss",
    "co_teaching": "co_teaching",
    "meta_weight_net": "meta_weight_net",
    "dale, no search, without L_W": "{name: dale, alpha: 0, confidence: {by: none}}",
    "dale, without L_W": "{name: dale, alpha: 0}",
    "dale": "dale",
    "dale, gradients": "{name: dale, confidence: {by: gradients}}",
    "dale, virtual_step": "{name: dale, confidence: {by: virtual_step}}",
}
REPEATS = 3


class Steps:
    """Steps of the experiment by one paradigm, on synthetic pictures."""

    def __init__(self, paradigm: str) -> None:
        experiment = read_experiment(EXPERIMENT, small=True, overrides=[f"paradigm={paradigm}"])
        colours = (Path("green"), Path("blue"))
        dataset = DataSet("synthetic", {1: "lesion"}, (Case("one", Path("red"), channels=colours),))
        self.recipe = experiment.make(experiment.parts_of(dataset, 0))
        self.batch = pictures(experiment.engine.batch_size, experiment.preprocessing.window)
        self.fabric = Fabric(accelerator="cpu")

    def __call__(self) -> float:
        """One step; seconds of the CPU, as others may be at work on it."""
        start = time.process_time()
        self.recipe.step(self.batch, 0, self.fabric)
        return time.process_time() - start


def pictures(count: int, size: Any) -> dict[str, Tensor]:
    """A noisy bright ellipse in each, and its label map."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = torch.meshgrid(*(torch.linspace(-1, 1, side) for side in size), indexing="ij")
    centres = 0.4 * torch.rand(count, 2, 1, 1, generator=generator) - 0.2
    label = ((rows - centres[:, 0]) ** 2 + (columns - centres[:, 1]) ** 2 < 0.3).long()
    image = label[:, None] + 0.3 * torch.randn(count, 3, *size, generator=generator)
    return {"image": image, "expert": label, "verified": torch.zeros(count, dtype=torch.bool)}


def main() -> None:
    """Print CPU time of a step, the best of some in turns, peak memory beyond what is there before, and the ratios."""
    ways = {name: Steps(paradigm) for name, paradigm in CHOICES.items()}
    for steps in ways.values():
        steps()  # the first one costs more
    best = {name: min(times) for name, times in _in_turns(ways).items()}
    peaks = {name: _in_own_process(paradigm) for name, paradigm in CHOICES.items()}
    batch = tuple(next(iter(ways.values())).batch["image"].shape)
    print(f"a step of the U-Net of ph2_unet.yaml, small, batch {batch}, {torch.get_num_threads()} threads, float32")
    for name in CHOICES:
        seconds, megabytes = best[name], peaks[name]
        ratios = f"{seconds / best['plain']:.2f} times the time, {megabytes / peaks['plain']:.2f} times the memory"
        print(f"{name}: {1000 * seconds:.0f} ms, {megabytes:.0f} MB; {ratios}")


def _in_turns(ways: dict[str, Steps]) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(REPEATS):
        for name, steps in ways.items():
            times[name].append(steps())
    return times


def _in_own_process(paradigm: str) -> float:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        return executor.submit(_megabytes, paradigm, torch.get_num_threads()).result()


def _megabytes(paradigm: str, threads: int) -> float:
    """Peak memory of the second step beyond what was there before the first, what optimisers keep included."""
    torch.set_num_threads(threads)
    steps = Steps(paradigm)
    before = resident("VmRSS")
    steps()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    steps()
    return resident("VmHWM") - before


if __name__ == "__main__":
    main()
