"""Whether probabilities mean what they say: calibration errors over the voxels of many cases, from counts that can be
added.

- Top-label ECE (Guo et al. 2017): voxels are sorted by confidence, the largest probability, into 15 bins of equal
  width; the mean over voxels of |share of correct ones in their bin - mean confidence in their bin|.
- Classwise ECE, CECE (Kull et al. 2019): the same for each class's probability against the share of voxels of that
  class, then the mean over the foreground classes. The background is left out: with one structure it repeats that
  one's error, and with many it would be one rule for them and another for the class that nobody asks for.
- Negative log-likelihood and Brier score (the sum over all classes, 0 to 2), which also fall when a model becomes
  better rather than better calibrated.

A bin has its upper edge, not its lower one: (0, 1/15], ..., (14/15, 1]; a probability of 0 belongs to the first.

Each figure is either pooled over the voxels of all cases, or the mean over cases of each case's own: two different
numbers. A region without voxels has no figures: NaN, and no part in means. The regions:

- ``"all"`` voxels, and ``"predicted"``, where the prediction has a structure, do not look at the reference, so a
  calibrated model has no error in them. Easy background makes "all" small; "predicted" leaves out what was missed.
- ``"foreground"``, where the reference has a structure, as AffinityUMamba's paper reports, and ``"union"``, where
  either has one, are chosen by the answer. Background that was rightly given a small chance of being a structure is
  left out, unless it was one: the smaller the structures, the more even a calibrated model seems too sure of itself,
  and one that is less sure than it should be is favoured. The union adds what was found too much, mistakes alone, and
  favours it more. Compare models in them, but tune nothing to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from NoisyLabelSegLib.errors import InputError

RegionName = Literal["all", "predicted", "foreground", "union"]
Counts = NDArray[np.float64]
BINS = 15
FIGURES = ("ece", "cece", "nll", "brier")

LEAST_PROBABILITY = 1e-12
"""Stands for less in logarithms: one voxel with a probability of 0 would make a data set's likelihood infinite."""


class Bins(NamedTuple):
    """What a reliability diagram shows, ``(M,)`` each: means over a bin's voxels (NaN without any), and its share."""

    confidence: Counts
    accuracy: Counts
    share: Counts


@dataclass(frozen=True, eq=False)
class CalibrationCounts:
    """Sums over voxels; those of bins are ``(1 + N, M)``: the first row is the top label's, the others the classes'.

    Attributes:
        voxels: how many lie in the bin.
        confidence: sum of their probabilities.
        correct: how many have the label.
        surprise: sum of -log p(label), over all voxels.
        distance: sum of |p - one-hot label|², over all voxels.
    """

    voxels: Counts
    confidence: Counts
    correct: Counts
    surprise: float
    distance: float

    def __add__(self, other: CalibrationCounts) -> CalibrationCounts:
        if self.voxels.shape != other.voxels.shape:
            raise ValueError(
                f"Counts of {self.voxels.shape} and {other.voxels.shape} classes and bins cannot be added."
            )
        return CalibrationCounts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def total(self) -> int:
        """The number of voxels."""
        return int(self.voxels[0].sum())

    @property
    def ece(self) -> float:
        """Top-label ECE, 0 to 1."""
        return self._mean(self._gaps()[0])

    @property
    def cece(self) -> float:
        """Classwise ECE, the mean over the foreground classes, 0 to 1."""
        return self._mean(self._gaps()[2:].mean())

    @property
    def nll(self) -> float:
        """Negative log-likelihood in nats."""
        return self._mean(self.surprise)

    @property
    def brier(self) -> float:
        """Brier score, 0 to 2."""
        return self._mean(self.distance)

    def bins(self) -> Bins:
        """The top label's bins."""
        voxels = np.where(self.voxels[0] > 0, self.voxels[0], np.nan)
        share = self.voxels[0] / max(1, self.total)
        return Bins(self.confidence[0] / voxels, self.correct[0] / voxels, share)

    def _gaps(self) -> Counts:
        return np.abs(self.correct - self.confidence).sum(axis=1)

    def _mean(self, value: float) -> float:
        return float(value) / self.total if self.total else float("nan")


def counts_of(
    probabilities: NDArray[Any], labels: NDArray[Any], region: RegionName = "foreground", bins: int = BINS
) -> CalibrationCounts:
    """Count one case.

    Args:
        probabilities: ``(N, ...)``, the background first; they sum to 1.
        labels: the reference, ``(...)``, 0 to N - 1.
        region: see the module's text.
        bins: M.

    Raises:
        InputError: shapes that do not fit, labels that are no class, probabilities that are none.
    """
    _check_probabilities(probabilities)
    chosen = region_mask(probabilities, labels, region)
    p, y = probabilities[:, chosen], labels[chosen].astype(np.intp)
    top = p.argmax(axis=0)
    rows = [_binned(_of(p, top), top == y, bins), *(_binned(p[c], y == c, bins) for c in range(len(p)))]
    given = _of(p, y).astype(np.float64)
    surprise = -np.log(given.clip(LEAST_PROBABILITY)).sum()
    distance = sum(np.square(row, dtype=np.float64).sum() for row in p) + (1 - 2 * given).sum()
    voxels, confidence, correct = np.stack(rows, axis=1)
    return CalibrationCounts(voxels, confidence, correct, float(surprise), float(distance))


def calibration(cases: Sequence[CalibrationCounts]) -> dict[str, float]:
    """Each of `FIGURES` pooled over the cases, and with ``_by_case`` the mean over the cases that have any voxel."""
    if not cases:
        raise InputError("There is nothing to measure: there are no cases.")
    pooled = sum(cases[1:], cases[0])
    filled = [case for case in cases if case.total] or [pooled]
    by_case = {f"{name}_by_case": float(np.mean([getattr(case, name) for case in filled])) for name in FIGURES}
    return {name: getattr(pooled, name) for name in FIGURES} | by_case


def region_mask(scores: NDArray[Any], labels: NDArray[Any], region: RegionName) -> NDArray[np.bool_]:
    """The voxels of a region, see the module's text.

    Args:
        scores: ``(N, ...)``, the background first: probabilities or logits.
        labels: the reference, ``(...)``, 0 to N - 1.

    Raises:
        InputError: shapes that do not fit, labels that are no class, a region that is none.
    """
    _check_labels(scores, labels)
    if region not in get_args(RegionName):
        raise InputError(f"'{region}' is no region of calibration: choose one of {', '.join(get_args(RegionName))}.")
    if region == "all":
        return np.ones(labels.shape, bool)
    if region == "foreground":
        return np.asarray(labels > 0)
    predicted = scores.argmax(axis=0) > 0
    return np.asarray(predicted if region == "predicted" else predicted | (labels > 0))


def _check_labels(scores: NDArray[Any], labels: NDArray[Any]) -> None:
    if scores.shape[1:] != labels.shape or len(scores) < 2:
        raise InputError(f"Scores of shape {scores.shape} do not fit labels of shape {labels.shape}: (classes, ...).")
    if labels.dtype.kind not in "biu":
        raise InputError(f"The labels are {labels.dtype}: give whole numbers.")
    if labels.size and not (labels.min() >= 0 and labels.max() < len(scores)):
        found = f"{labels.min()} to {labels.max()}"
        raise InputError(f"The labels are {found}, but the model's {len(scores)} classes are 0 to {len(scores) - 1}.")


def _check_probabilities(probabilities: NDArray[Any]) -> None:
    sums = probabilities.sum(axis=0, dtype=np.float64)
    if not np.allclose(sums, 1, rtol=0, atol=1e-3) or (probabilities < 0).any():
        raise InputError("The probabilities are not 0 to 1 with a sum of 1 at every voxel: apply a softmax first.")


def _of(p: NDArray[Any], label: NDArray[np.intp]) -> NDArray[Any]:
    return np.take_along_axis(p, label[None], axis=0)[0]


def _binned(probability: NDArray[Any], correct: NDArray[np.bool_], bins: int) -> Counts:
    """Sums of voxels, probabilities and correct ones in each bin, ``(3, M)``."""
    place = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], probability)
    return np.array([np.bincount(place, weights, bins) for weights in (None, probability, correct)], np.float64)
