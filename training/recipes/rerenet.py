"""ReReNet's training (thesis chapter 3; the method's own text is in `NoisyLabelSegLib.methods.rerenet`).

The optimiser steps once per stage, f^{k-1} -> f^k, and the hard mask of one stage, detached, is the next one's input.
What the paper lacks and iteration needs: first masks of several kinds (see `Starts`), the truth among them, and a
network that still sees the given mask at every stage (``memory``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.methods.rerenet import Update, check_stages, input_channels, network_input, refine
from training.data.windows import Starts, Windows
from training.losses.discrepancy import DiscrepancyLoss
from training.paradigms.plain import BatchLoss
from training.recipes.parts import Parts, validation_dice
from training.wrapping import unwrapped


@dataclass(frozen=True)
class ReReNetSettings:
    """ReReNet's own settings.

    Attributes:
        stages: K, stages a batch is trained through (paper: 5).
        memory: show the network the given mask at every stage, see the method.
        update: how inference turns a stage's output into the next mask, see the method.
        inference_stages: upper bound of stages in validation and, by default, in the exported model.
        loss: see `DiscrepancyLoss`.
        starts: the mix of first masks.
    """

    stages: int = 5
    memory: bool = True
    update: Update = "mean"
    inference_stages: int = 5
    loss: DiscrepancyLoss = field(default_factory=DiscrepancyLoss)
    starts: Starts = field(default_factory=Starts)

    def __post_init__(self) -> None:
        check_stages(self.stages)
        check_stages(self.inference_stages)


class ReReNet:
    """See the module's text."""

    def __init__(self, settings: ReReNetSettings, parts: Parts) -> None:
        self.settings, self.parts = settings, parts
        if parts.in_channels > 1:
            raise InputError(f"ReReNet takes images of one channel; '{parts.dataset.name}' has {parts.in_channels}.")
        self.network: nn.Module = parts.network(input_channels(1, parts.classes, memory=settings.memory))
        self.optimizer: Optimizer = parts.optimizer(self.network)
        self.paradigm = parts.paradigm()
        self._validation: Windows | None = None

    def training_data(self) -> Windows:
        return self.parts.windows("train", self.settings.starts, augment=True)

    def step(self, batch: Mapping[str, Tensor], epoch: int, fabric: Fabric) -> dict[str, Tensor]:
        previous, losses = batch["start"], []
        for number in range(1, self.settings.stages + 1):
            stage = Stage(self, batch, previous, epoch, number)
            losses.append(self.paradigm.step(self, stage, batch["image"], batch, epoch, fabric)["loss"])
            previous = stage.labels()
        return {"loss": torch.stack(losses).mean(), "first_stage": losses[0], "last_stage": losses[-1]}

    def validate(self) -> dict[str, float]:
        coarse = Starts(simulated=self.settings.starts.simulated)
        network = unwrapped(self.network)
        device = next(network.parameters()).device
        self._validation = self._validation or self.parts.windows("val", coarse, augment=False)

        def predict(batch: Mapping[str, Tensor]) -> Tensor:
            settings, labels = self.settings, batch["start"]
            classes, stages = self.parts.classes, settings.inference_stages
            for stage in refine(
                network, batch["image"], labels, classes, stages, settings.update, memory=settings.memory
            ):
                labels = stage.labels
            return labels

        return {"score": validation_dice(self._validation, self.parts, device, predict)}


class Stage:
    """What one stage minimises, as an `Objective`, and the mask that it hands on."""

    def __init__(self, recipe: ReReNet, batch: Mapping[str, Tensor], previous: Tensor, epoch: int, number: int) -> None:
        self.recipe, self.batch, self.previous, self.epoch, self.number = recipe, batch, previous, epoch, number
        self._found: Tensor | None = None

    def __call__(self, network: nn.Module, image: Tensor) -> BatchLoss:
        settings = self.recipe.settings
        given = self.batch["start"] if settings.memory else None
        logits: Tensor = network(network_input(image, self.previous, given, self.recipe.parts.classes))
        if network is self.recipe.network and image is self.batch["image"]:
            self._found = logits.detach().argmax(dim=1)
        return BatchLoss(
            settings.loss(logits, self.previous, self.batch["expert"], self.epoch, self.number, settings.stages)
        )

    @torch.no_grad()
    def labels(self) -> Tensor:
        """The mask ``BHW[D]`` that the next stage is given."""
        if self._found is None:  # the paradigm showed the network other images than the batch's
            self(self.recipe.network, self.batch["image"])
        assert self._found is not None
        return self._found
