"""DALE's step: algorithm 1 of the paper on one batch, for any network and any loss that is a map.

Each batch is seen twice, and the optimiser steps twice: on its clear regions, (1), then on its fuzzy ones, (2), whose
pixels count as far as omega trusts them, with L_W, (15).

Decisions where the paper is silent or needs reading:

- (7) multiplies images and labels by the masks: ``masks: images``. A network then sees patches darkened by how fuzzy
  they are, which no image at inference is: with ``losses`` only losses are weighed.
- Batches without a fuzzy pixel in any process take the first step alone: Adam's momentum would make a second one.
- Half of class 2 is no label, so losses are multiplied where (7) multiplies labels.
- (15) multiplies alpha L_W, one number, by omega, a map: so on average by omega's mean.
- Terms of a loss that belong to no pixel have no omega, and count as much as a set's pixels do on average.
- The virtual step's rate is the optimiser's own.
- L_W takes the input of the network's last convolution onto classes: "before entering the segmentation head".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Literal

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from NoisyLabelSegLib.errors import InputError
from training.last_layer import OTHERWISE, LastLayer
from training.paradigms.dale.alignment import Alignment
from training.paradigms.dale.confidence import (
    Confidence,
    ConfidenceSettings,
    Derivative,
    Keep,
    derivative_of,
    descended,
    find_confidence,
    last_layer_agreement,
    losses_of,
    parameters_of,
)
from training.paradigms.dale.partition import Masks, Partition
from training.paradigms.plain import BatchLoss, Learner, Objective, Paradigm, anywhere, descend
from training.wrapping import unwrapped

FUZZY_FIGURES = ("fuzzy", "apart", "distrusted")
Masked = Literal["images", "losses"]
Set = Callable[[nn.Module], Tensor]
"""Maps a network to the weighted losses of a set's pixels, ``BHW[D]``."""


@dataclass(frozen=True)
class DALESettings:
    """DALE's settings.

    Attributes:
        name: of the paradigm.
        partition, confidence, alignment: see their classes.
        masks: what the masks are multiplied with; see the module's text.
        alpha: weight of L_W (paper: 0.05); 0 leaves it out.
        keep: see `training.paradigms.dale.confidence`.
    """

    name: Literal["dale"] = "dale"
    partition: Partition = field(default_factory=Partition)
    confidence: ConfidenceSettings = field(default_factory=ConfidenceSettings)
    alignment: Alignment = field(default_factory=Alignment)
    masks: Masked = "losses"
    alpha: float = 0.05
    keep: Keep = "negative"

    def __post_init__(self) -> None:
        if not self.alpha >= 0:
            raise ValueError("paradigm.alpha is a weight of at least 0")


class DALE(Paradigm):
    """See the module's text."""

    def __init__(self, settings: DALESettings, classes: int) -> None:
        self.settings, self.classes = settings, classes
        self.derivative: Derivative | None = None
        self.last: LastLayer | None = None

    def step(
        self,
        learner: Learner,
        objective: Objective,
        image: Tensor,
        batch: Mapping[str, Tensor],
        epoch: int,
        fabric: Fabric,
    ) -> dict[str, Tensor]:
        labels = batch["expert"]
        masks = self.settings.partition(image, labels)
        before, aim = self._forward(learner.network, objective, self._seen(image, masks.clear))
        clear_loss = descend(learner, _weighed(before, masks.clear), fabric)
        figures = {"clear": clear_loss, **{name: torch.zeros_like(clear_loss) for name in FUZZY_FIGURES}}
        if anywhere(masks.fuzzy, fabric):
            figures |= self._fuzzy_step(learner, objective, image, labels, masks, aim, fabric)
        return {"loss": clear_loss + figures["fuzzy"], **figures}

    def _fuzzy_step(
        self,
        learner: Learner,
        objective: Objective,
        image: Tensor,
        labels: Tensor,
        masks: Masks,
        aim: Tensor | None,
        fabric: Fabric,
    ) -> dict[str, Tensor]:
        """The second step of the optimiser, (2); ``aim`` are the clear set's features."""
        after, features = self._forward(learner.network, objective, self._seen(image, masks.fuzzy))
        trust = self._confidence(learner, objective, image, masks, after.pixels, fabric)
        apart = self._apart(features, aim, masks, trust, labels)
        loss = fuzzy_loss(masks.fuzzy * after.pixels, trust.weights, apart, self.settings.alpha)
        loss = loss + masks.fuzzy.mean() * after.rest
        there = masks.fuzzy > 0
        distrusted = there & ~trust.kept(self.settings.keep)
        return {
            "fuzzy": descend(learner, loss, fabric),
            "apart": apart.detach(),
            "distrusted": distrusted.sum() / there.sum().clamp(min=1),
        }

    def trust(
        self, learner: Learner, objective: Objective, image: Tensor, labels: Tensor, fabric: Fabric
    ) -> Confidence:
        """How far each label of a batch, be it fuzzy or clear, is trusted once the clear regions were learnt.

        Nothing stays learnt. A label that lies in a clear region itself has a voice in what it is compared with.

        Raises:
            InputError: every label is trusted alike.
        """
        if self.settings.confidence.by == "none":
            raise InputError("With paradigm.confidence.by: none every label is trusted alike: train with another one.")
        masks = self.settings.partition(image, labels)
        with _unlearnt(learner):
            with fabric.autocast():  # the network may not be wrapped
                found, _ = self._forward(learner.network, objective, self._seen(image, masks.clear))
            descend(learner, _weighed(found, masks.clear), fabric)
            every = masks._replace(fuzzy=torch.ones_like(masks.fuzzy))
            return self._confidence(learner, objective, image, every, None, fabric)

    def _confidence(
        self,
        learner: Learner,
        objective: Objective,
        image: Tensor,
        masks: Masks,
        after: Tensor | None,
        fabric: Fabric,
    ) -> Confidence:
        """How far each label of the fuzzy set is trusted, (8) to (11), at the learner's present weights.

        Args:
            after: the fuzzy set's losses there, with their graph, if they are at hand.
        """
        start, settings = torch.ones_like(masks.fuzzy), self.settings.confidence
        if settings.by == "none":
            return Confidence(start, -start if self.settings.keep == "negative" else start)
        network = unwrapped(learner.network)
        with fabric.autocast():
            if settings.by == "last_layer":
                gradient = self._last_layer_agreement(network, objective, image, masks, after)
                return descended(start, lambda _: gradient, settings)
            of_fuzzy, of_clear = (losses_of(network, _weighted(objective, self._seen(image, m), m)) for m in masks)
            parameters, rate = parameters_of(network), learner.optimizer.param_groups[0]["lr"]
            self.derivative = self.derivative or derivative_of(of_fuzzy, parameters)
            derivative = self.derivative or "difference"  # of which no operator is afraid
            return find_confidence(parameters, of_fuzzy, of_clear, start, rate, settings, derivative)

    def _last_layer_agreement(
        self, network: nn.Module, objective: Objective, image: Tensor, masks: Masks, after: Tensor | None
    ) -> Tensor:
        """`agreement` by the last layer, from the pass at hand where it can serve, else from passes that keep no more
        of their graph than what comes behind that layer.
        """
        assert self.last is not None, "the pass was not watched"
        layer = self.last.parameters()
        known = {id(one) for one in layer}
        head = {name: one if id(one) in known else one.detach() for name, one in network.named_parameters()}

        def losses(mask: Tensor) -> Tensor:
            return losses_of(network, lambda net: objective(net, self._seen(image, mask)).pixels)(head)

        if after is None or torch.is_autocast_enabled(after.device.type):  # then Fabric refuses gradients of its passes
            after = losses(masks.fuzzy)
        clear = after if self.settings.masks == "losses" else losses(masks.clear)
        try:
            return last_layer_agreement(masks.fuzzy * after, masks.clear * clear, layer)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise InputError(f"What comes behind the network's last convolution has no slope: {OTHERWISE}.") from error

    def _seen(self, image: Tensor, mask: Tensor) -> Tensor:
        """What a set sees of an image."""
        return image * mask[:, None].to(image) if self.settings.masks == "images" else image

    def _forward(self, network: nn.Module, objective: Objective, image: Tensor) -> tuple[BatchLoss, Tensor | None]:
        """Losses, and the features that they come from where L_W or omega asks for the last layer."""
        if not self.settings.alpha and self.settings.confidence.by != "last_layer":
            return objective(network, image), None
        self.last = self.last or LastLayer(network, self.classes)
        with self.last.watched() as features:
            found = objective(network, image)
        if not features:
            raise InputError(f"No convolution onto classes is the network's last layer: {OTHERWISE}.")
        return found, features[0]

    def _apart(
        self, fuzzy: Tensor | None, clear: Tensor | None, masks: Masks, trust: Confidence, labels: Tensor
    ) -> Tensor:
        """L_W, (14), of the fuzzy set's features without what is taken for noise, (12)."""
        if fuzzy is None or clear is None or not self.settings.alpha:
            return torch.zeros((), device=labels.device)
        kept = masks.fuzzy * trust.kept(self.settings.keep)
        size = fuzzy.shape[2:]
        weights, aim_weights, values = (_sampled(one, size) for one in (kept, masks.clear, labels))
        return self.settings.alignment(fuzzy, weights, clear, aim_weights, values)


def _weighed(found: BatchLoss, mask: Tensor) -> Tensor:
    """A set's loss; what belongs to no pixel counts as much as its pixels do on average."""
    return (mask * found.pixels).mean() + mask.mean() * found.rest


def _weighted(objective: Objective, image: Tensor, mask: Tensor) -> Set:
    return lambda network: mask * objective(network, image).pixels


@contextmanager
def _unlearnt(learner: Learner) -> Iterator[None]:
    """Network and optimiser are as before in the end."""
    network, optimizer = deepcopy(learner.network.state_dict()), deepcopy(learner.optimizer.state_dict())
    try:
        yield
    finally:
        learner.network.load_state_dict(network)
        learner.optimizer.load_state_dict(optimizer)


def fuzzy_loss(losses: Tensor, confidence: Tensor, alignment: Tensor, alpha: float = 0.05) -> Tensor:
    """Equation (15).

    Args:
        losses: of the fuzzy set, times its mask, ``BHW[D]``.
        confidence: omega, ``BHW[D]``.
        alignment: L_W, one number.
        alpha: its weight (paper: 0.05).
    """
    return (confidence * losses).mean() + alpha * confidence.mean() * alignment


def _sampled(values: Tensor, size: torch.Size) -> Tensor:
    """A map ``BHW[D]`` where the head's input may have fewer pixels."""
    if values.shape[1:] == size:
        return values
    return F.interpolate(values[:, None].float(), size=size, mode="nearest")[:, 0].to(values.dtype)
