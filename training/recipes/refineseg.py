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

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.inference.predictor import Predictor
from training.data.drawings import contradictions, drawn_voxels, strategies_of
from training.data.windows import Windows
from training.losses.drawings import DiceOver, Regulariser, complementary_loss, positive_loss, regulariser
from training.recipes.image_alone import NO_MASK, ImageAlone
from training.recipes.parts import Parts
from training.recipes.transitions import Flips, Transitions, expected_drawings


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


class Annotated(nn.Module):
    """The network that will be exported, and the annotators' matrices that will not.

    With ``features`` the forward pass gives logits and the features that they are made of, ``BCHW[D]``.
    """

    def __init__(self, network: nn.Module, last: nn.Module, heads: nn.ModuleList, flips: nn.ModuleList) -> None:
        super().__init__()
        self.network, self.heads, self.flips = network, heads, flips
        self._seen: list[Tensor] = []
        last.register_forward_pre_hook(lambda _, given: self._seen.__setitem__(slice(None), given))

    def forward(self, image: Tensor, features: bool = False) -> Any:
        logits = self.network(image)
        return (logits, self._seen.pop()) if features else logits


class RefineSeg(ImageAlone):
    """See the module's text."""

    def __init__(self, settings: RefineSegSettings, parts: Parts) -> None:
        super().__init__(parts)
        self.settings, there = settings, strategies_of(parts.cases("train"))
        if unknown := set(settings.annotators) - {one.annotator for one in there}:
            raise InputError(f"'{min(unknown)}' of settings.annotators drew nothing in '{parts.dataset.name}'.")
        wanted = [one for one in there if not settings.annotators or one.annotator in settings.annotators]
        self.strategies = [one for one in wanted if settings.complementary or not one.complementary]
        if not self.strategies:
            raise InputError(f"No training case of '{parts.dataset.name}' has drawings to learn from: name some.")
        last = last_layer(self.network, torch.zeros(1, parts.in_channels, *parts.preprocessing.window))
        count = len(self.strategies) if settings.matrices else 0
        heads = (Transitions(last.in_channels, parts.classes, settings.keep) for _ in range(count))
        flips = (Flips(parts.classes, settings.learn_flips) for _ in self.strategies)
        self.network = Annotated(self.network, last, nn.ModuleList(heads), nn.ModuleList(flips))
        self.optimizer = parts.optimizer(self.network)

    def training_data(self) -> Windows:
        windows = self.parts.windows("train", NO_MASK, augment=True, drawings=self.strategies)
        self._tell(windows)
        return windows

    def _tell(self, windows: Windows) -> None:
        """Print what a person should know of the drawings."""
        classes, drawn = self.parts.classes, [crop.drawn for crop in windows.crops if crop.drawn is not None]
        names = {0: "background", **self.parts.dataset.labels}
        counts = np.sum([drawn_voxels(codes, self.strategies, classes) for codes in drawn], axis=0)
        said = [
            f"Nobody drew '{names.get(value, value)}': it is only learnt from what is said to be nothing else."
            for value in np.flatnonzero(counts == 0).tolist()
        ]
        if classes == 2 and any(strategy.complementary for strategy in self.strategies):
            said.append("Of two classes 'not this' means the other one: complementary drawings are positive ones.")
        if wrong := sum(contradictions(codes, self.strategies) for codes in drawn):
            said.append(f"{wrong} voxels are drawn as what they are said not to be: there the latter is ignored.")
        for number, strategy in enumerate(self.strategies):
            if missing := sum(not codes[number].any() for codes in drawn):
                said.append(f"{missing} of {len(drawn)} training cases have no drawing of {strategy}.")
        print("\n".join(said), end="\n" if said else "", file=sys.stderr)

    def validate(self) -> dict[str, float]:
        """As any segmentation where experts' labels are there to measure by; else by the drawings themselves."""
        if all(case.has_expert for case in self.parts.cases("val")):
            return super().validate()
        return {"score": self._share_as_drawn()}

    def _share_as_drawn(self) -> float:
        """The share of what is drawn as a class that is found to be it, the mean over the classes."""
        windows = self.parts.windows("val", NO_MASK, augment=False, drawings=self.strategies)
        network = self._annotated.network
        predict = Predictor(network, next(network.parameters()).device, patch=self.parts.preprocessing.window)
        found, drawn = torch.zeros(self.parts.classes), torch.zeros(self.parts.classes)
        for batch in DataLoader(windows, batch_size=1):
            labels = predict(batch["image"]).argmax(dim=1)
            for codes in (batch["drawn"][:, n] for n, one in enumerate(self.strategies) if not one.complementary):
                for value in range(self.parts.classes):
                    found[value] += ((codes == value + 1) & (labels == value)).sum()
                    drawn[value] += (codes == value + 1).sum()
        return float((found[drawn > 0] / drawn[drawn > 0]).mean()) if drawn.any() else 0.0

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
                found["complementary"].append(complementary_loss(observed, excluded, self._annotated.flips[number]()))
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
        network = getattr(self.network, "module", self.network)
        assert isinstance(network, Annotated)
        return network

    @property
    def heads(self) -> list[Transitions]:
        """Each strategy's matrices."""
        return [head for head in self._annotated.heads if isinstance(head, Transitions)]

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


def last_layer(network: nn.Module, image: Tensor) -> Any:
    """The convolution whose output is what the network gives of an image, its logits.

    Raises:
        InputError: the network ends in something else.
    """
    made: dict[nn.Module, Tensor] = {}
    convolutions = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Conv3d))]
    hooks = [m.register_forward_hook(lambda m, _, out: made.__setitem__(m, out)) for m in convolutions]
    with torch.no_grad():
        logits = network(image)
    for hook in hooks:
        hook.remove()
    for layer, out in made.items():
        if out.shape == logits.shape and torch.equal(out, logits):
            return layer
    raise InputError("RefineSeg needs a network whose last layer is a convolution: choose another network.name.")
