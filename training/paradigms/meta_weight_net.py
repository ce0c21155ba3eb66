"""A small network weighs each pixel by its loss, and learns from labels that are right (Shu et al., NeurIPS 2019).

As in DALE's confidence, a virtual SGD step on the weighted losses leads to theta', and the weighing network learns from
the loss there of pixels whose labels are right, the meta part. The gradient with respect to a pixel's weight is the one
of `dale.confidence`, exact by one pass in forward mode; by the chain rule that is

    dL(theta') / dphi = sum_i dL(theta') / dv_i dv_i / dphi.

Decisions:

- ``meta: clear`` takes for right what DALE takes for clear, softly: the clear mask of `dale.partition`, 0 to 1. It
  needs no other data than the other paradigms have, and differs from DALE in how a weight is found alone.
  ``verified`` is the paper's: cases of the training part whose labels are known to be right (`Case.verified`). To know
  which they are is more than the others know; that their labels are right helps all alike, as long as all train on the
  same data set.
- The meta part is that of the batch, so that any loss and recipe can be used; a batch without verified cases teaches
  the weighing network nothing, its optimiser's momentum included. Meta pixels are learnt from with weight 1, and have
  no part in the virtual step: they would vouch for themselves.
- The weighing network sees log(1 + loss): a Dice map's largest values would saturate it.
- Its optimiser is Adam, with an epsilon below gradients that are as small as those of single pixels' weights.
- The virtual step's rate is the network's optimiser's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from NoisyLabelSegLib.errors import InputError
from training.paradigms.dale.confidence import (
    Derivative,
    confidence_gradient,
    derivative_of,
    losses_of,
    parameters_of,
)
from training.paradigms.dale.partition import Partition
from training.paradigms.plain import Companion, Learner, Objective, Paradigm, anywhere, descend
from training.wrapping import unwrapped

if TYPE_CHECKING:
    from training.recipes.parts import Parts

CHUNK = 2**18  # Pixels whose hidden units are kept at once.
EPSILON = 1e-16


@dataclass(frozen=True)
class MetaWeightNetSettings:
    """Settings of the paradigm "meta_weight_net".

    Attributes:
        name: of the paradigm.
        meta: which pixels' labels are taken to be right; see the module's text.
        hidden: units of the weighing network's one hidden layer (paper: 100).
        rate: of its optimiser.
        partition: of ``meta: clear``.
    """

    name: Literal["meta_weight_net"] = "meta_weight_net"
    meta: Literal["clear", "verified"] = "clear"
    hidden: int = 100
    rate: float = 1e-3
    partition: Partition = field(default_factory=Partition)

    def __post_init__(self) -> None:
        if not (self.hidden >= 1 and self.rate > 0):
            raise ValueError("paradigm.hidden is at least 1, and paradigm.rate above 0")


class Weigher(nn.Module):
    """Maps losses of any shape to weights between 0 and 1."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(1, hidden), nn.ReLU(), nn.Linear(hidden, 1), nn.Sigmoid())

    def forward(self, losses: Tensor) -> Tensor:
        with torch.autocast(losses.device.type, enabled=False):
            seen = losses.clamp(min=0).log1p().view(-1, 1).to(next(self.parameters()).dtype)
            parts = [checkpoint(self.layers, part, use_reentrant=False) for part in seen.split(CHUNK)]
            return torch.cat(parts).view(losses.shape).to(losses.dtype)


class MetaWeightNet(Paradigm):
    """See the module's text."""

    def __init__(self, settings: MetaWeightNetSettings, classes: int = 2) -> None:
        self.settings = settings
        network = Weigher(settings.hidden)
        self.weigher = Companion(network, torch.optim.Adam(network.parameters(), lr=settings.rate, eps=EPSILON))
        self.derivative: Derivative | None = None

    @property
    def companions(self) -> Mapping[str, Learner]:
        return {"weigher": self.weigher}

    def prepare(self, learner: Learner, parts: Parts, another: Callable[[], Learner]) -> None:
        if self.settings.meta == "verified" and not any(case.verified for case in parts.cases("train")):
            raise InputError(
                f"No training case of '{parts.dataset.name}' is marked as verified in its dataset.json: mark some, or "
                "set paradigm.meta to clear."
            )

    def step(
        self,
        learner: Learner,
        objective: Objective,
        image: Tensor,
        batch: Mapping[str, Tensor],
        epoch: int,
        fabric: Fabric,
    ) -> dict[str, Tensor]:
        meta = self._meta(image, batch)
        losses, rest = objective(learner.network, image)
        if anywhere(meta, fabric):
            weights = self.weigher.network(losses.detach())
            gradient = self._gradient(learner, objective, image, meta, weights.detach(), fabric)
            descend(self.weigher, (gradient * weights).sum(), fabric)
        with torch.no_grad():
            weights = self.weigher.network(losses.detach())
        return {
            "loss": descend(learner, ((meta + (1 - meta) * weights) * losses).mean() + rest, fabric),
            "weight": weights.mean(),
            "spread": weights.std(),
        }

    def _meta(self, image: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """How far each pixel belongs to the meta part, 0 to 1, ``BHW[D]``."""
        labels = batch["expert"]
        if self.settings.meta == "clear":
            return self.settings.partition(image, labels).clear.clamp(0, 1)
        return batch["verified"].view(-1, *[1] * (labels.ndim - 1)).expand(labels.shape).float()

    def _gradient(
        self,
        learner: Learner,
        objective: Objective,
        image: Tensor,
        meta: Tensor,
        weights: Tensor,
        fabric: Fabric,
    ) -> Tensor:
        """Of the meta part's loss after the virtual step, with respect to the weights, ``BHW[D]``."""
        network = unwrapped(learner.network)
        parameters, rate = parameters_of(network), learner.optimizer.param_groups[0]["lr"]
        with fabric.autocast():
            of_rest = losses_of(network, lambda net: (1 - meta) * objective(net, image).pixels)
            of_meta = losses_of(network, lambda net: meta * objective(net, image).pixels)
            self.derivative = self.derivative or derivative_of(of_rest, parameters)
            derivative = self.derivative or "difference"  # of which no operator is afraid
            return confidence_gradient(parameters, of_rest, of_meta, weights, rate, derivative)
