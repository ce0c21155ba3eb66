"""RefineSeg (Du et al., MICCAI 2025): a segmentation from coarse drawings, and from drawings of what it is not, alone.

One network gives p, the segmentation; for each annotation strategy a transition matrix A, pixel by pixel, turns p into
what that annotator is expected to draw, and the losses compare that with what was drawn (`training.losses.drawings`).
A exists in training only. Pixels on which nobody drew take no part, and neither do experts' labels.

Decisions where the paper is silent, besides those of `Transitions` and of the losses:

- A is made of the features from which the network's last layer makes p ("the last decoder features").
- (8) sums over the strategies; every sum over pixels is a mean.
- (7) regularises positive strategies alone, as written; a complementary one's A is held near the identity likewise by
  ``regularise_all``.
- ``matrices: false`` is what is left without A: partial cross-entropy and Dice, and complements of p itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.inference.predictor import Predictor
from training.data.drawings import Strategy, strategies_of
from training.data.windows import Windows
from training.last_layer import LastLayer
from training.losses.drawings import DiceOver, Regulariser, complementary_loss, positive_loss, regulariser
from training.recipes.agreement import agreement
from training.recipes.drawn_facts import tell
from training.recipes.image_alone import NO_MASK, ImageAlone
from training.recipes.parts import Parts
from training.recipes.transitions import Flips, Transitions, expected_drawings
from training.wrapping import unwrapped


@dataclass(frozen=True)
class RefineSegSettings:
    """RefineSeg's own settings.

    Attributes:
        alpha, beta: weights of cross-entropy and Dice in (2) (paper: 0.6, 0.4).
        dice: see `partial_dice`.
        regulariser, weight: of (7), and lambda of (8) (paper: identity, 0.2).
        regularise_all, matrices: see the module's text.
        keep: the diagonal of A at the start.
        complementary: whether complementary drawings are used at all.
        annotators: whose drawings are used; empty: everybody's.
        learn_flips: whether M is learnt.
    """

    alpha: float = 0.6
    beta: float = 0.4
    dice: DiceOver = "per_class"
    regulariser: Regulariser = "identity"
    weight: float = 0.2
    regularise_all: bool = False
    matrices: bool = True
    keep: float = 0.9
    complementary: bool = True
    annotators: tuple[str, ...] = ()
    learn_flips: bool = False

    def __post_init__(self) -> None:
        if min(self.alpha, self.beta, self.weight) < 0:
            raise ValueError("settings.alpha, settings.beta and settings.weight are weights of at least 0")


class Annotated(nn.Module):
    """The network that will be exported, and the annotators' matrices that will not.

    With ``features`` the forward pass gives logits and the features that they are made of, ``BCHW[D]``.
    """

    def __init__(self, network: nn.Module, last: LastLayer, heads: nn.ModuleDict, flips: nn.ModuleDict) -> None:
        super().__init__()
        self.network, self.last, self.heads, self.flips = network, last, heads, flips

    def forward(self, image: Tensor, features: bool = False) -> Any:
        if not features:
            return self.network(image)
        with self.last.watched() as seen:
            logits = self.network(image)
        return logits, seen[0]


class RefineSeg(ImageAlone):
    """See the module's text."""

    def __init__(self, settings: RefineSegSettings, parts: Parts) -> None:
        super().__init__(parts)
        self.settings, there = settings, strategies_of(parts.cases("train"))
        if unknown := set(settings.annotators) - {one.annotator for one in there}:
            raise InputError(f"'{min(unknown)}' of settings.annotators drew nothing in '{parts.dataset.name}'.")
        wanted = [one for one in there if not settings.annotators or one.annotator in settings.annotators]
        self.strategies = sorted(one for one in wanted if settings.complementary or not one.complementary)
        if not self.strategies:
            raise InputError(f"No training case of '{parts.dataset.name}' has drawings to learn from.")
        if not all(case.has_expert or case.drawings for case in parts.cases("val")):
            raise InputError(f"A validation case of '{parts.dataset.name}' has neither an expert's label nor drawings.")
        last = LastLayer(self.network, parts.classes)
        channels = last.of(torch.zeros(1, parts.in_channels, *parts.preprocessing.window)).in_channels
        drawing = self.strategies if settings.matrices else []
        heads = {_key(one): Transitions(channels, parts.classes, settings.keep) for one in drawing}
        flips = {_key(one): Flips(parts.classes, settings.learn_flips) for one in self.strategies if one.complementary}
        self.network = Annotated(self.network, last, nn.ModuleDict(heads), nn.ModuleDict(flips))
        self.optimizer = parts.optimizer(self.network)

    def training_data(self) -> Windows:
        windows = self.parts.windows("train", NO_MASK, augment=True, drawings=self.strategies)
        drawn = [crop.drawn for crop in windows.crops if crop.drawn is not None]
        tell(drawn, windows.names, self.strategies, self.parts.dataset)
        return windows

    def validate(self) -> dict[str, float]:
        """As any segmentation where experts' labels are there to measure by; else by the drawings themselves."""
        if all(case.has_expert for case in self.parts.cases("val")):
            return super().validate()
        if self._validation is None:
            self._validation = self.parts.windows("val", NO_MASK, augment=False, drawings=self.strategies)
        network = self._annotated.network
        predict = Predictor(network, next(network.parameters()).device, patch=self.parts.preprocessing.window)
        return {"score": agreement(predict, self._validation, self.strategies, self.parts.classes)}

    def step(self, batch: Mapping[str, Tensor], epoch: int, fabric: Fabric) -> dict[str, Tensor]:
        logits, features = self.network(batch["image"], features=True)
        rows, seen = logits.float().softmax(dim=1).movedim(1, -1), features.movedim(1, -1)
        losses = self._losses(rows, seen, batch["drawn"])
        loss = torch.stack([*losses.values()]).sum()
        self.optimizer.zero_grad()
        fabric.backward(loss)
        self.optimizer.step()
        return {"loss": loss.detach(), **{name: value.detach() for name, value in losses.items()}}

    def _losses(self, rows: Tensor, features: Tensor, drawn: Tensor) -> dict[str, Tensor]:
        """The terms of (8): of p and features ``BHW[D]L``, and codes ``BRHW[D]``."""
        settings = self.settings
        found: dict[str, list[Tensor]] = {"positive": [], "complementary": [], "regulariser": []}
        positive = self._positive_bits(drawn)
        for number, strategy in enumerate(self.strategies):
            codes = drawn[:, number]
            codes = codes & ~positive if strategy.complementary else codes
            where = codes > 0
            observed, transitions = self._observed(number, rows[where], features[where])
            if strategy.complementary:
                excluded = (codes[where][:, None] >> torch.arange(rows.shape[-1], device=codes.device)) & 1 > 0
                found["complementary"].append(
                    complementary_loss(observed, excluded, self._annotated.flips[_key(strategy)]())
                )
            else:
                drawn_classes = codes[where] - 1
                found["positive"].append(
                    positive_loss(observed, drawn_classes, settings.alpha, settings.beta, settings.dice)
                )
            if transitions is not None and (settings.regularise_all or not strategy.complementary):
                found["regulariser"].append(settings.weight * regulariser(transitions, settings.regulariser))
        return {name: torch.stack(terms).sum() for name, terms in found.items() if terms}

    @property
    def _annotated(self) -> Annotated:
        network = unwrapped(self.network)
        assert isinstance(network, Annotated)
        return network

    @property
    def heads(self) -> list[Transitions]:
        """Each strategy's matrices."""
        return [head for head in self._annotated.heads.values() if isinstance(head, Transitions)]

    def _observed(self, number: int, rows: Tensor, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """What a strategy is expected to draw at some pixels, (1), and its A there."""
        if not self.settings.matrices:
            return rows, None
        transitions = self.heads[number](features.float())
        return expected_drawings(transitions, rows), transitions

    def _positive_bits(self, drawn: Tensor) -> Tensor:
        """The bits of all classes that are drawn at each pixel."""
        bits = torch.zeros_like(drawn[:, 0])
        for number, strategy in enumerate(self.strategies):
            if not strategy.complementary:
                codes = drawn[:, number]
                bits |= torch.where(codes > 0, 1 << (codes - 1).clamp(min=0), 0)
        return bits


def _key(strategy: Strategy) -> str:
    """What a strategy's modules are called: its matrices must never become another one's."""
    return str(strategy).replace(".", "_")
