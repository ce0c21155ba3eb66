"""Weak-to-strong, stage 2: a network of the weak modality alone learns what the fused features know (thesis chapter 5).

The strong encoder and ARM of stage 1 are the teacher, frozen; what is trained is its weak encoder and decoder, a
`VMUNet` of the weak image, and, in training only, heads that know the step (`StepHeads`). Loss (5.14), Dice + CE and
lambda times the transfer of every level.

Decisions where the thesis is silent or contradicts itself:

- (5.14) is one loss and one optimiser step, Algorithm 5.1 updates block after block. ``update: blockwise`` has what
  that comes to in one step, no level's transfer loss reaches the levels before it; ``joint`` is (5.14).
- ARM's fused features come from the weak features of the network that is trained (``fused_from: student``, the
  algorithm's words), which move away from those that ARM was trained on, or from stage 1's own (``teacher``).
- Squared differences, and the noise of (5.9), are relative to the mean square of a level's fused features
  (``relative``), else the level whose features happen to be large is all that counts; false is (5.11) to the letter.
- Cases without a strong image take part with Dice + CE alone.
- The comparisons of table 5.3: ``transfer: none`` is plain fine-tuning, ``mse`` draws each level's features to the
  fused ones at once, ``pkt`` without noise has ``noise: 0``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
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
from training.losses.knowledge_transfer import Schedule, degraded_targets, falling, transfer_loss
from training.losses.maps import dice_cross_entropy_map
from training.paradigms.plain import BatchLoss
from training.recipes.image_alone import NO_MASK, ImageAlone
from training.recipes.parts import Parts
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
        if self.weight < 0 or self.smoothness < 0:
            raise ValueError("settings.weight and settings.smoothness must not be negative")
        if not self.levels or len(set(self.levels)) < len(self.levels):
            raise ValueError("settings.levels must name each level that learns once, and at least one")


class Student(nn.Module):
    """The network that will be exported, and the heads that will not.

    With ``levels`` the forward pass gives logits, features of every level, and the predictions of those that learn: the
    heads' ``TBCHW[D]``, or the features themselves where no step is known.
    """

    def __init__(self, network: VMUNet, heads: StepHeads | None, wanted: Sequence[int], *, blockwise: bool) -> None:
        super().__init__()
        self.network, self.heads, self.wanted, self.blockwise = network, heads, tuple(wanted), blockwise

    def forward(self, image: Tensor, levels: bool = False) -> Any:
        if not levels:
            return self.network(image)
        features = self.network.encoder(image)
        logits, learning = self.network.decoder(features), features
        if self.blockwise:
            before = [image, *(feature.detach() for feature in features)]
            blocks = self.network.encoder.levels
            learning = [block(given) for block, given in zip(blocks, before[:-1], strict=True)]
        chosen = [learning[n] for n in self.wanted]
        return logits, features, self.heads(chosen) if self.heads else chosen


class PKT(ImageAlone):
    """See the module's text."""

    network: nn.Module

    def __init__(self, settings: PKTSettings, parts: Parts) -> None:
        if parts.network_settings.start:
            raise InputError(
                "PKT starts from stage 1, settings.teacher: leave network.start out, or give it to stage 1."
            )
        super().__init__(parts)
        self.settings, self.teacher = settings, read_teacher(settings, parts)
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
        wanted = [level - 1 for level in settings.levels]
        heads = StepHeads([network.features[n] for n in wanted], settings.steps, settings.anchored) if known else None
        self.network = Student(network, heads, wanted, blockwise=settings.update == "blockwise")
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
        figures: dict[str, Tensor] = {}

        def objective(network: nn.Module, image: Tensor) -> BatchLoss:
            logits, features, predicted = network(image, levels=True)
            losses = dice_cross_entropy_map(logits, batch["expert"])
            figures.setdefault("segmentation", losses.detach().mean())
            if self.settings.transfer == "none":
                return BatchLoss(losses)
            if "paired" in batch and batch["paired"].any():
                transfer = self._transfer(batch, features, predicted)
            else:
                # Other processes wait for every gradient, and for as many figures as they have.
                transfer = [0 * one.sum() for one in predicted]
            for level, value in zip(self.settings.levels, transfer, strict=True):
                figures.setdefault(f"level{level}", value.detach())
            return BatchLoss(losses, self.settings.weight * torch.stack(transfer).sum())

        return {**self.paradigm.step(self, objective, batch["image"], batch, epoch, fabric), **figures}

    def _transfer(self, batch: Mapping[str, Tensor], features: list[Tensor], predicted: list[Tensor]) -> list[Tensor]:
        """Each wanted level's loss, over the cases that have a strong image."""
        settings, paired = self.settings, batch["paired"]
        weak = [feature.detach()[paired] for feature in features]
        fused = self._fused(batch["image"][paired], batch["strong"][paired], weak)
        losses = []
        for level, prediction in zip(settings.levels, predicted, strict=True):
            target, before = fused[level - 1], weak[level - 1]
            size = target.square().mean().sqrt() if settings.relative else 1
            own = prediction[paired] if settings.transfer == "mse" else prediction[:, paired]
            losses.append(self._level_loss(own / size, target / size, before / size))
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


def read_teacher(settings: PKTSettings, parts: Parts) -> WeakToStrong:
    """Stage 1's network, frozen.

    Raises:
        InputError: when that run has not been trained to its end, is none of stage 1, or saw images in another way.
    """
    from training.runs import settings_of_trained  # which knows all recipes

    if not settings.teacher:
        raise InputError("settings.teacher must name the run of stage 1, such as lidc_arm-small.")
    folder = parts.runs / f"{settings.teacher}-seed{parts.seed}"
    trained = settings_of_trained(folder)
    strong = getattr(trained.settings, "strong", None)
    theirs = replace(parts, network_settings=trained.network)
    network = build(trained.network.name, **theirs.network_arguments(parts.in_channels + 1))
    if not isinstance(network, WeakToStrong) or strong is None:
        raise InputError(f"'{folder}' holds a {trained.network.name}, not the weak_to_strong network of stage 1.")
    if (trained.preprocessing, strong) != (parts.preprocessing, settings.strong):
        raise InputError(
            f"Stage 1 in '{folder}' saw images in another way: give preprocessing and settings.strong the same values."
        )
    network.load_state_dict(torch.load(folder / "best.ckpt", map_location="cpu", weights_only=True)["network"])
    return network.requires_grad_(False).eval()
