"""One optimiser step a batch, on the mean of what each pixel loses: what every recipe does without a paradigm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

Objective = Callable[[nn.Module, Tensor], Tensor]
"""Maps a network and its input ``BCHW[D]`` to the loss of each pixel, ``BHW[D]``; its mean is the recipe's loss. Terms
that belong to no pixel are added to every one's."""


class Learner(Protocol):
    """What learns: a recipe."""

    network: nn.Module
    optimizer: Optimizer


class Paradigm(Protocol):
    """How a learner learns from a batch."""

    def step(
        self, learner: Learner, objective: Objective, image: Tensor, labels: Tensor, fabric: Fabric
    ) -> dict[str, Tensor]:
        """Train on one batch.

        Args:
            learner, objective: what learns, and what it minimises.
            image, labels: the network's input ``BCHW[D]`` and the label maps that it is taught, ``BHW[D]``.
            fabric: takes care of devices, precision and processes.

        Returns:
            Detached scalars, "loss" among them.
        """


@dataclass(frozen=True)
class PlainSettings:
    """There is nothing to set."""

    name: Literal["plain"] = "plain"


class Plain:
    """See the module's text."""

    def __init__(self, settings: PlainSettings | None = None, classes: int = 2) -> None:
        """It asks for nothing."""

    def step(
        self, learner: Learner, objective: Objective, image: Tensor, labels: Tensor, fabric: Fabric
    ) -> dict[str, Tensor]:
        return {"loss": descend(learner, objective(learner.network, image).mean(), fabric)}


def descend(learner: Learner, loss: Tensor, fabric: Fabric) -> Tensor:
    """One step of the learner's optimiser; returns the loss without its graph."""
    learner.optimizer.zero_grad()
    fabric.backward(loss)
    learner.optimizer.step()
    return loss.detach()
