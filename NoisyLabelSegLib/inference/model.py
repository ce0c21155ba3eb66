"""A model bundle, loaded and ready: what a request keeps warm between images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from NoisyLabelSegLib.bundle import Bundle, ModelDescription, find_bundle
from NoisyLabelSegLib.inference.predictor import Predictor, choose_device
from NoisyLabelSegLib.inference.preprocessing import Preprocessing


@dataclass(frozen=True)
class Model:
    """See the module's text.

    Attributes:
        description: the bundle's.
        preprocessing: the bundle's, parsed.
        network: in evaluation mode, on `device`.
        device: where it runs.
    """

    description: ModelDescription
    preprocessing: Preprocessing
    network: nn.Module
    device: torch.device

    @property
    def classes(self) -> int:
        """Number of classes, the background among them."""
        return max(label.value for label in self.description.labels) + 1

    def predictor(self, say: Callable[[str], None] = lambda text: None) -> Predictor:
        """What runs the network; ``say`` is told when it has to make do with less memory."""
        patch = self.preprocessing.window if self.preprocessing.sliding else ()
        return Predictor(self.network, self.device, say, patch)


def load_model(name_or_folder: str | Path, device: str = "auto") -> Model:
    """Find, verify and load a bundle.

    Raises:
        InputError: when there is no such model, it is damaged or not safe, or the device cannot be used.
    """
    chosen = choose_device(device)
    return model_of(find_bundle(name_or_folder), chosen)


def model_of(bundle: Bundle, device: torch.device) -> Model:
    """Verify and load a bundle.

    Raises:
        InputError: when it is damaged or not safe.
    """
    preprocessing = Preprocessing.from_json(bundle.description.preprocessing)
    return Model(bundle.description, preprocessing, bundle.network().to(device), device)
