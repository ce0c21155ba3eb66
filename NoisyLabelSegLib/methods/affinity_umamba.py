"""AffinityUMamba: a segmentation with an uncertainty that can be trusted, and the given labels that look wrong.

Zhang, Wang, Nailon, Cheng, "AffinityUMamba: uncertainty-aware medical image segmentation via probabilistic weak
supervision beyond gold-standard annotations", MICCAI 2025. The network's text has equations (1) and (2); here are (3)
to (6), which training uses as they are (`refine_labels`) and inference as a score (`suspects`).

Decisions where the paper is silent or contradicts itself:

- The features in (3) are the branches' class probabilities: p has as many channels as there are classes, and a cosine
  of logits depends on the constant that softmax ignores.
- (5): ``"union"`` is the formula, a voxel is flagged when either branch objects; ``"intersection"`` is the text, "both
  decoders".
- (6) makes a flagged voxel background when E_CNN <= E_AM: ``"paper"``. ``"keep"`` leaves the given label there,
  ``"cnn"`` takes the label of the CNN branch, which is then the surer one.
- The voxel itself is one of its neighbours in (5), as in the paper's sums over N(k); its cosine is 1.
- A network with one branch (any other segmentation network) is measured by the same functions: its branch stands for
  both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from NoisyLabelSegLib.bundle.strict_json import convert
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.ops.neighbourhood import label_affinity

Conflict = Literal["union", "intersection"]
Fallback = Literal["paper", "keep", "cnn"]
Score = Literal["probability", "affinity", "both"]
SIZE = 3
"""k, the width of a neighbourhood."""


@dataclass(frozen=True)
class Arguments:
    """What a bundle's ``method_arguments`` hold.

    Attributes:
        temperatures: each branch's logits are divided by its own, the prediction's first: fitted on validation data at
            export. One holds for all branches.
        score: how a given label is doubted, see `suspects`.
        threshold: least score of a voxel that belongs to a suspect region.
        mirror: axes of the network's input over whose flips predictions may be averaged.
    """

    temperatures: tuple[float, ...] = (1.0,)
    score: Score = "both"
    threshold: float = 0.5
    mirror: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not all(0.01 <= t <= 100 for t in self.temperatures) or len(self.temperatures) not in (1, 2):
            raise InputError("temperatures must lie between 0.01 and 100, one for each of one or two branches.")
        if not 0 < self.threshold < 1:
            raise InputError(f"threshold must lie between 0 and 1, not {self.threshold}.")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Arguments:
        """Read a bundle's mapping; an unknown or wrong key is an `InputError`."""
        return convert(cls, dict(values), "AffinityUMamba's method_arguments")


@dataclass(frozen=True)
class Uncertainty:
    """A prediction and how sure it is.

    Attributes:
        labels: ``BHW[D]``, int64: the arg max of `probabilities`.
        probabilities: ``BNHW[D]``, float32, the background first.
        entropy: ``BHW[D]``, 0 (sure) to 1 (all classes equally probable).
        confidence: ``BHW[D]``, the largest probability, 1 / N to 1.
    """

    labels: Tensor
    probabilities: Tensor
    entropy: Tensor
    confidence: Tensor


@dataclass(frozen=True)
class Relabelled:
    """What LALR makes of given labels, ``BHW[D]``: `labels` int64, and where it `flagged` them."""

    labels: Tensor
    flagged: Tensor


def temperature_of_each(temperatures: Sequence[float], branches: int) -> tuple[float, ...]:
    """One for each branch; what is given for one holds for all."""
    given = tuple(temperatures)
    return given if len(given) == branches else given[:1] * branches


def branches_of(logits: Tensor, classes: int) -> tuple[Tensor, ...]:
    """A network's output ``B(kN)HW[D]`` as its branches' logits ``BNHW[D]``, the prediction's first."""
    return logits.split(classes, dim=1)


def normalised_entropy(probabilities: Tensor) -> Tensor:
    """Entropy over the classes of ``BNHW[D]``, divided by log N: 0 to 1, ``BHW[D]``."""
    total = torch.zeros_like(probabilities[:, 0])
    for one in probabilities.unbind(dim=1):  # class by class: whole volumes come here
        total += torch.special.entr(one)
    return total / math.log(probabilities.shape[1])


def uncertainty(logits: Tensor, classes: int, temperature: float = 1.0) -> Uncertainty:
    """What a network's output says: that of its first branch, the prediction."""
    return uncertainty_of(torch.softmax(branches_of(logits, classes)[0].float() / temperature, dim=1))


def uncertainty_of(probabilities: Tensor) -> Uncertainty:
    """What probabilities ``BNHW[D]`` say."""
    confidence, labels = probabilities.max(dim=1)
    return Uncertainty(labels, probabilities, normalised_entropy(probabilities).clamp(0, 1), confidence)


@torch.no_grad()
def refine_labels(
    am: Tensor, cnn: Tensor, given: Tensor, conflict: Conflict = "union", fallback: Fallback = "keep"
) -> Relabelled:
    """LALR: equations (3) to (6), without gradient.

    Args:
        am, cnn: the branches' logits ``BNHW[D]``.
        given: the labels ``BHW[D]``, int64.
        conflict, fallback: see the module's text.
    """
    branches = [torch.softmax(logits.float(), dim=1) for logits in (am, cnn)]
    objections = [_objection(p, p.argmax(dim=1), given) for p in branches]
    doubted = [(same < 0.5) & (other > 0.5) for same, other in objections]
    flagged = doubted[0] | doubted[1] if conflict == "union" else doubted[0] & doubted[1]
    am_is_surer = normalised_entropy(branches[1]) > normalised_entropy(branches[0])
    am_labels, cnn_labels = (p.argmax(dim=1) for p in branches)
    otherwise = {"paper": torch.zeros_like(given), "keep": given, "cnn": cnn_labels}[fallback]
    labels = torch.where(flagged, torch.where(am_is_surer, am_labels, otherwise), given)
    return Relabelled(labels, flagged)


def _objection(features: Tensor, predicted: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
    """a_pos and a_neg of equation (5): affinity to neighbours given the label that is predicted here, or another."""
    return label_affinity(features, given, predicted, features.shape[1], SIZE)


@torch.no_grad()
def suspects(logits: Tensor, given: Tensor, classes: int, arguments: Arguments) -> tuple[Tensor, Tensor]:
    """How wrong each given label looks, and which one the network would have given.

    Scores, each the mean over the branches:

    - ``"probability"``: 1 - p(given label).
    - ``"affinity"``: LALR's evidence made continuous, (1 + a_neg - a_pos) / 2 where the prediction differs from the
      given label, else 0.
    - ``"both"``: (1 - p(given label)) * (1 + a_neg - a_pos) / 2, with no jump where the prediction changes.

    Args:
        logits: the network's output ``B(kN)HW[D]``.
        given: the labels ``BHW[D]``, int64.
        classes: N.
        arguments: see `Arguments`.

    Returns:
        The score ``BHW[D]``, 0 to 1, and the suggested label ``BHW[D]``, int64: the arg max of the branches' mean.
    """
    branches = branches_of(logits, classes)
    temperatures = temperature_of_each(arguments.temperatures, len(branches))
    found = [torch.softmax(part.float() / t, dim=1) for part, t in zip(branches, temperatures, strict=True)]
    score = torch.stack([_doubt(p, given, arguments.score) for p in found]).mean(dim=0)
    return score, torch.stack(found).mean(dim=0).argmax(dim=1)


def _doubt(probabilities: Tensor, given: Tensor, score: Score) -> Tensor:
    improbable = 1 - probabilities.gather(1, given.unsqueeze(1)).squeeze(1)
    if score == "probability":
        return improbable
    predicted = probabilities.argmax(dim=1)
    same, other = _objection(probabilities, predicted, given)
    evidence = ((1 + other - same) / 2).clamp(0, 1)  # cosines may leave 0 to 1 by rounding
    return evidence * (improbable if score == "both" else (predicted != given))
