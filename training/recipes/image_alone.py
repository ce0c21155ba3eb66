"""What recipes share whose network sees the image alone: windows without a mask, and the validation of its labels."""

from __future__ import annotations

from torch import Tensor, nn
from torch.optim import Optimizer

from NoisyLabelSegLib.methods.affinity_umamba import branches_of
from training.data.windows import Starts, Windows
from training.recipes.parts import Parts, unwrapped, validation_dice

# The network sees no mask; a case's coarse one, if there is one, only places the window.
NO_MASK = Starts(coarse=0, empty=1)


class ImageAlone:
    """All of a recipe but its step; of a network with several branches the first one is validated, the prediction."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.network: nn.Module = parts.network(parts.in_channels)
        self.optimizer: Optimizer = parts.optimizer(self.network)
        self._validation: Windows | None = None

    def training_data(self) -> Windows:
        return self.parts.windows("train", NO_MASK, augment=True)

    def validate(self) -> dict[str, float]:
        self._validation = self._validation or self.parts.windows("val", NO_MASK, augment=False)
        network, classes = unwrapped(self.network), self.parts.classes
        device = next(network.parameters()).device

        def predict(image: Tensor, start: Tensor) -> Tensor:
            return branches_of(network(image), classes)[0].argmax(dim=1)

        return {"score": validation_dice(self._validation, self.parts, device, predict)}
