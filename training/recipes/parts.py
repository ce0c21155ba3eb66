"""What every recipe is given: data, network and optimiser as the experiment describes them, and a validation score."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from NoisyLabelSegLib.bundle import Network
from NoisyLabelSegLib.inference.preprocessing import Intensity, Preprocessing
from NoisyLabelSegLib.networks import build
from training.data.cases import Case, DataSet, Split
from training.data.drawings import Strategy
from training.data.patches import Patches
from training.data.windows import Augmentation, Starts, Windows
from training.paradigms import PARADIGMS
from training.paradigms.plain import Paradigm, PlainSettings
from training.recipes.transfer import Start, start_from


@dataclass(frozen=True)
class NetworkSettings:
    """A network of the registry; the channels of input and output follow from the method and the labels.

    Attributes:
        name: its name in `NoisyLabelSegLib.networks`.
        arguments: its keyword arguments.
        start: what it takes over from other runs before it is trained; see `Start`.
    """

    name: str = "unet"
    arguments: dict[str, Any] | None = None
    start: tuple[Start, ...] = ()


@dataclass(frozen=True)
class OptimizerSettings:
    """The optimiser: torch's of that name (paper: Adam, learning rate 1e-4, weight decay 1e-5)."""

    name: Literal["Adam", "AdamW", "SGD"] = "Adam"
    learning_rate: float = 1e-4
    weight_decay: float = 1e-5
    momentum: float = 0.9


SECOND = 2**20  # Further away than anybody's seeds.


@dataclass(frozen=True)
class Parts:
    """See the module's text.

    Attributes:
        augmentation: how training windows are varied.
        limit: takes this many cases a part, for a quick look; 0 takes all.
        runs: the folder of training runs, for recipes that build on another run.
        paradigm_settings: of one of `training.paradigms.PARADIGMS`.
        second: makes another network of the same seed, whose random weights differ.
    """

    dataset: DataSet
    preprocessing: Preprocessing
    network_settings: NetworkSettings
    optimizer_settings: OptimizerSettings
    seed: int
    augmentation: Augmentation
    limit: int = 0
    runs: Path = Path("runs")
    paradigm_settings: Any = field(default_factory=PlainSettings)
    second: bool = False

    @property
    def first_seed(self) -> int:
        """What a network's random first weights follow from."""
        return self.seed + SECOND * self.second

    @property
    def classes(self) -> int:
        """Number of classes, the background among them."""
        return max(self.dataset.labels, default=0) + 1

    @property
    def in_channels(self) -> int:
        """Number of channels of the images."""
        return self.dataset.channels

    def network_arguments(self, in_channels: int) -> Mapping[str, Any]:
        """All keyword arguments of the network, as a bundle stores them."""
        return {
            "spatial_dims": self.preprocessing.dimensions,
            "in_channels": in_channels,
            "out_channels": self.classes,
            **(self.network_settings.arguments or {}),
        }

    def network(self, in_channels: int) -> nn.Module:
        """The network, initialised from the seed and what it starts from."""
        torch.manual_seed(self.first_seed)
        described = Network(self.network_settings.name, dict(self.network_arguments(in_channels)))
        network = build(described.name, **described.arguments)
        start_from(network, self.network_settings.start, self.runs, self.seed, described)
        return network

    def optimizer(self, network: nn.Module) -> Optimizer:
        """The optimiser for all parameters of ``network``."""
        settings = self.optimizer_settings
        arguments: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
        if settings.name == "SGD":
            arguments |= {"momentum": settings.momentum, "nesterov": True}
        return getattr(torch.optim, settings.name)(network.parameters(), **arguments)

    def paradigm(self) -> Paradigm:
        """How the recipe learns from a batch."""
        return PARADIGMS[self.paradigm_settings.name].make(self.paradigm_settings, self.classes)

    def cases(self, split: Split) -> list[Case]:
        """The cases of one part of the data set that take part."""
        return self.dataset.part(split)[: self.limit or None]

    def windows(
        self,
        split: Split,
        starts: Starts,
        *,
        augment: bool,
        strong: Intensity | None = None,
        drawings: Sequence[Strategy] = (),
    ) -> Windows:
        """The windows of one part of the data set; for ``strong`` and ``drawings`` see `Windows`."""
        kind = Patches if self.augmentation.patches else Windows
        augmentation = self.augmentation if augment else None
        return kind(self.cases(split), self.preprocessing, starts, augmentation, self.seed, strong, drawings)


def deployed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of what was trained, the weights of the part called ``network``: all else is there in training only."""
    prefix = "network."
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


Predict = Callable[[Mapping[str, Tensor]], Tensor]
"""Maps a batch's ``image``, ``start`` and, where there is one, ``strong`` to a label map ``BHW[D]``."""


def validation_dice(windows: Windows, parts: Parts, device: torch.device, predict: Predict) -> float:
    """Mean Dice over the labels and over windows with any expert foreground, or over whole cases with any.

    Args:
        windows: the validation windows; cases that are seen whole count as wholes, also slice by slice.
        parts: the experiment's parts.
        device: where the network is.
        predict: see `Predict`.
    """
    whole = isinstance(windows, Patches)
    voxels: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0, 0])  # both, predicted, expert's
    for batch in DataLoader(windows, batch_size=1 if whole else 32 if parts.preprocessing.dimensions == 2 else 2):
        expert = batch.pop("expert")
        if whole:
            predicted = _through_windows(batch, parts, device, predict)
        else:
            predicted = predict({name: tensor.to(device) for name, tensor in batch.items()}).cpu()
        for value in range(1, parts.classes):
            a, b = (predicted == value).flatten(1), (expert == value).flatten(1)
            counts = torch.stack([(a & b).sum(dim=1), a.sum(dim=1), b.sum(dim=1)], dim=1)
            for index, found in zip(batch["index"].tolist(), counts.tolist(), strict=True):
                unit = windows.items[index][0] if whole else index
                voxels[unit, value] = [one + more for one, more in zip(voxels[unit, value], found, strict=True)]
    scores = [2 * both / (ours + theirs) for both, ours, theirs in voxels.values() if theirs]
    return sum(scores) / max(len(scores), 1)


def _through_windows(batch: Mapping[str, Tensor], parts: Parts, device: torch.device, predict: Predict) -> Tensor:
    """The label that most of the overlapping windows give a voxel, more so the nearer it lies to their centres."""
    from monai.inferers import sliding_window_inference

    maps = {"start": batch["start"][:, None].float(), **{k: batch[k] for k in ("image", "strong") if k in batch}}
    channels = [tensor.shape[1] for tensor in maps.values()]

    def votes(window: Tensor) -> Tensor:
        seen = dict(zip(maps, window.split(channels, dim=1), strict=True))
        labels = predict({**seen, "start": seen["start"][:, 0].long()})
        return nn.functional.one_hot(labels, parts.classes).movedim(-1, 1).float()

    every = torch.cat(list(maps.values()), dim=1)
    size = parts.preprocessing.window
    how: dict[str, Any] = {"mode": "gaussian", "padding_mode": "replicate", "sw_device": device, "device": "cpu"}
    counted: Any = sliding_window_inference(every, size, 1, votes, **how)
    labels: Tensor = counted.argmax(dim=1)
    return labels
