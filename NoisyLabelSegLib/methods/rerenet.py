"""ReReNet: recurrent refinement of a coarse mask.

Jiang, Li et al., "From non-expert to expert: recurrent refined learning for medical image segmentation", BIBM 2024;
C. Li, PhD thesis, University of Groningen 2026, chapter 3. Equation (3.1): y^k = f(x + y^{k-1}), where + joins
channels, y^0 is the given coarse mask and the hard mask of one stage is the input of the next.

Decisions where the paper is silent:

- Classes: one coarse channel a foreground class, softmax over background and classes. With one class this is the
  paper's sigmoid, written with two logits.
- `update`: ``"replace"`` is the paper's (y^k is the arg max of stage k alone). ``"mean"`` takes the arg max of the mean
  of all stages' probabilities: a stage then changes only what outweighs all stages before it, so that stages cannot
  drift away or swing between two masks.
- `memory`: False is the paper's input, image and latest mask. True adds the given mask y^0 as further channels at every
  stage: what the person drew is evidence that later stages must not forget, and without it they drift.
- An item (a slice, or a volume in 3D) whose mask a stage did not change is done: more stages are an upper bound. With
  ``"replace"`` every later stage would give the same mask again. With ``"mean"`` this is a rule, not a theorem: the
  probabilities still move, and a later stage might have changed the mask once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from NoisyLabelSegLib.bundle.strict_json import convert
from NoisyLabelSegLib.errors import InputError

Update = Literal["replace", "mean"]
MOST_STAGES = 9


def check_stages(stages: int) -> None:
    """Refuse an upper bound of stages that is not 1 to `MOST_STAGES`."""
    if not 1 <= stages <= MOST_STAGES:
        raise InputError(f"The number of stages must lie between 1 and {MOST_STAGES}, not {stages}.")


@dataclass(frozen=True)
class Arguments:
    """What a bundle's ``method_arguments`` hold.

    Attributes:
        stages: upper bound of stages, 1 to `MOST_STAGES`.
        update, memory: see the module's text.
    """

    stages: int = 5
    update: Update = "mean"
    memory: bool = False

    def __post_init__(self) -> None:
        check_stages(self.stages)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Arguments:
        """Read a bundle's mapping; an unknown or wrong key is an `InputError`."""
        return convert(cls, dict(values), "ReReNet's method_arguments")


@dataclass(frozen=True)
class Stage:
    """One stage's outcome for all items of a batch.

    Attributes:
        number: 1 for the first stage.
        labels: hard mask ``BHW[D]``, int64, 0 = background.
        probabilities: ``BNHW[D]``, float32, N classes with the background first; their arg max is `labels`.
        changed: bool ``B``, whether this stage changed an item.
    """

    number: int
    labels: Tensor
    probabilities: Tensor
    changed: Tensor


def coarse_channels(labels: Tensor, classes: int) -> Tensor:
    """Turn a label map ``BHW[D]`` into one float channel a foreground class, ``B(classes-1)HW[D]``."""
    return F.one_hot(labels, classes).movedim(-1, 1)[:, 1:].float()


def input_channels(image_channels: int, classes: int, *, memory: bool) -> int:
    """Channels of `network_input`."""
    return image_channels + (classes - 1) * (2 if memory else 1)


def network_input(image: Tensor, labels: Tensor, given: Tensor | None, classes: int) -> Tensor:
    """Join an image ``BCHW[D]`` and label maps ``BHW[D]`` along the channels: equation (3.1)'s input.

    Args:
        image: preprocessed image.
        labels: the previous stage's mask.
        given: the given mask y^0 for a network with memory, else None.
        classes: number of classes with the background.
    """
    maps = [labels] if given is None else [labels, given]
    return torch.cat([image, *(coarse_channels(m, classes) for m in maps)], dim=1)


def refine(
    predict: Callable[[Tensor], Tensor],
    image: Tensor,
    start: Tensor,
    classes: int,
    stages: int = 5,
    update: Update = "mean",
    *,
    memory: bool = False,
) -> Iterator[Stage]:
    """Refine a label map stage by stage, yielding each stage as it is done.

    Args:
        predict: maps `network_input` to logits ``BNHW[D]``.
        image: ``BCHW[D]``, preprocessed.
        start: int64 ``BHW[D]``, the coarse mask; all zeros to start from nothing.
        classes: number of classes with the background.
        stages: upper bound K of equation (3.1); iteration ends earlier once no item changes.
        update, memory: see the module's text.
    """
    labels = start.clone()
    probabilities = torch.zeros(start.shape[0], classes, *start.shape[1:], device=image.device)
    active = torch.arange(start.shape[0], device=image.device)
    for number in range(1, stages + 1):
        given = start[active] if memory else None
        logits = predict(network_input(image[active], labels[active], given, classes))
        latest = torch.softmax(logits.float(), dim=1)
        if update == "mean":
            latest = probabilities[active] + (latest - probabilities[active]) / number
        probabilities[active] = latest
        refined = latest.argmax(dim=1)
        moved = (refined != labels[active]).flatten(1).any(dim=1)
        labels[active] = refined
        changed = torch.zeros(start.shape[0], dtype=torch.bool, device=image.device)
        changed[active] = moved
        yield Stage(number, labels.clone(), probabilities.clone(), changed)
        active = active[moved]
        if len(active) == 0:
            return
