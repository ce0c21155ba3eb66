"""Plain supervised segmentation: images alone, Dice + cross-entropy. The baseline of every method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lightning_fabric import Fabric
from torch import Tensor

from NoisyLabelSegLib.inference.preprocessing import Intensity
from training.losses.discrepancy import dice_cross_entropy
from training.recipes.image_alone import ImageAlone
from training.recipes.parts import Parts


@dataclass(frozen=True)
class SupervisedSettings:
    """There is nothing to set."""


class Supervised(ImageAlone):
    """See the module's text."""

    def __init__(self, settings: object, parts: Parts, strong: Intensity | None = None) -> None:
        super().__init__(parts, strong)
        self.settings = settings

    def step(self, batch: Mapping[str, Tensor], epoch: int, fabric: Fabric) -> dict[str, Tensor]:
        loss = dice_cross_entropy(self.network(self.seen(batch)), batch["expert"])
        self.optimizer.zero_grad()
        fabric.backward(loss)
        self.optimizer.step()
        return {"loss": loss.detach()}
