"""3DRotNPC's task (thesis chapter 4): some slices of a fragment are turned in their plane, and each slice is asked how.

(4.1): of the D slices K are chosen (paper: 4 of 16) and each is turned by 0, 90, 180 or 270 degrees, 25 % each; the
classes are 0 to 3. The head gives logits (B, D, 4). (4.2) and (4.3): cross-entropy, each slice weighted by
w_y = 1 / p_y, p_y being the share of its class among the slices of the mini-batch, over M = 4 and the number of slices.

Decisions where the thesis is silent or contradicts itself:

- It has a sigmoid and a cross-entropy of "a probability distribution". ``softmax`` is the cross-entropy; ``sigmoid``
  (its word) asks each class by itself: binary cross-entropies, summed over the classes.
- Of the head it has the shape of its output alone. The deepest features have fewer slices than the fragment: of their
  means over the fields of a grid in the plane two linear layers tell every slice that one of theirs stands for.
  ``grid: 1`` is the mean over the whole plane, where the head no longer knows what lies where.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.pretext.encoder import Encoder
from training.pretext.task import Task

ANGLES = (0, 90, 180, 270)
CLASSES = len(ANGLES)


@dataclass(frozen=True)
class RotationSettings:
    """See the module's text.

    Attributes:
        weight: of its loss among those of all tasks.
        slices: K, how many slices are chosen (paper: 4; 2 and 6 in its ablation).
        loss: of a slice.
        grid: fields along each side of the plane.
    """

    weight: float = 1.0
    slices: int = 4
    loss: Literal["softmax", "sigmoid"] = "softmax"
    grid: int = 2

    def __post_init__(self) -> None:
        if self.slices < 1 or self.grid < 1:
            raise ValueError("settings.tasks.rotation.slices and .grid must be at least 1")


class Rotation(Task):
    """See the module's text; a batch that was asked about is turned afterwards."""

    def __init__(self, settings: RotationSettings, encoder: Encoder, channels: int) -> None:
        super().__init__()
        self.settings = settings
        self.head = nn.Sequential(
            nn.Linear(encoder.features * settings.grid**2, encoder.features),
            nn.GELU(),
            nn.Linear(encoder.features, encoder.strides[0] * CLASSES),
        )

    def logits(self, encoder: Encoder, fragments: Tensor) -> Tensor:
        """(B, D, 4) of fragments ``BCDHW``."""
        grid = self.settings.grid
        fields = F.adaptive_avg_pool3d(encoder(fragments), (None, grid, grid))
        each: Tensor = self.head(fields.transpose(1, 2).flatten(2)).unflatten(2, (-1, CLASSES)).flatten(1, 2)
        return each[:, : fragments.shape[2]]

    def forward(self, encoder: Encoder, fragments: Tensor) -> Tensor:
        turns = random_turns(fragments.shape[0], fragments.shape[2], self.settings.slices)
        logits = self.logits(encoder, turn_(fragments, turns))
        return rotation_loss(logits, turns.to(logits.device), self.settings.loss)

    def tally(self, encoder: Encoder, fragments: Tensor) -> Tensor:
        """Confusion (4, 4): true classes are rows."""
        turns = random_turns(fragments.shape[0], fragments.shape[2], self.settings.slices)
        found = self.logits(encoder, turn_(fragments, turns)).argmax(dim=2).cpu()
        return torch.bincount((turns * CLASSES + found).flatten(), minlength=CLASSES**2).view(CLASSES, CLASSES)

    def figures(self, tally: Tensor) -> dict[str, float]:
        """Accuracy, balanced over the classes that occur, and each class's."""
        recalls = recalls_of(tally)
        named = {f"turned{angle}": recall for angle, recall in zip(ANGLES, recalls.tolist(), strict=True)}
        return {"accuracy": float(recalls.nanmean()), **named}


def recalls_of(confusion: Tensor) -> Tensor:
    """How much of each true class, a row, is found; NaN where there is none."""
    counts = confusion.double()
    return counts.diagonal() / counts.sum(dim=1)


def random_turns(batch: int, depth: int, slices: int) -> Tensor:
    """Quarter turns (B, D), int64, on the CPU: 0 but for ``slices`` chosen ones, at most all, which are 0 to 3."""
    chosen = torch.rand(batch, depth).argsort(dim=1)[:, :slices]
    return torch.zeros(batch, depth, dtype=torch.int64).scatter(1, chosen, torch.randint(CLASSES, chosen.shape))


def turn_(fragments: Tensor, turns: Tensor) -> Tensor:
    """Turn slices of fragments ``BCDHW``, H = W, by quarter ``turns`` (B, D), counterclockwise, where they lie.

    The slices of a batch that turn alike are turned together, and nothing of the others is copied: a copy of the batch
    would take several times as long as its turns. ``turns`` lie on the CPU, so that no device is waited for.
    """
    for quarters in range(1, CLASSES):
        which = (turns == quarters).nonzero(as_tuple=True)
        batch, depth = (index.to(fragments.device, non_blocking=True) for index in which)
        fragments[batch, :, depth] = torch.rot90(fragments[batch, :, depth], quarters, (-2, -1))
    return fragments


def rotation_loss(logits: Tensor, turns: Tensor, kind: Literal["softmax", "sigmoid"] = "softmax") -> Tensor:
    """(4.2) and (4.3): logits (B, D, 4) and classes (B, D) to one number."""
    rows, true = logits.float().flatten(0, 1), turns.flatten()
    shares = torch.bincount(true, minlength=CLASSES) / len(true)
    if kind == "softmax":
        losses = F.cross_entropy(rows, true, reduction="none")
    else:
        losses = F.binary_cross_entropy_with_logits(rows, F.one_hot(true, CLASSES).float(), reduction="none").sum(dim=1)
    return (losses / shares[true]).mean() / CLASSES
