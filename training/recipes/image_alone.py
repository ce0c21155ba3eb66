"""What recipes share whose network sees images and no mask: windows without one, and the validation of its labels."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from NoisyLabelSegLib.inference.preprocessing import Intensity
from NoisyLabelSegLib.methods.affinity_umamba import branches_of
from training.data.windows import Starts, Windows
from training.recipes.parts import Parts, validation_dice
from training.wrapping import unwrapped

# The network sees no mask; a case's coarse one, if there is one, only places the window.
NO_MASK = Starts(coarse=0, empty=1)


class ImageAlone:
    """All of a recipe but its step; of a network with several branches the first one is validated, the prediction.

    Args:
        parts: the experiment's.
        strong: how a strong modality is mapped that the network sees behind the image's channels; None without one.
    """

    def __init__(self, parts: Parts, strong: Intensity | None = None) -> None:
        self.parts, self.strong = parts, strong
        self.network: nn.Module = parts.network(parts.in_channels + (strong is not None))
        self.optimizer: Optimizer = parts.optimizer(self.network)
        self.paradigm = parts.paradigm()
        self._validation: Windows | None = None

    def training_data(self) -> Windows:
        return self.parts.windows("train", NO_MASK, augment=True, strong=self.strong)

    def seen(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The network's input ``BCHW[D]``."""
        return batch["image"] if self.strong is None else torch.cat([batch["image"], batch["strong"]], dim=1)

    def validate(self) -> dict[str, float]:
        if self._validation is None:
            self._validation = self.parts.windows("val", NO_MASK, augment=False, strong=self.strong)
        network, classes = unwrapped(self.network), self.parts.classes
        device = next(network.parameters()).device

        def predict(batch: Mapping[str, Tensor]) -> Tensor:
            return branches_of(network(self.seen(batch)), classes)[0].argmax(dim=1)

        return {"score": validation_dice(self._validation, self.parts, device, predict)}
