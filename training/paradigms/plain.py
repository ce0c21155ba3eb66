"""One optimiser step a batch, on the mean of what each pixel loses: what every recipe does without a paradigm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

if TYPE_CHECKING:
    from training.recipes.parts import Parts


class BatchLoss(NamedTuple):
    """What a batch loses.

    Attributes:
        pixels: each pixel's own loss, ``BHW[D]``, which a paradigm may weigh.
        rest: terms that belong to no pixel, a number, which none may.
    """

    pixels: Tensor
    rest: Tensor | float = 0.0


Objective = Callable[[nn.Module, Tensor], BatchLoss]
"""Maps a network and its input ``BCHW[D]`` to what a batch loses; a recipe's loss is the pixels' mean plus the rest."""


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
        losses, rest = objective(learner.network, image)
        return {"loss": descend(learner, losses.mean() + rest, fabric)}


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
