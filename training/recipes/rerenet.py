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
from training.recipes.parts import Parts, unwrapped, validation_dice


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
        self._validation: Windows | None = None

    def training_data(self) -> Windows:
        return self.parts.windows("train", self.settings.starts, augment=True)

    def step(self, batch: Mapping[str, Tensor], epoch: int, fabric: Fabric) -> dict[str, Tensor]:
        image, expert, previous = batch["image"], batch["expert"], batch["start"]
        given = batch["start"] if self.settings.memory else None
        stages, losses = self.settings.stages, []
        for stage in range(1, stages + 1):
            logits = self.network(network_input(image, previous, given, self.parts.classes))
            loss = self.settings.loss(logits, previous, expert, epoch, stage, stages)
            self.optimizer.zero_grad()
            fabric.backward(loss)
            self.optimizer.step()
            losses.append(loss.detach())
            previous = logits.detach().argmax(dim=1)
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
