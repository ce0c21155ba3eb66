"""One training loop for all recipes, on Lightning Fabric: devices, precision, processes, checkpoints, exact resume.

A recipe brings networks, optimisers and `step(batch)`; the engine knows no method. Everything random follows from the
seed, the epoch and the step, so a run that was killed and resumed on the same machine continues with the same losses.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.tensorboard import SummaryWriter

from NoisyLabelSegLib.errors import InputError
from training.data.windows import EpochSampler
from training.paradigms.plain import Learner
from training.texts import write_text


@dataclass(frozen=True)
class EngineSettings:
    """How a recipe is run.

    Attributes:
        epochs: passes over the training windows.
        batch_size: windows a step and process.
        schedule: learning rate over the run: "constant" (the paper's) or "cosine" down to zero.
        validate_every: epochs between validations; the best one's weights are kept.
        patience: validations without a better score before stopping; 0 never stops.
        checkpoint_every: steps between checkpoints within an epoch; 0 writes them at the ends of epochs only.
        accelerator, devices, nodes: Lightning Fabric's.
        strategy: Lightning Fabric's; FSDP is not supported yet: checkpoints hold the whole network.
        precision: Lightning Fabric's; "16-mixed" is not supported: a checkpoint would lack the gradient scaler's state.
        workers: loader processes.
        threads: CPU threads of each process; 0 leaves PyTorch's choice.
        channels_last: memory layout that is faster on most devices.
    """

    epochs: int = 100
    batch_size: int = 16
    schedule: Literal["constant", "cosine"] = "constant"
    validate_every: int = 1
    patience: int = 0
    checkpoint_every: int = 0
    accelerator: str = "auto"
    devices: int | str = "auto"
    nodes: int = 1
    strategy: Literal["auto", "ddp"] = "auto"
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    workers: int = 0
    threads: int = 0
    channels_last: bool = False

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1 or self.validate_every < 1:
            raise ValueError("epochs, batch_size and validate_every must be at least 1")


class Samples(Protocol):
    """What a recipe is trained on: a data set whose keys are (epoch, index), and whose samples hold their ``index``."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: tuple[int, int]) -> dict[str, torch.Tensor]: ...

    def names_of(self, indices: torch.Tensor) -> list[str]:
        """The cases that samples are of, each once."""


class Recipe(Learner, Protocol):
    """What the engine asks of a method."""

    def training_data(self) -> Samples:
        """The windows to train on."""

    def step(self, batch: Mapping[str, torch.Tensor], epoch: int, fabric: Fabric) -> dict[str, torch.Tensor]:
        """Train on one batch, optimiser steps included; returns detached scalars, "loss" among them."""

    def validate(self) -> dict[str, float]:
        """Figures on the validation part; "score" is to be as large as possible."""


@dataclass
class _State:
    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss: float = 0.0  # Sum over the epoch's steps so far.
    best: float = -float("inf")
    stale: int = 0


def finished(folder: Path, settings: EngineSettings) -> bool:
    """Whether the run in a folder has gone through all its epochs, or was stopped early."""
    path = folder / "last.ckpt"
    if not path.is_file():
        return False
    state = _State(**torch.load(path, map_location="cpu", weights_only=True)["state"])
    return state.epoch >= settings.epochs or _stale(state, settings)


def _stale(state: _State, settings: EngineSettings) -> bool:
    return bool(settings.patience) and state.stale >= settings.patience


def _content(learners: Mapping[str, Learner]) -> dict[str, Any]:
    """What a checkpoint has of them; the recipe's, who has no name, needs none before it."""
    content: dict[str, Any] = {}
    for name, learner in learners.items():
        prefix = f"{name}." if name else ""
        content |= {f"{prefix}network": learner.network, f"{prefix}optimizer": learner.optimizer}
    return content


def _lay_channels_last(network: nn.Module) -> None:
    """In memory; a network without convolutions stays as it is."""
    dimensions = max(parameter.ndim for parameter in network.parameters())
    if dimensions > 3:
        network.to(memory_format=torch.channels_last if dimensions == 4 else torch.channels_last_3d)  # type: ignore[call-overload]


class Engine:
    """Runs a recipe in a folder: ``last.ckpt``, ``best.ckpt``, ``log.jsonl`` and TensorBoard's files.

    Args:
        recipe, settings: what is run, and how.
        folder: for the files.
        seed: of everything random.
        companions: what learns beside the recipe by its steps, and is in ``last.ckpt`` alone; all follow the schedule.
    """

    def __init__(
        self,
        recipe: Recipe,
        settings: EngineSettings,
        folder: Path,
        seed: int,
        companions: Mapping[str, Learner] | None = None,
    ) -> None:
        self.recipe, self.settings, self.folder, self.seed = recipe, settings, folder, seed
        self.learners: dict[str, Learner] = {"": recipe, **(companions or {})}
        if settings.threads:
            torch.set_num_threads(settings.threads)
        self.fabric = Fabric(
            accelerator=settings.accelerator,
            devices=settings.devices,
            num_nodes=settings.nodes,
            strategy=settings.strategy,
            precision=settings.precision,
        )
        self.state = _State()

    def run(self) -> float:
        """Train, or go on where the folder's last checkpoint stands; returns the best validation score."""
        self.fabric.launch()
        for learner in self.learners.values():
            if self.settings.channels_last:
                _lay_channels_last(learner.network)
            learner.network, learner.optimizer = self.fabric.setup(learner.network, learner.optimizer)
        self.base_rates = [group["lr"] for group in self._groups()]
        self.folder.mkdir(parents=True, exist_ok=True)
        self._resume()
        data = self.recipe.training_data()
        if len(data) < self.settings.batch_size * self.fabric.world_size:
            raise InputError(
                f"The training part has {len(data)} windows, fewer than the {self.settings.batch_size} of a batch for "
                f"each of {self.fabric.world_size} processes: lower engine.batch_size."
            )
        writer = SummaryWriter(str(self.folder)) if self.fabric.is_global_zero else None
        with self._progress() as progress:
            task = progress.add_task("training", total=self.settings.epochs, completed=self.state.epoch, figures="")
            while self.state.epoch < self.settings.epochs and not _stale(self.state, self.settings):
                figures = self._epoch(data, writer)
                progress.update(task, advance=1, figures=" ".join(f"{k} {v:.4f}" for k, v in figures.items()))
        if writer:
            writer.close()
        return self.state.best

    def _epoch(self, data: Samples, writer: SummaryWriter | None) -> dict[str, float]:
        start = time.monotonic()
        for batch in self._loader(data):
            self.state.loss += self._step(batch, data, writer)
            self.state.batch += 1
            every = self.settings.checkpoint_every
            if every and self.state.step % every == 0:
                self._save("last.ckpt", self.learners)
        figures = {"loss": self.state.loss / self.state.batch, "seconds": time.monotonic() - start}
        self.state.epoch, self.state.batch, self.state.loss = self.state.epoch + 1, 0, 0.0
        if self.state.epoch % self.settings.validate_every == 0 or self.state.epoch == self.settings.epochs:
            figures |= self._validate()
        self._log({"epoch": self.state.epoch, "step": self.state.step, **figures})
        self._save("last.ckpt", self.learners)
        if writer:
            for name, value in figures.items():
                writer.add_scalar(f"epoch/{name}", value, self.state.epoch)
        return figures

    def _step(self, batch: Mapping[str, torch.Tensor], data: Samples, writer: SummaryWriter | None) -> float:
        torch.manual_seed(hash((self.seed, self.state.step, self.fabric.global_rank)))
        for group, rate in zip(self._groups(), self.base_rates, strict=True):
            group["lr"] = rate * self._rate_factor()
        for learner in self.learners.values():
            learner.network.train()
        scalars = self.recipe.step(batch, self.state.epoch, self.fabric)
        # Means over the processes: one process's NaN is everyone's, so that all stop together.
        means = self.fabric.all_reduce(torch.stack([value.float() for value in scalars.values()]), reduce_op="mean")
        figures = dict(zip(scalars, means.tolist(), strict=True))  # type: ignore[union-attr]
        self.state.step += 1
        if not np.isfinite(figures["loss"]):
            raise InputError(
                f"The loss is {figures['loss']} at step {self.state.step}, with the cases "
                f"{', '.join(data.names_of(batch['index']))}: look at them, lower optimizer.learning_rate or set "
                "engine.precision=32-true, and train in a new folder; what was kept before in this one is sound."
            )
        self._log({"step": self.state.step, **figures})
        if writer:
            for name, value in figures.items():
                writer.add_scalar(f"step/{name}", value, self.state.step)
        return figures["loss"]

    def _groups(self) -> list[dict[str, Any]]:
        return [group for learner in self.learners.values() for group in learner.optimizer.param_groups]

    def _rate_factor(self) -> float:
        if self.settings.schedule == "constant":
            return 1.0
        done = (self.state.epoch + self.state.batch / max(self.batches, 1)) / self.settings.epochs
        return 0.5 * (1 + float(np.cos(np.pi * min(done, 1))))

    def _loader(self, data: Samples) -> Any:
        size, fabric = self.settings.batch_size, self.fabric
        sampler = EpochSampler(
            len(data), self.seed, self.state.epoch, fabric.global_rank, fabric.world_size, skip=self.state.batch * size
        )
        self.batches = self.state.batch + len(sampler) // size
        loader = DataLoader(
            cast("Dataset[Any]", data), size, sampler=sampler, num_workers=self.settings.workers, drop_last=True
        )
        return fabric.setup_dataloaders(loader, use_distributed_sampler=False)

    def _validate(self) -> dict[str, float]:
        self.recipe.network.eval()
        with torch.inference_mode():
            figures = self.recipe.validate() if self.fabric.is_global_zero else {}
        figures = self.fabric.broadcast(figures)
        self.state.stale += 1
        if figures["score"] > self.state.best:
            self.state.best, self.state.stale = figures["score"], 0
            self._save("best.ckpt", {"": self.recipe})
        return figures

    def _save(self, name: str, learners: Mapping[str, Learner]) -> None:
        weights = [weight for learner in learners.values() for weight in learner.network.parameters()]
        if not all(bool(weight.isfinite().all()) for weight in weights):
            raise InputError(
                f"The weights are no longer finite after step {self.state.step}: lower optimizer.learning_rate and "
                "train in a new folder; what was kept before in this one is sound."
            )
        content = {**_content(learners), "state": vars(self.state)}
        temporary = self.folder / f"{name}.part"
        self.fabric.save(temporary, content)
        if self.fabric.is_global_zero:
            os.replace(temporary, self.folder / name)
        self.fabric.barrier()

    def _resume(self) -> None:
        path = self.folder / "last.ckpt"
        if not path.is_file():
            return
        rest = self.fabric.load(path, _content(self.learners), strict=True, weights_only=True)
        self.state = _State(**rest["state"])
        if self.fabric.is_global_zero:
            self._forget_undone()

    def _forget_undone(self) -> None:
        """Drop the log lines of steps and ends of epochs that the checkpoint does not have: they will be done again."""
        log = self.folder / "log.jsonl"
        lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
        rows = [json.loads(line) for line in lines if line.endswith("}")]
        kept = [row for row in rows if row["step"] <= self.state.step and row.get("epoch", 0) <= self.state.epoch]
        write_text(log, "".join(f"{json.dumps(row)}\n" for row in kept))

    def _log(self, row: Mapping[str, float]) -> None:
        if self.fabric.is_global_zero:
            with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    def _progress(self) -> Progress:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        return Progress(
            *columns,
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            disable=not self.fabric.is_global_zero,
        )
