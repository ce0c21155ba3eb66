"""One optimiser step a batch, on the mean of what each pixel loses: what every recipe does without a paradigm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

if TYPE_CHECKING:
    from training.recipes.parts import Parts

Objective = Callable[[nn.Module, Tensor], Tensor]
"""Maps a network and its input ``BCHW[D]`` to the loss of each pixel, ``BHW[D]``; its mean is the recipe's loss. Terms
that belong to no pixel are added to every one's."""


class Learner(Protocol):
    """What learns: a recipe, or a paradigm's companion of one."""

    network: nn.Module
    optimizer: Optimizer


@dataclass
class Companion:
    """What learns beside a recipe, in training only."""

    network: nn.Module
    optimizer: Optimizer


class Paradigm(Protocol):
    """How a learner learns from a batch."""

    @property
    def companions(self) -> Mapping[str, Learner]:
        """What learns with it, by names that checkpoints have; the engine sets them up, saves and resumes them."""
        return {}

    def prepare(self, learner: Learner, parts: Parts, another: Callable[[], Learner]) -> None:
        """Once, before anything is trained.

        Args:
            learner, parts: what will learn, and what it was made of.
            another: makes a second one, whose network begins elsewhere.

        Raises:
            InputError: it cannot learn in this way.
        """
        return

    def step(
        self,
        learner: Learner,
        objective: Objective,
        image: Tensor,
        batch: Mapping[str, Tensor],
        epoch: int,
        fabric: Fabric,
    ) -> dict[str, Tensor]:
        """Train on one batch.

        Args:
            learner, objective: what learns, and what it minimises.
            image: the network's input ``BCHW[D]``.
            batch: "expert", the label maps ``BHW[D]`` that are taught, and "verified", which of them are known to be
                right, bool, ``(B,)``.
            epoch: counted from 0.
            fabric: takes care of devices, precision and processes.

        Returns:
            Detached scalars, "loss" among them.
        """
        ...


@dataclass(frozen=True)
class PlainSettings:
    """There is nothing to set."""

    name: Literal["plain"] = "plain"


class Plain(Paradigm):
    """See the module's text."""

    def __init__(self, settings: PlainSettings | None = None, classes: int = 2) -> None:
        """It asks for nothing."""

    def step(
        self,
        learner: Learner,
        objective: Objective,
        image: Tensor,
        batch: Mapping[str, Tensor],
        epoch: int,
        fabric: Fabric,
    ) -> dict[str, Tensor]:
        return {"loss": descend(learner, objective(learner.network, image).mean(), fabric)}


def anywhere(mask: Tensor, fabric: Fabric) -> bool:
    """Whether a pixel of any process's batch is above 0: the same answer for all, so that all take a step or none."""
    found = fabric.all_reduce((mask > 0).any().float(), reduce_op="sum")
    return bool(found > 0)  # type: ignore[operator]


def descend(learner: Learner, loss: Tensor, fabric: Fabric) -> Tensor:
    """One step of the learner's optimiser; returns the loss without its graph."""
    learner.optimizer.zero_grad()
    fabric.backward(loss)
    learner.optimizer.step()
    return loss.detach()
