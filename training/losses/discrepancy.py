"""ReReNet's discrepancy-aware loss: thesis equations (3.2) to (3.6).

Decisions:

- (3.4) is written as a sum over pixels; the mean is taken instead, else alpha in (3.5) balances nothing.
- Several classes: the discrepancy XOR(y^{k-1}, y) becomes y^{k-1} != y and the binary cross-entropy a cross-entropy.
- (3.6) with sigma = 1 and k >= 1 is 2^k: kept as ``"paper"``; ``"uniform"`` is 1 and ``"normalised"`` the paper's
  weights scaled so that they sum to the number of stages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from training.losses.maps import cross_entropy_map, dice_map

StageWeight = Literal["paper", "uniform", "normalised"]


def stage_weight(stage: int, stages: int, kind: StageWeight, sigma: float = 1) -> float:
    """Weight of stage ``stage`` (1 ... ``stages``), equation (3.6) and its alternatives."""
    if kind == "uniform":
        return 1.0
    weights = [max(sigma, 2.0**k) for k in range(1, stages + 1)]
    scale = stages / sum(weights) if kind == "normalised" else 1.0
    return scale * weights[stage - 1]


def discrepancy_weight(previous: Tensor, expert: Tensor, factor: float = 10.0) -> Tensor:
    """Equation (3.3): ``factor * (previous != expert) + 1``, as a float map of the labels' shape ``BHW[D]``."""
    return factor * (previous != expert).float() + 1.0


@dataclass(frozen=True)
class DiscrepancyLoss:
    """Equation (3.5): ``alpha * Dice + (1 - alpha) * weighted cross-entropy``.

    Attributes:
        alpha: weight of the Dice term, 0 to 1 (paper: 0.8).
        factor: lambda of equation (3.3) (paper: 10).
        dice_only_epochs: epochs at the start in which the Dice term stands alone (paper: 20).
        stage_weight, sigma: see `stage_weight`; sigma is the least weight.
    """

    alpha: float = 0.8
    factor: float = 10.0
    dice_only_epochs: int = 20
    stage_weight: StageWeight = "paper"
    sigma: float = 1

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must lie between 0 and 1, not {self.alpha}")

    def __call__(self, logits: Tensor, previous: Tensor, expert: Tensor, epoch: int, stage: int, stages: int) -> Tensor:
        """The loss of each pixel in one stage, ``BHW[D]``; the mean is (3.5).

        Args:
            logits: ``BNHW[D]`` of stage ``stage``.
            previous: the label map ``BHW[D]`` that the stage was given, y^{k-1}.
            expert: the expert's label map ``BHW[D]``.
            epoch: counted from 0.
            stage: counted from 1.
            stages: how many stages are trained.
        """
        loss = dice_map(logits, expert)
        if epoch >= self.dice_only_epochs:
            weighted = discrepancy_weight(previous, expert, self.factor) * cross_entropy_map(logits, expert)
            loss = self.alpha * loss + (1 - self.alpha) * weighted
        return stage_weight(stage, stages, self.stage_weight, self.sigma) * loss
