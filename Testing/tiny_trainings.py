"""Experiments small enough to train in no time, and scripts that train them in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor
from torch.utils.data import DataLoader

from training.trainings import Training

ROOT = Path(__file__).parents[1]
EXPERIMENT: dict[str, Any] = {
    "recipe": "supervised",
    "data": "tiny",
    "preprocessing": {"dimensions": 2, "window": [32, 32], "margin": 0, "intensity": {"rule": "z-score"}},
    "augmentation": {"jitter": 0, "affine": 0},
    "network": {"name": "unet", "arguments": {"features": [4, 4, 4, 4, 4, 4]}},
    "optimizer": {"name": "Adam", "learning_rate": 0.01},
    "engine": {"epochs": 2, "batch_size": 8, "accelerator": "cpu", "devices": 1, "threads": 1},
}
FROM_DRAWINGS: dict[str, Any] = {
    **EXPERIMENT,
    "recipe": "refineseg",
    "data": "coarse",
    "optimizer": {"name": "AdamW", "learning_rate": 0.03},
}
KEEP_RANKS = """\
import sys, torch
from training.engine import Engine
run = Engine.run
def kept(self):
    best = run(self)
    every = {n: learner.network.named_parameters() for n, learner in self.learners.items()}
    state = {f"{n}{name}": p.detach() for n, named in every.items() for name, p in named}
    torch.save({"best": best, "parameters": state}, self.folder / f"rank{self.fabric.global_rank}.pt")
    return best
Engine.run = kept
from training.__main__ import main
"""


def training(folder: Path, data: Path, /, *overrides: str, name: str = "one", **values: Any) -> Training:
    """The experiment ``folder/NAME.yaml``, with other values than `EXPERIMENT`'s, and its folder of runs."""
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump({**EXPERIMENT, **values}), encoding="utf-8")
    return Training(file, False, overrides, 0, data, folder / "runs")


def from_drawings(desk: Path, *overrides: str) -> Training:
    """RefineSeg's ``refineseg.yaml`` on the data set "coarse", see `conftest.drawn_desk`."""
    return training(desk, desk / "data", *overrides, name="refineseg", **FROM_DRAWINGS)


def recipe_of(one: Training) -> Any:
    experiment = one.experiment()
    return experiment.make(experiment.parts(one.data, one.seed, 0, one.runs))


def first_batch(recipe: Any, size: int = 8) -> dict[str, Tensor]:
    batch: dict[str, Tensor] = next(iter(DataLoader(recipe.training_data(), batch_size=size)))
    return batch


def run_script(
    folder: Path, text: str, arguments: Sequence[str], **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run Python text with arguments, as a file in a folder: processes that it starts run that file, too."""
    script = folder / "script.py"
    script.write_text(text, encoding="utf-8")
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(
        [sys.executable, str(script), *arguments], env=variables, capture_output=True, text=True, timeout=600
    )
