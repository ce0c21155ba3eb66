"""Pre-training of a 3D encoder on volumes without labels, by pretext tasks (3DRotNPC, thesis chapter 4, and others).

Any network of the registry that has an encoder takes part; what is trained, and kept, is its encoder (thesis: encoder
and bottleneck, section 4.3.3), from which `network.start` of any other recipe begins. The score, by which the best
weights are chosen, is the first task's figure on the validation part (thesis: "the best performance in the proxy
classification task"), of fragments and questions that are the same each time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader

from NoisyLabelSegLib.errors import InputError
from training.data.cases import Split
from training.data.fragments import Fragments, Square, require_square
from training.data.windows import Augmentation
from training.paradigms.plain import descend
from training.pretext import Tasks
from training.pretext.encoder import Encoder
from training.pretext.task import Task
from training.recipes.parts import Parts
from training.wrapping import unwrapped

AT_ONCE = 8  # Fragments of the validation.


@dataclass(frozen=True)
class PretrainSettings:
    """What is learnt, and from how much.

    Attributes:
        tasks: the pretext tasks.
        pool: names of further prepared data sets that are learnt from, too.
        fragments: of each volume and epoch.
        held_out: fragments of each validation volume.
        square: which part of a slice is seen, see `training.data.fragments` (paper: "whole", scaled down).
    """

    tasks: Tasks = field(default_factory=Tasks)
    pool: tuple[str, ...] = ()
    fragments: int = 1
    held_out: int = 4
    square: Square = "window"

    def __post_init__(self) -> None:
        if self.fragments < 1 or self.held_out < 1:
            raise ValueError("settings.fragments and settings.held_out must be at least 1")


class Pretraining(nn.Module):
    """An encoder and its tasks' heads: maps fragments ``BCDHW`` to each task's loss."""

    def __init__(self, encoder: Encoder, tasks: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.encoder, self.tasks = encoder, nn.ModuleDict(tasks)

    def forward(self, fragments: Tensor) -> dict[str, Tensor]:
        return {name: task(self.encoder, fragments) for name, task in self.in_turn()}

    def task(self, name: str) -> Task:
        """One of the tasks."""
        task = self.tasks[name]
        assert isinstance(task, Task)
        return task

    def in_turn(self) -> list[tuple[str, Task]]:
        """The tasks by name; the rotation, which is the first and turns slices where they lie, comes last."""
        return [(name, self.task(name)) for name in [*self.tasks][::-1]]


class Pretrain:
    """See the module's text."""

    network: nn.Module

    def __init__(self, settings: PretrainSettings, parts: Parts) -> None:
        require_square(parts.preprocessing)
        if parts.augmentation != Augmentation():
            raise InputError(
                "Pre-training flips and turns nothing but what its tasks turn: leave 'augmentation' out of the "
                "experiment; settings.fragments says how many fragments of a volume are seen."
            )
        self.settings, self.parts = settings, parts
        encoder = Encoder(parts.network(parts.in_channels), parts.in_channels, parts.preprocessing.window)
        self.network = Pretraining(encoder, settings.tasks.make(encoder, parts.in_channels))
        self.optimizer = parts.optimizer(self.network)
        self.weights = {name: task.weight for name, task in settings.tasks.chosen().items()}
        self._validation: Fragments | None = None

    def training_data(self) -> Fragments:
        settings, parts = self.settings, self.parts
        cases = parts.cases("train")
        return Fragments(cases, parts.preprocessing, parts.seed, settings.fragments, vary=True, square=settings.square)

    def held_out(self, split: Split = "val", *, again: int = 0, turned: bool = False) -> Fragments:
        """Fragments of a part: other ones, of which other questions are asked, for another ``again``.

        For ``turned`` see `Fragments`.
        """
        settings, parts = self.settings, self.parts
        cases, count, seed = parts.cases(split), settings.held_out, parts.seed + again
        return Fragments(cases, parts.preprocessing, seed, count, vary=False, square=settings.square, turned=turned)

    def step(self, batch: Mapping[str, Tensor], epoch: int, fabric: Fabric) -> dict[str, Tensor]:
        losses = self.network(batch["image"])
        total = torch.stack([self.weights[name] * loss for name, loss in losses.items()]).sum()
        return {"loss": descend(self, total, fabric), **{name: loss.detach() for name, loss in losses.items()}}

    def validate(self) -> dict[str, float]:
        self._validation = self._validation or self.held_out()
        figures: dict[str, float] = {}
        for name, tally in self.tallies(self._validation).items():
            figures |= self.trained.task(name).figures(tally)
        return {"score": next(iter(figures.values())), **figures}

    @property
    def trained(self) -> Pretraining:
        """The network itself."""
        network = unwrapped(self.network)
        assert isinstance(network, Pretraining)
        return network

    @torch.inference_mode()
    def tallies(self, fragments: Fragments) -> dict[str, Tensor]:
        """What each task counts in fragments, with the same questions each time."""
        network = self.trained.eval()
        device, sums = next(network.parameters()).device, defaultdict[str, Any](int)
        with torch.random.fork_rng():
            torch.manual_seed(fragments.seed)
            for batch in DataLoader(fragments, AT_ONCE):
                for name, task in network.in_turn():
                    sums[name] += task.tally(network.encoder, batch["image"].to(device))
        return {name: sums[name] for name in network.tasks}
