"""What loses most is left out: the common-sense way to train with noisy labels (as in Han et al., NeurIPS 2018).

A batch's pixels with the largest losses take no part, from the first step on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from lightning_fabric import Fabric
from torch import Tensor

from training.paradigms.plain import Learner, Objective, Paradigm, descend


@dataclass(frozen=True)
class SmallLossSettings:
    """Settings of the paradigm "small_loss".

    Attributes:
        name: of the paradigm.
        forget: the share of the pixels that is left out, about that of the wrong labels, 0 to 1.
    """

    name: Literal["small_loss"] = "small_loss"
    forget: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.forget < 1:
            raise ValueError("paradigm.forget is a share, at least 0 and below 1")


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
        losses = objective(learner.network, image)
        return {"loss": descend(learner, losses[kept(losses.detach(), self.settings.forget)].mean(), fabric)}


def kept(losses: Tensor, forget: float) -> Tensor:
    """Which losses are not among the share of largest ones, bool; all of equal ones are kept."""
    limit = torch.kthvalue(losses.flatten().float(), max(1, round(losses.numel() * (1 - forget)))).values
    return losses <= limit
