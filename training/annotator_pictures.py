"""Pictures of where annotators err: an image, what a network sees in it, and how probably somebody draws otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from NoisyLabelSegLib.report_pictures import GREY_LEVELS, enlarge, grey_levels
from NoisyLabelSegLib.uncertainty_pictures import overlaid


@dataclass(frozen=True)
class Seen:
    """A slice as the network and an annotator's matrices see it.

    Attributes:
        image: (rows, columns).
        labels: the most probable classes.
        errors: how probably the annotator draws something else there, 0 to 1; one map for each strategy.
    """

    image: NDArray[np.float32]
    labels: NDArray[np.int64]
    errors: NDArray[np.float32]


def seen(image: Tensor, logits: Tensor, errors: Sequence[Tensor]) -> Seen:
    """A batch of one, ``BCHW[D]``, of a volume its middle slice; each strategy has an error for each pixel."""
    labels = logits.argmax(dim=1)
    maps = torch.stack([one.view(labels.shape) for one in errors])
    if labels.ndim == 4:  # of a volume its middle slice
        middle = labels.shape[1] // 2
        image, labels, maps = image[:, :, middle], labels[:, middle], maps[:, :, middle]
    return Seen(image[0, 0].numpy(), labels[0].numpy(), maps[:, 0].numpy())


def picture(slices: Sequence[Seen], number: int) -> NDArray[np.uint8]:
    """A row for each slice: the image, what the network sees, and how probably the annotator draws otherwise."""
    rows = []
    for one in slices:
        grey = enlarge(grey_levels(one.image), (1, 1)).astype(float) * 255 / (GREY_LEVELS - 1)
        plain = np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)
        labels = enlarge(one.labels / max(1, one.labels.max()), (1, 1))
        rows.append(np.hstack([plain, overlaid(plain, labels), overlaid(plain, enlarge(one.errors[number], (1, 1)))]))
    width = max(row.shape[1] for row in rows)
    return np.vstack([np.pad(row, ((0, 4), (0, width - row.shape[1]), (0, 0))) for row in rows])
