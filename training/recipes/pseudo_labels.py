"""Learning from strokes and the network's own labels: what RefineSeg is compared with.

Partial cross-entropy on what is drawn, and on every pixel Dice against a pseudo-label: the class that is most
probable in a random mixture of two predictions. That is the rule of Luo et al. (MICCAI 2022), whose two predictions are
two decoders'; here they are one network's, of the image and of its mirror image, so that any network can be trained so.
A step takes two forward passes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from lightning_fabric import Fabric
from monai.losses import DiceLoss
from torch import Tensor

from training.losses.drawings import partial_cross_entropy
from training.recipes.parts import Parts
from training.recipes.refineseg import RefineSeg, RefineSegSettings


@dataclass(frozen=True)
class PseudoLabelSettings:
    """Settings of the recipe "pseudo_labels".

    Attributes:
        weight: of the pseudo-label's Dice (Luo et al.: 0.5).
        annotators: whose positive drawings are used; empty: everybody's.
    """

    weight: float = 0.5
    annotators: tuple[str, ...] = ()


class PseudoLabels(RefineSeg):
    """See the module's text; drawings, validation and what is told of them are RefineSeg's, without matrices."""

    def __init__(self, settings: PseudoLabelSettings, parts: Parts) -> None:
        drawn = RefineSegSettings(matrices=False, complementary=False, annotators=settings.annotators)
        super().__init__(drawn, parts)
        self.weight = settings.weight
        self.dice = DiceLoss(softmax=True, to_onehot_y=True)

    def step(self, batch: Mapping[str, Tensor], epoch: int, fabric: Fabric) -> dict[str, Tensor]:
        image = batch["image"]
        plain, mirrored = self.network(torch.cat([image, image.flip(-1)])).float().chunk(2)
        both = (plain, mirrored.flip(-1))
        labels = pseudo_labels(*both, self._shares(batch["index"], epoch).to(image))
        terms = {
            "drawn": torch.stack([self._on_drawings(logits, batch["drawn"]) for logits in both]).mean(),
            "pseudo": self.weight * torch.stack([self.dice(logits, labels[:, None]) for logits in both]).mean(),
        }
        loss = torch.stack([*terms.values()]).sum()
        self.optimizer.zero_grad()
        fabric.backward(loss)
        self.optimizer.step()
        return {"loss": loss.detach(), **{name: value.detach() for name, value in terms.items()}}

    def _on_drawings(self, logits: Tensor, drawn: Tensor) -> Tensor:
        rows = logits.softmax(dim=1).movedim(1, -1)
        each = [partial_cross_entropy(rows[codes > 0], codes[codes > 0] - 1) for codes in drawn.unbind(dim=1)]
        return torch.stack(each).sum()

    def _shares(self, index: Tensor, epoch: int) -> Tensor:
        """A number between 0 and 1 for each sample, which follows from seed, epoch and sample."""
        keys = [(self.parts.seed, epoch, one) for one in index.tolist()]
        return torch.tensor([np.random.default_rng(key).random() for key in keys])


def pseudo_labels(first: Tensor, second: Tensor, shares: Tensor) -> Tensor:
    """The most probable classes ``BHW[D]`` of a mixture of two predictions, logits ``BNHW[D]``.

    Args:
        first, second: the predictions.
        shares: the first one's share in each sample, ``(B,)``, 0 to 1.
    """
    share = shares.view(-1, *[1] * (first.ndim - 1))
    return (share * first.softmax(dim=1) + (1 - share) * second.softmax(dim=1)).argmax(dim=1)
