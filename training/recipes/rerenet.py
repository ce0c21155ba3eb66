"""ReReNet's training (thesis chapter 3; the method's own text is in `NoisyLabelSegLib.methods.rerenet`).

The optimiser steps once per stage, f^{k-1} -> f^k, and the hard mask of one stage, detached, is the next one's input.
What the paper lacks and iteration needs: first masks of several kinds (see `Starts`) and, with ``random_stages``, a random
number of stages per batch, so that the network is trained on the masks that inference visits, the truth among them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from NoisyLabelSegLib.methods.rerenet import Update, network_input, refine
from training.data.windows import Starts, Windows
from training.losses.discrepancy import DiscrepancyLoss
from training.recipes.parts import Parts, unwrapped, validation_dice


@dataclass(frozen=True)
class ReReNetSettings:
    """ReReNet's own settings.

    Attributes:
        stages: K, stages a batch is trained through (paper: 5).
        random_stages: draw the number of stages from 1 ... K for each batch.
        update: how inference turns a stage's output into the next mask, see the method.
        inference_stages: upper bound of stages in validation and, by default, in the exported model.
        loss: see `DiscrepancyLoss`.
        starts: the mix of first masks.
    """

    stages: int = 5
    random_stages: bool = False
    update: Update = "mean"
    inference_stages: int = 5
    loss: DiscrepancyLoss = field(default_factory=DiscrepancyLoss)
    starts: Starts = field(default_factory=Starts)

    def __post_init__(self) -> None:
        if not (1 <= self.stages <= 9 and 1 <= self.inference_stages <= 9):
            raise ValueError("stages and inference_stages must lie between 1 and 9")


class ReReNet:
    """See the module's text."""

    def __init__(self, settings: ReReNetSettings, parts: Parts) -> None:
        self.settings, self.parts = settings, parts
        self.network: nn.Module = parts.network(in_channels=parts.classes)
        self.optimizer: Optimizer = parts.optimizer(self.network)
        self._validation: Windows | None = None

    def training_data(self) -> Windows:
        return self.parts.windows("train", self.settings.starts, augment=True)

    def step(self, batch: Mapping[str, Tensor], epoch: int, fabric: Fabric) -> dict[str, Tensor]:
        image, expert, previous = batch["image"], batch["expert"], batch["start"]
        stages = self.settings.stages
        if self.settings.random_stages:
            stages = int(torch.randint(1, stages + 1, ()))
        losses = []
        for stage in range(1, stages + 1):
            logits = self.network(network_input(image, previous, self.parts.classes))
            loss = self.settings.loss(logits, previous, expert, epoch, stage, stages)
            self.optimizer.zero_grad()
            fabric.backward(loss)
            self.optimizer.step()
            losses.append(loss.detach())
            previous = logits.detach().argmax(dim=1)
        return {"loss": torch.stack(losses).mean(), "first_stage": losses[0], "last_stage": losses[-1]}

    def validate(self) -> dict[str, float]:
        network = unwrapped(self.network)
        device = next(network.parameters()).device
        self._validation = self._validation or self.parts.windows("val", Starts(), augment=False)

        def predict(image: Tensor, start: Tensor) -> Tensor:
            settings, labels = self.settings, start
            for stage in refine(
                network, image, start, self.parts.classes, settings.inference_stages, settings.update
            ):
                labels = stage.labels
            return labels

        return {"score": validation_dice(self._validation, self.parts, device, predict)}
