"""Weak-to-strong, stage 2: a network of the weak modality alone learns what the fused features know (thesis chapter 5).

The strong encoder and ARM of stage 1 are the teacher, frozen; what is trained is its weak encoder and decoder, a
`VMUNet` of the weak image, and, in training only, heads that know the step (`StepHeads`). Loss (5.14), Dice + CE and
lambda times the transfer of every level.

Decisions where the thesis is silent or contradicts itself:

- (5.14) is one loss and one optimiser step, Algorithm 5.1 updates block after block: ``update: joint`` and
  ``blockwise``, in which no level's transfer loss reaches the levels before it.
- ARM's fused features come from the weak features of the network that is trained (``fused_from: student``, the
  algorithm's words), which move away from those that ARM was trained on, or from stage 1's own (``teacher``).
- Squared differences, and the noise of (5.9), are relative to the mean square of a level's fused features
  (``relative``), else the level whose features happen to be large is all that counts; false is (5.11) to the letter.
- Cases without a strong image take part with Dice + CE alone.
- The comparisons of table 5.3: ``transfer: none`` is plain fine-tuning, ``mse`` draws each level's features to the
  fused ones at once, ``pkt`` without noise has ``noise: 0``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.inference.preprocessing import Intensity
from NoisyLabelSegLib.networks import build
from NoisyLabelSegLib.networks.vm_unet import VMUNet
from NoisyLabelSegLib.networks.weak_to_strong import WeakToStrong, weak_only
from training.data.windows import Windows
from training.losses.discrepancy import dice_cross_entropy
from training.losses.knowledge_transfer import Schedule, degraded_targets, falling, transfer_loss
from training.recipes.image_alone import NO_MASK, ImageAlone
from training.recipes.parts import NetworkSettings, Parts
from training.recipes.step_heads import StepHeads


@dataclass(frozen=True)
class PKTSettings:
    """Stage 2's own settings; see the module's text.

    Attributes:
        teacher: name of stage 1's run without its seed, in the folder of runs; the one of the same seed is taken.
        transfer: what the levels learn from.
        weight: lambda (paper: 1).
        levels: which levels learn, 1 is the first one (paper: all four).
        steps: T (paper: 10).
        rho: schedule of how much of the target is fused.
        alpha, noise: schedule of the noise, and how much of the last target's variance it is, 0 to 1.
        smoothness: gamma.
        anchored: whether the first step's prediction is what inference gives, see `StepHeads`.
        update, fused_from, relative: see the module's text.
        strong: how intensities of the strong modality are mapped, as in stage 1.
    """

    teacher: str = ""
    transfer: Literal["none", "mse", "pkt"] = "pkt"
    weight: float = 1.0
    levels: tuple[int, ...] = (1, 2, 3, 4)
    steps: int = 10
    rho: Schedule = "cosine"
    alpha: Schedule = "cosine"
    noise: float = 0.25
    smoothness: float = 0.1
    anchored: bool = True
    update: Literal["joint", "blockwise"] = "joint"
    fused_from: Literal["student", "teacher"] = "teacher"
    relative: bool = True
    strong: Intensity = field(default_factory=Intensity)

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 <= self.noise <= 1:
            raise ValueError("settings.steps must be at least 1 and settings.noise lie between 0 and 1")


class Student(nn.Module):
    """The network that will be exported, and the heads that will not.

    With ``levels`` the forward pass gives logits, features of every level, and the features' predictions: the heads'
    ``TBCHW[D]``, or the features themselves where no step is known.
    """

    def __init__(self, network: VMUNet, heads: StepHeads | None, blockwise: bool) -> None:
        super().__init__()
        self.network, self.heads, self.blockwise = network, heads, blockwise

    def forward(self, image: Tensor, levels: bool = False) -> Any:
        if not levels:
            return self.network(image)
        features = self.network.encoder(image)
        logits, learning = self.network.decoder(features), features
        if self.blockwise:
            before = [image, *(feature.detach() for feature in features)]
            blocks = self.network.encoder.levels
            learning = [block(given) for block, given in zip(blocks, before[:-1], strict=True)]
        return logits, features, self.heads(learning) if self.heads else learning


class PKT(ImageAlone):
    """See the module's text."""

    network: nn.Module

    def __init__(self, settings: PKTSettings, parts: Parts) -> None:
        if parts.network_settings.start:
            raise InputError(
                "PKT starts from stage 1, settings.teacher: leave network.start out, or give it to stage 1."
            )
        super().__init__(parts)
        self.settings, self.teacher = settings, read_teacher(settings.teacher, parts)
        network, encoder = self.network, self.teacher.weak
        if not isinstance(network, VMUNet):
            raise InputError(f"PKT teaches a vm_unet, not '{parts.network_settings.name}': change network.name.")
        if strange := set(settings.levels) - set(range(1, len(encoder.levels) + 1)):
            raise InputError(f"There is no level {min(strange)}: settings.levels are of 1 to {len(encoder.levels)}.")
        try:
            network.load_state_dict(weak_only(self.teacher))
        except RuntimeError as error:
            raise InputError(f"'{settings.teacher}' is of another network than network.arguments: {error}") from error
        torch.manual_seed(parts.seed)
        known = settings.transfer == "pkt"
        heads = StepHeads(network.features, settings.steps, settings.anchored) if known else None
        self.network = Student(network, heads, settings.update == "blockwise")
        self.optimizer = parts.optimizer(self.network)

    def training_data(self) -> Windows:
        strong = None if self.settings.transfer == "none" else self.settings.strong
        windows = self.parts.windows("train", NO_MASK, augment=True, strong=strong)
        if windows.unpaired:
            print(
                f"{len(windows.unpaired)} training cases have no strong image: they teach by their labels alone.",
                file=sys.stderr,
            )
        return windows

    def step(self, batch: Mapping[str, Tensor], epoch: int, fabric: Fabric) -> dict[str, Tensor]:
        logits, features, predicted = self.network(batch["image"], levels=True)
        segmentation = dice_cross_entropy(logits, batch["expert"])
        figures = {"segmentation": segmentation.detach()}
        loss = segmentation
        if "paired" in batch and batch["paired"].any():
            transfer = self._transfer(batch, features, predicted)
            loss = loss + self.settings.weight * torch.stack(transfer).sum()
            names = (f"level{level}" for level in self.settings.levels)
            figures |= {name: value.detach() for name, value in zip(names, transfer, strict=True)}
        self.optimizer.zero_grad()
        fabric.backward(loss)
        self.optimizer.step()
        return {"loss": loss.detach(), **figures}

    def _transfer(self, batch: Mapping[str, Tensor], features: list[Tensor], predicted: list[Tensor]) -> list[Tensor]:
        """Each wanted level's loss, over the cases that have a strong image."""
        settings, paired = self.settings, batch["paired"]
        weak = [feature.detach()[paired] for feature in features]
        fused = self._fused(batch["image"][paired], batch["strong"][paired], weak)
        losses = []
        for n in (level - 1 for level in settings.levels):
            size = fused[n].square().mean().sqrt() if settings.relative else 1
            own = predicted[n][paired] if settings.transfer == "mse" else predicted[n][:, paired]
            losses.append(self._level_loss(own / size, fused[n] / size, weak[n] / size))
        return losses

    def _level_loss(self, predicted: Tensor, fused: Tensor, weak: Tensor) -> Tensor:
        settings = self.settings
        if settings.transfer == "mse":
            return F.mse_loss(predicted, fused)
        rho = falling(settings.rho, settings.steps)
        alpha = 1 - settings.noise * (1 - falling(settings.alpha, settings.steps))
        return transfer_loss(predicted, degraded_targets(fused, weak, rho, alpha), settings.smoothness)

    @torch.no_grad()
    def _fused(self, image: Tensor, strong: Tensor, weak: list[Tensor]) -> list[Tensor]:
        teacher = self.teacher.to(image.device)
        if self.settings.fused_from == "teacher" or teacher.early:
            return teacher.levels(torch.cat([image, strong], dim=1)).fused
        return teacher.fuse(weak, teacher.strong(strong))


def read_teacher(name: str, parts: Parts) -> WeakToStrong:
    """Stage 1's network, frozen.

    Raises:
        InputError: when that run has not been trained, or is none of stage 1.
    """
    if not name:
        raise InputError("settings.teacher must name the run of stage 1, such as lidc_arm-small.")
    folder = parts.runs / f"{name}-seed{parts.seed}"
    if not (folder / "best.ckpt").is_file():
        raise InputError(f"There is no '{folder / 'best.ckpt'}': train stage 1, the recipe arm, with this seed first.")
    described = json.loads((folder / "experiment.json").read_text(encoding="utf-8"))["network"]
    theirs = replace(parts, network_settings=NetworkSettings(described["name"], described.get("arguments")))
    network = build(described["name"], **theirs.network_arguments(parts.in_channels + 1))
    if not isinstance(network, WeakToStrong):
        raise InputError(f"'{folder}' holds a {described['name']}, not the weak_to_strong network of stage 1.")
    network.load_state_dict(torch.load(folder / "best.ckpt", map_location="cpu", weights_only=True)["network"])
    return network.requires_grad_(False).eval()
