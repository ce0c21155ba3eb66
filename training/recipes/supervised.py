"""Plain supervised segmentation from images alone. The baseline of every method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lightning_fabric import Fabric
from torch import Tensor, nn

from NoisyLabelSegLib.inference.preprocessing import Intensity
from training.losses.maps import PIXEL_LOSSES, Loss
from training.paradigms.plain import BatchLoss
from training.recipes.image_alone import ImageAlone
from training.recipes.parts import Parts


@dataclass(frozen=True)
class SupervisedSettings:
    """Which loss: see `training.losses.maps`."""

    loss: Loss = "dice_cross_entropy"


class Supervised(ImageAlone):
    """See the module's text."""

    def __init__(self, settings: SupervisedSettings, parts: Parts, strong: Intensity | None = None) -> None:
        super().__init__(parts, strong)
        self.loss = PIXEL_LOSSES[settings.loss]

    def step(self, batch: Mapping[str, Tensor], epoch: int, fabric: Fabric) -> dict[str, Tensor]:
        def losses(network: nn.Module, image: Tensor) -> BatchLoss:
            return BatchLoss(self.loss(network(image), batch["expert"]))

        return self.paradigm.step(self, losses, self.seen(batch), batch, epoch, fabric)
