"""Masked-image modelling as SimMIM has it (Xie et al., CVPR 2022): boxes of a fragment are hidden, and what was there
is told, in one linear layer, from the deepest features; the mean absolute error over what was hidden is the loss.

What is hidden is zero, the mean of an image that is z-scored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from NoisyLabelSegLib.errors import InputError
from training.pretext.encoder import Encoder
from training.pretext.task import Task


@dataclass(frozen=True)
class MaskedSettings:
    """See the module's text.

    Attributes:
        weight: of its loss among those of all tasks.
        share: of the boxes that are hidden (paper: 0.6).
        box: slices, rows and columns of a box.
    """

    weight: float = 1.0
    share: float = 0.6
    box: tuple[int, int, int] = (4, 8, 8)

    def __post_init__(self) -> None:
        if not 0 < self.share < 1 or min(self.box) < 1:
            raise ValueError("settings.tasks.masked.share must lie between 0 and 1, and .box be positive")


class Masked(Task):
    """See the module's text."""

    def __init__(self, settings: MaskedSettings, encoder: Encoder, channels: int) -> None:
        super().__init__()
        self.settings, self.strides = settings, encoder.strides
        counts, hidden = boxes_of(encoder.window, settings.box, settings.share)
        if hidden == math.prod(counts):
            raise InputError(
                f"Of {hidden} boxes in a window of {list(encoder.window)} voxels all are hidden: make "
                "settings.tasks.masked.box or .share smaller."
            )
        self.head = nn.Conv3d(encoder.features, channels * math.prod(encoder.strides), 1)

    def forward(self, encoder: Encoder, fragments: Tensor) -> Tensor:
        hidden = random_boxes(fragments.shape, self.settings.box, self.settings.share).to(fragments.device)
        features = encoder(fragments * ~hidden)
        told = spread(self.head(features).float(), self.strides, fragments.shape[2:])
        errors = (told - fragments).abs() * hidden
        return errors.sum() / (hidden.sum() * fragments.shape[1]).clamp(min=1)

    def tally(self, encoder: Encoder, fragments: Tensor) -> Tensor:
        """The loss, once for each fragment, and their number."""
        return torch.stack([self(encoder, fragments).cpu() * len(fragments), torch.tensor(float(len(fragments)))])

    def figures(self, tally: Tensor) -> dict[str, float]:
        error = float(tally[0] / tally[1])
        return {"unhidden": -error}


def boxes_of(size: Sequence[int], box: Sequence[int], share: float) -> tuple[list[int], int]:
    """How many boxes lie along each axis of a window, the last ones cut off, and how many of all are hidden."""
    counts = [math.ceil(whole / side) for whole, side in zip(size, box, strict=True)]
    return counts, max(1, round(share * math.prod(counts)))


def random_boxes(shape: Sequence[int], box: Sequence[int], share: float) -> Tensor:
    """Which voxels of fragments ``BCDHW`` lie in hidden boxes, bool ``B1DHW``: the same share of all boxes in each."""
    counts, hidden = boxes_of(shape[2:], box, share)
    ranks = torch.rand(shape[0], math.prod(counts)).argsort(dim=1).argsort(dim=1)
    boxes = (ranks < hidden).view(shape[0], 1, *counts)
    for axis, (side, size) in enumerate(zip(box, shape[2:], strict=True), 2):
        boxes = boxes.repeat_interleave(side, dim=axis).narrow(axis, 0, size)
    return boxes


def spread(values: Tensor, strides: Sequence[int], size: Sequence[int]) -> Tensor:
    """Features ``B(C·a·b·c)DHW`` as voxels ``BC(D·a)(H·b)(W·c)``, cut to ``size``."""
    batch, _, *coarse = values.shape
    parts = values.view(batch, -1, *strides, *coarse).permute(0, 1, 5, 2, 6, 3, 7, 4)
    whole = parts.reshape(batch, parts.shape[1], *(n * s for n, s in zip(coarse, strides, strict=True)))
    return whole[..., : size[0], : size[1], : size[2]]
