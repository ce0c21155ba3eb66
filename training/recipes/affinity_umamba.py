"""AffinityUMamba's training: given labels are weak supervision, which LALR corrects while the network learns.

Equation (9) of Zhang et al., MICCAI 2025: Dice + CE on the given labels and, a tenth of it, on the refined ones, both
for both branches, plus the margin and the affinity loss of the AM branch. With the three weights at 0 it is the same
network trained with Dice + CE alone. The method's own text is in `NoisyLabelSegLib.methods.affinity_umamba`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor

from NoisyLabelSegLib.methods.affinity_umamba import Conflict, Fallback, Relabelled, branches_of, refine_labels
from NoisyLabelSegLib.ops.neighbourhood import neighbour_counts
from training.losses.affinity import LARGEST_MARGIN, Margin, affinity_loss, margin_loss
from training.losses.discrepancy import dice_cross_entropy
from training.recipes.image_alone import ImageAlone
from training.recipes.parts import Parts


@dataclass(frozen=True)
class AffinityUMambaSettings:
    """The method's own settings.

    Attributes:
        refined, margin, affinity: weights of equation (9)'s terms; the refined labels are only made where they are
            used.
        margin_kind, largest_margin: see `margin_loss`.
        conflict, fallback: LALR's options, see the method.
    """

    refined: float = 0.1
    margin: float = 0.1
    affinity: float = 0.01
    margin_kind: Margin = "constant"
    largest_margin: float = LARGEST_MARGIN
    conflict: Conflict = "union"
    fallback: Fallback = "keep"

    def __post_init__(self) -> None:
        if min(self.refined, self.margin, self.affinity) < 0:
            raise ValueError("settings.refined, settings.margin and settings.affinity are weights of at least 0")


class AffinityUMamba(ImageAlone):
    """See the module's text."""

    def __init__(self, settings: AffinityUMambaSettings, parts: Parts) -> None:
        super().__init__(parts)
        self.settings = settings

    def step(self, batch: Mapping[str, Tensor], epoch: int, fabric: Fabric) -> dict[str, Tensor]:
        settings, given = self.settings, batch["expert"]
        outputs = [branches_of(logits, self.parts.classes) for logits in self.network(batch["image"], levels=True)]
        am, cnn = outputs[0]
        loss, figures = supervision(outputs, given), {}
        if settings.margin:
            figures["margin"] = margin_loss(am, settings.margin_kind, settings.largest_margin)
            loss = loss + settings.margin * figures["margin"]
        if settings.refined or settings.affinity:
            refined = refine_labels(am.detach(), cnn.detach(), given, settings.conflict, settings.fallback)
            figures["affinity"] = affinity_loss(am, refined.labels)
            loss = loss + settings.refined * supervision(outputs[:1], refined.labels)
            loss = loss + settings.affinity * figures["affinity"]
            figures |= relabelling(refined, given, self.parts.classes)
        self.optimizer.zero_grad()
        fabric.backward(loss)
        self.optimizer.step()
        return {"loss": loss.detach(), **{name: value.detach() for name, value in figures.items()}}


def supervision(outputs: Sequence[Sequence[Tensor]], labels: Tensor) -> Tensor:
    """Dice + CE, summed over the branches and averaged over the levels, each of half the weight of the one above it.

    Args:
        outputs: for each level, the full resolution first, the branches' logits ``BNHW[D]``.
        labels: ``BHW[D]`` of the full resolution; lower ones take every second voxel.
    """
    total, weights = torch.zeros((), device=labels.device), 0.0
    for level, branches in enumerate(outputs):
        places = (slice(None), *[slice(None, None, 2**level)] * (labels.ndim - 1))
        coarse = labels[places]
        total = total + sum(dice_cross_entropy(logits, coarse) for logits in branches) / 2**level
        weights += 1 / 2**level
    return total / weights


@torch.no_grad()
def relabelling(refined: Relabelled, given: Tensor, classes: int) -> dict[str, Tensor]:
    """How much LALR doubts and changes, and where: shares of all voxels, and of the changed ones those at borders."""
    changed = refined.labels != given
    border = (neighbour_counts(given, classes) > 0).sum(dim=1) > 1
    return {
        "flagged": refined.flagged.float().mean(),
        "relabelled": changed.float().mean(),
        "relabelled_foreground": changed[given > 0].float().mean().nan_to_num(),
        "relabelled_at_borders": border[changed].float().mean().nan_to_num(),
    }
