"""What loses most is left out: the common-sense way to train with noisy labels (as in Han et al., NeurIPS 2018).

A batch's pixels with the largest losses take no part; how many grows over the first epochs, see `forgetting`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lightning_fabric import Fabric
from torch import Tensor

from training.paradigms.forgetting import Forgetting, kept
from training.paradigms.plain import Learner, Objective, Paradigm, descend


@dataclass(frozen=True)
class SmallLossSettings(Forgetting):
    """Settings of the paradigm "small_loss": its name, and those of `Forgetting`."""

    name: Literal["small_loss"] = "small_loss"


class SmallLoss(Paradigm):
    """See the module's text."""

    def __init__(self, settings: SmallLossSettings, classes: int = 2) -> None:
        self.settings = settings

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
        easy = kept(losses.detach(), batch["expert"], self.settings.share(epoch))
        return {"loss": descend(learner, losses[easy].mean() + rest, fabric)}
