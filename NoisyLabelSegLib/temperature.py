"""Temperature scaling (Guo et al. 2017): one number that logits are divided by, so that probabilities mean what they
say. A network with two branches has two, fitted one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional as F

from NoisyLabelSegLib.calibration import RegionName, region_mask
from NoisyLabelSegLib.errors import InputError

LEAST, LARGEST = 0.05, 20.0
MOST_VOXELS = 2_000_000


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature, 0.05 to 20, of the least negative log-likelihood; the arg max stays what it is.

    The likelihood has a single optimum in the temperature. When every voxel is right, it is close to the lower
    limit; where the logits say nothing, to the upper one.

    Args:
        logits: ``(voxels, N)``.
        labels: ``(voxels,)``, int64, 0 to N - 1.

    Raises:
        InputError: there is no voxel, a logit is not finite, or a label is no class.
    """
    if not len(labels):
        raise InputError("A temperature cannot be fitted without voxels: give cases with structures.")
    if not logits.isfinite().all():
        raise InputError("A temperature cannot be fitted to logits that are not finite: check the network's weights.")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise InputError(
            f"The labels are {labels.min()} to {labels.max()}, but the model has {logits.shape[1]} classes."
        )
    logits = logits.double()

    def loss(logarithm: float) -> float:
        return float(F.cross_entropy(logits / math.exp(logarithm), labels))

    found = minimize_scalar(loss, bounds=(math.log(LEAST), math.log(LARGEST)), method="bounded")
    return math.exp(found.x)


def sampled_voxels(
    cases: Iterable[tuple[Tensor, Tensor]], region: RegionName = "all", most: int = MOST_VOXELS, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """What `fit_temperature` needs, from cases that are read one after the other and forgotten.

    Of more voxels than ``most`` a random part is kept, each with the same chance whatever its case.

    Args:
        cases: each one's logits ``(N, ...)`` and labels ``(...)``, on the CPU.
        region: see `calibration`. A region chosen by the reference gives a wrong temperature, mostly too large a one.
        most: voxels that are kept.
        seed: of the choice.

    Raises:
        InputError: there are no cases, shapes do not fit, or a label is no class.
    """
    generator = np.random.default_rng(seed)
    kept: tuple[Tensor, Tensor, Tensor] | None = None
    for logits, labels in cases:
        chosen = torch.from_numpy(region_mask(logits.numpy(), labels.numpy(), region))
        ranks = torch.from_numpy(generator.random(int(chosen.sum())))
        new = logits[:, chosen].T, labels[chosen].long(), ranks
        kept = _lowest(new if kept is None else [torch.cat(pair) for pair in zip(kept, new, strict=True)], most)
    if kept is None:
        raise InputError("A temperature cannot be fitted without cases: add some to the data set's validation part.")
    return kept[0], kept[1]


def _lowest(voxels: Iterable[Tensor], most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Those of the lowest ranks, which come last."""
    logits, labels, ranks = voxels
    if len(ranks) > most:
        places = ranks.topk(most, largest=False).indices
        logits, labels, ranks = logits[places], labels[places], ranks[places]
    return logits, labels, ranks
