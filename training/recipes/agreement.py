"""How well a segmentation agrees with drawings, where there is no expert's label to measure by."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from training.data.drawings import Strategy
from training.data.windows import Windows


def agreement(
    predict: Callable[[Tensor], Tensor], windows: Windows, strategies: Sequence[Strategy], classes: int
) -> float:
    """Dice of what is drawn as a class and what is found there to be it, the mean over the classes.

    A pixel that is said not to be of a class and is found to be of it counts as found wrongly.

    Args:
        predict: maps images ``BCHW[D]`` to probabilities or logits.
        windows: with the strategies' drawings.
        strategies: who drew, and how.
        classes: L.
    """
    right, counted = torch.zeros(classes), torch.zeros(classes)
    for batch in DataLoader(windows, batch_size=1):
        labels = predict(batch["image"]).argmax(dim=1)
        for number, strategy in enumerate(strategies):
            codes = batch["drawn"][:, number]
            for value in range(classes):
                found = (labels == value) & (codes > 0)
                if strategy.complementary:
                    counted[value] += (found & (codes >> value & 1 > 0)).sum()
                else:
                    right[value] += 2 * (found & (codes == value + 1)).sum()
                    counted[value] += found.sum() + (codes == value + 1).sum()
    drawn = counted > 0
    return float((right[drawn] / counted[drawn]).mean()) if drawn.any() else 0.0
