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
from torch import Tensor, nn
from torch.nn import functional as F

from NoisyLabelSegLib.methods.affinity_umamba import Conflict, Fallback, Relabelled, branches_of, refine_labels
from NoisyLabelSegLib.ops.neighbourhood import neighbour_counts
from training.losses.affinity import LARGEST_MARGIN, Margin, affinity_loss, margin_loss
from training.losses.maps import dice_cross_entropy_map
from training.paradigms.plain import BatchLoss
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
        objective = Equation9(self, batch["expert"])
        figures = self.paradigm.step(self, objective, batch["image"], batch, epoch, fabric)
        return {**figures, **objective.figures}


class Equation9:
    """(9) of a batch, as an `Objective`; its margin and affinity losses belong to no pixel.

    Attributes:
        figures: of its first pass.
    """

    def __init__(self, recipe: AffinityUMamba, given: Tensor) -> None:
        self.recipe, self.given = recipe, given
        self.figures: dict[str, Tensor] = {}
        self._refined: Relabelled | None = None

    def __call__(self, network: nn.Module, image: Tensor) -> BatchLoss:
        settings, classes = self.recipe.settings, self.recipe.parts.classes
        outputs = [branches_of(logits, classes) for logits in network(image, levels=True)]
        am, cnn = outputs[0]
        losses, rest, figures = supervision(outputs, self.given), torch.zeros((), device=am.device), {}
        if settings.margin:
            figures["margin"] = margin_loss(am, settings.margin_kind, settings.largest_margin)
            rest = rest + settings.margin * figures["margin"]
        if settings.refined or settings.affinity:
            refined = self._relabelled(am, cnn)
            figures["affinity"] = affinity_loss(am, refined.labels)
            losses = losses + settings.refined * supervision(outputs[:1], refined.labels)
            rest = rest + settings.affinity * figures["affinity"]
            figures |= relabelling(refined, self.given, classes)
        self.figures = self.figures or {name: value.detach() for name, value in figures.items()}
        return BatchLoss(losses, rest)

    def _relabelled(self, am: Tensor, cnn: Tensor) -> Relabelled:
        """LALR's labels, of the first pass: what a batch teaches does not change while it is taught."""
        if self._refined is None:
            settings = self.recipe.settings
            self._refined = refine_labels(am.detach(), cnn.detach(), self.given, settings.conflict, settings.fallback)
        return self._refined


def supervision(outputs: Sequence[Sequence[Tensor]], labels: Tensor) -> Tensor:
    """Dice + CE of each pixel, summed over the branches and averaged over the levels, each of half the weight of the
    one above it.

    Args:
        outputs: for each level, the full resolution first, the branches' logits ``BNHW[D]``.
        labels: ``BHW[D]`` of the full resolution; lower ones take every second voxel, which stands for those about it.
    """
    total, weights = torch.zeros(labels.shape, device=labels.device), 0.0
    for level, branches in enumerate(outputs):
        places = (slice(None), *[slice(None, None, 2**level)] * (labels.ndim - 1))
        coarse = labels[places]
        losses = torch.stack([dice_cross_entropy_map(logits, coarse) for logits in branches]).sum(dim=0)
        total = total + F.interpolate(losses[:, None], size=labels.shape[1:])[:, 0] / 2**level
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
