"""ReReNet's loss against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from training.losses.discrepancy import (
    DiscrepancyLoss,
    StageWeight,
    discrepancy_weight,
    stage_weight,
)
from training.losses.maps import dice_cross_entropy_map, dice_map

# One row of four pixels: foreground probabilities 3/4, 1/4, 1/4, 3/4 against the truth 1, 1, 0, 0.
P = torch.tensor([0.75, 0.25, 0.25, 0.75])
LOGITS = torch.stack([torch.zeros(4), torch.log(P / (1 - P))]).reshape(1, 2, 1, 4)
EXPERT = torch.tensor([[[1, 1, 0, 0]]])
PREVIOUS = torch.tensor([[[1, 0, 0, 1]]])
DICE = 1 - 2 * 1.0 / (2 + 2)
ENTROPY = -torch.log(torch.tensor([0.75, 0.25, 0.75, 0.25]))


@pytest.mark.parametrize(
    ("kind", "weights"),
    [("paper", [2, 4, 8, 16]), ("uniform", [1, 1, 1, 1]), ("normalised", [4 / 15, 8 / 15, 16 / 15, 32 / 15])],
)
def test_stage_weights(kind: StageWeight, weights: list[float]) -> None:
    assert [stage_weight(k, 4, kind) for k in range(1, 5)] == pytest.approx(weights)


@pytest.mark.parametrize(("sigma", "weight"), [(1, 4), (4, 4), (5, 5)])
def test_sigma_is_the_least_weight(sigma: float, weight: float) -> None:
    least, plain = DiscrepancyLoss(sigma=sigma), DiscrepancyLoss(stage_weight="uniform")
    losses = [loss(LOGITS, PREVIOUS, EXPERT, 20, 2, 5).mean().item() for loss in (least, plain)]
    assert losses[0] == pytest.approx(weight * losses[1])


@pytest.mark.parametrize("stages", range(1, 10))
def test_normalised_weights_sum_to_the_number_of_stages(stages: int) -> None:
    assert sum(stage_weight(k, stages, "normalised") for k in range(1, stages + 1)) == pytest.approx(stages)


def test_pixels_that_differ_weigh_eleven_times() -> None:
    assert discrepancy_weight(PREVIOUS, EXPERT).tolist() == [[[1, 11, 1, 11]]]
    assert discrepancy_weight(PREVIOUS, EXPERT, factor=3).tolist() == [[[1, 4, 1, 4]]]
    several = discrepancy_weight(torch.tensor([1, 2, 0, 2]), torch.tensor([1, 1, 1, 2]))
    assert several.tolist() == [1, 11, 11, 1]


def test_dice_of_known_probabilities() -> None:
    assert dice_map(LOGITS, EXPERT).mean().item() == pytest.approx(DICE, abs=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.8, 1.0])
@pytest.mark.parametrize("stage", [1, 3])
def test_dice_and_weighted_entropy(alpha: float, stage: int) -> None:
    weighted = (torch.tensor([1.0, 11.0, 1.0, 11.0]) * ENTROPY).mean().item()
    expected = 2**stage * (alpha * DICE + (1 - alpha) * weighted)
    loss = DiscrepancyLoss(alpha=alpha)(LOGITS, PREVIOUS, EXPERT, epoch=20, stage=stage, stages=5).mean()
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("epoch", "alone"), [(0, True), (19, True), (20, False), (100, False)])
def test_dice_stands_alone_in_the_first_epochs(epoch: int, alone: bool) -> None:
    loss = DiscrepancyLoss(stage_weight="uniform")(LOGITS, PREVIOUS, EXPERT, epoch, 1, 5).mean().item()
    assert (loss == pytest.approx(DICE, abs=1e-5)) == alone


def test_two_classes_are_the_paper_s_sigmoid() -> None:
    torch.manual_seed(0)
    logits, labels, previous = torch.randn(3, 2, 5, 6), torch.randint(0, 2, (3, 5, 6)), torch.randint(0, 2, (3, 5, 6))
    weight = discrepancy_weight(previous, labels)
    difference = logits[:, 1] - logits[:, 0]
    binary = F.binary_cross_entropy_with_logits(difference, labels.float(), weight)
    losses = DiscrepancyLoss(alpha=0, dice_only_epochs=0, stage_weight="uniform")(logits, previous, labels, 0, 1, 1)
    torch.testing.assert_close(losses.mean(), binary)
    torch.testing.assert_close(torch.softmax(logits, 1)[:, 1], torch.sigmoid(difference))


@pytest.mark.parametrize("size", [(8, 8), (4, 8, 8)], ids=["2D", "3D"])
@pytest.mark.parametrize("expert", ["empty", "mixed", "full"])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_the_gradient_is_finite(size: tuple[int, ...], expert: str, scale: float) -> None:
    torch.manual_seed(0)
    logits = (scale * torch.randn(2, 3, *size)).requires_grad_()
    labels = {"empty": torch.zeros, "full": torch.ones}.get(expert, lambda *s, dtype: torch.randint(0, 3, s))(
        2, *size, dtype=torch.int64
    )
    loss = DiscrepancyLoss(dice_only_epochs=0)(logits, torch.zeros_like(labels), labels, 0, 5, 5).mean()
    loss.backward()
    assert math.isfinite(loss.item())
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


def test_a_better_prediction_costs_less() -> None:
    right = 5 * F.one_hot(EXPERT, 2).movedim(-1, 1).float()
    for loss in (DiscrepancyLoss(dice_only_epochs=0), DiscrepancyLoss()):
        assert loss(right, PREVIOUS, EXPERT, 0, 1, 1).mean() < loss(LOGITS, PREVIOUS, EXPERT, 0, 1, 1).mean()
    assert dice_cross_entropy_map(right, EXPERT).mean() < dice_cross_entropy_map(LOGITS, EXPERT).mean()


def test_the_baseline_is_dice_plus_entropy() -> None:
    assert dice_cross_entropy_map(LOGITS, EXPERT).mean().item() == pytest.approx(DICE + ENTROPY.mean().item(), rel=1e-5)


@pytest.mark.parametrize("alpha", [-0.1, 1.1])
def test_alpha_is_a_share(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha"):
        DiscrepancyLoss(alpha=alpha)
