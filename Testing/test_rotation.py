"""The rotation task: slices are turned all at once as one by one, and weighed as (4.2) and (4.3) say."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from training.benchmarks.rotation import by_gather, by_where
from training.pretext.rotation import CLASSES, random_turns, recalls_of, rotation_loss, turn_


def one_by_one(fragments: Tensor, turns: Tensor) -> Tensor:
    result = fragments.clone()
    for b, d in ((b, d) for b in range(turns.shape[0]) for d in range(turns.shape[1])):
        for c in range(fragments.shape[1]):
            result[b, c, d] = torch.rot90(fragments[b, c, d], int(turns[b, d]), (0, 1))
    return result


@pytest.mark.parametrize("way", [turn_, by_where, by_gather])
@pytest.mark.parametrize("shape", [(3, 2, 5, 4, 4), (1, 1, 16, 7, 7)])
def test_a_batch_is_turned_as_its_slices_are_one_by_one(
    way: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    fragments, turns = torch.randn(shape), torch.randint(4, shape[0:3:2])
    expected = one_by_one(fragments, turns)
    assert torch.equal(way(fragments, turns), expected)


def test_turns_there_and_back_give_the_same() -> None:
    fragments, turns = torch.randn(2, 1, 6, 5, 5), torch.randint(4, (2, 6))
    assert torch.equal(turn_(turn_(fragments.clone(), turns), -turns % 4), fragments)


@pytest.mark.parametrize("slices", [2, 4, 6, 16, 20])
def test_of_the_chosen_slices_a_quarter_stays(slices: int) -> None:
    torch.manual_seed(0)
    turns = random_turns(2000, 16, slices)
    chosen = min(slices, 16)
    assert int((turns > 0).sum(dim=1).max()) == chosen
    shares = torch.bincount(turns.flatten(), minlength=CLASSES) / turns.numel()
    torch.testing.assert_close(shares[1:], torch.full((3,), chosen / 64), rtol=0.08, atol=0)
    by_slice = (turns > 0).float().mean(dim=0)
    assert by_slice.max() - by_slice.min() < 0.1, "all slices are chosen alike"


def literal(logits: Tensor, turns: Tensor) -> Tensor:
    """(4.2) summed over y, with the one-hot target that it leaves out, and (4.3) over all slices of a mini-batch."""
    probabilities = logits.double().exp() / logits.double().exp().sum(dim=2, keepdim=True)
    counts = [int((turns == y).sum()) for y in range(4)]
    total = torch.zeros((), dtype=torch.float64)
    for b, d in ((b, d) for b in range(turns.shape[0]) for d in range(turns.shape[1])):
        y = int(turns[b, d])
        total = total - turns.numel() / counts[y] * probabilities[b, d, y].log() / 4
    return total / turns.numel()


@pytest.mark.parametrize("seed", [0, 1])
def test_the_loss_is_the_paper_s_in_values_and_gradients(seed: int) -> None:
    torch.manual_seed(seed)
    logits, turns = torch.randn(2, 8, 4, requires_grad=True), random_turns(2, 8, 3)
    ours, expected = rotation_loss(logits, turns), literal(logits, turns)
    torch.testing.assert_close(ours.double(), expected, rtol=1e-5, atol=1e-6)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (ours, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_all_classes_weigh_the_same_however_rare_they_are() -> None:
    turns = torch.tensor([[0] * 12 + [1, 2, 3, 3]])
    sure = 20 * torch.nn.functional.one_hot(turns, 4).float()
    for wrong in range(4):
        others = torch.where((turns == wrong)[..., None], sure.roll(1, dims=2), sure)
        assert float(rotation_loss(others, turns)) == pytest.approx(20 / 4, rel=1e-4)
    unturned = torch.tensor([20.0, 0, 0, 0]).expand(1, 16, 4)
    assert float(rotation_loss(unturned, turns)) == pytest.approx(3 * 20 / 4, rel=1e-4), "saying 0 is wrong for three"


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_a_class_that_does_not_occur_costs_nothing_and_breaks_nothing(kind: str) -> None:
    logits = torch.zeros(1, 4, 4, requires_grad=True)
    loss = rotation_loss(logits, torch.zeros(1, 4, dtype=torch.int64), kind)  # type: ignore[arg-type]
    loss.backward()
    assert logits.grad is not None and torch.isfinite(logits.grad).all() and torch.isfinite(loss)


def test_the_sigmoid_asks_each_class_by_itself() -> None:
    logits, turns = torch.tensor([[[3.0, -1, -1, -1], [3.0, 3, -1, -1]]]), torch.tensor([[0, 1]])
    p = torch.sigmoid(logits.double())
    first = -(p[0, 0, 0].log() + (1 - p[0, 0, 1:]).log().sum())
    second = -(p[0, 1, 1].log() + (1 - p[0, 1, [0, 2, 3]]).log().sum())
    expected = (2 * first + 2 * second) / 2 / 4
    assert float(rotation_loss(logits, turns, "sigmoid")) == pytest.approx(float(expected), rel=1e-5)


def test_recalls_are_those_of_each_class() -> None:
    found = recalls_of(torch.tensor([[90, 10, 0, 0], [0, 1, 1, 0], [0, 0, 0, 4], [0, 0, 0, 0]]))
    assert found[:3].tolist() == [0.9, 0.5, 0.0] and found[3].isnan()
