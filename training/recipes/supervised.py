"""Plain supervised segmentation: the image alone, Dice + cross-entropy. The baseline of every method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from training.data.windows import Starts, Windows
from training.losses.discrepancy import dice_cross_entropy
from training.recipes.parts import Parts, unwrapped, validation_dice


@dataclass(frozen=True)
class SupervisedSettings:
    """There is nothing to set."""


# The network sees no mask; a case's coarse one, if there is one, only places the window.
NO_MASK = Starts(coarse=0, empty=1)


class Supervised:
    """See the module's text."""

    def __init__(self, settings: SupervisedSettings, parts: Parts) -> None:
        self.settings, self.parts = settings, parts
        self.network: nn.Module = parts.network(parts.in_channels)
        self.optimizer: Optimizer = parts.optimizer(self.network)
        self._validation: Windows | None = None

    def training_data(self) -> Windows:
        return self.parts.windows("train", NO_MASK, augment=True)

    def step(self, batch: Mapping[str, Tensor], epoch: int, fabric: Fabric) -> dict[str, Tensor]:
        loss = dice_cross_entropy(self.network(batch["image"]), batch["expert"])
        self.optimizer.zero_grad()
        fabric.backward(loss)
        self.optimizer.step()
        return {"loss": loss.detach()}

    def validate(self) -> dict[str, float]:
        self._validation = self._validation or self.parts.windows("val", NO_MASK, augment=False)
        network = unwrapped(self.network)
        device = next(network.parameters()).device
        score = validation_dice(self._validation, self.parts, device, lambda image, start: network(image).argmax(dim=1))
        return {"score": score}
