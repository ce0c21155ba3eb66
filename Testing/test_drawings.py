"""RefineSeg's losses and transition matrices on rows of annotated pixels."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from training.losses.drawings import (
    complementary_loss,
    partial_cross_entropy,
    partial_dice,
    positive_loss,
    regulariser,
)
from training.recipes.transitions import Flips, Transitions, expected_drawings, mean_transitions

CLASSES, CHANNELS, PIXELS = 4, 6, 50


def rows(count: int = PIXELS, classes: int = CLASSES, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, classes, generator=generator, dtype=torch.float64).softmax(dim=1)


def drawn(count: int = PIXELS) -> Tensor:
    return torch.arange(count) % CLASSES


def trained(classes: int = CLASSES) -> Transitions:
    torch.manual_seed(1)
    head = Transitions(CHANNELS, classes).double()
    torch.nn.init.normal_(head.project.weight)
    return head


def test_columns_are_distributions_at_first_near_the_identity() -> None:
    features = torch.randn(PIXELS, CHANNELS, dtype=torch.float64)
    for head in (Transitions(CHANNELS, CLASSES).double(), trained()):
        torch.testing.assert_close(head(features).sum(dim=1), torch.ones(PIXELS, CLASSES).double(), rtol=0, atol=1e-6)
    first = Transitions(CHANNELS, CLASSES, keep=0.9).double()(features)
    torch.testing.assert_close(first.diagonal(dim1=1, dim2=2), torch.full((PIXELS, CLASSES), 0.9).double())


def test_what_is_drawn_is_a_distribution_and_its_loss_takes_no_softmax_again() -> None:
    observed = expected_drawings(trained()(torch.randn(PIXELS, CHANNELS, dtype=torch.float64)), rows())
    torch.testing.assert_close(observed.sum(dim=1), torch.ones(PIXELS).double())
    expected = F.nll_loss(observed.log(), drawn())
    torch.testing.assert_close(partial_cross_entropy(observed, drawn()), expected)
    assert not torch.isclose(F.cross_entropy(observed, drawn()), expected, rtol=0.05)


def test_an_annotator_without_errors_leaves_plain_cross_entropy() -> None:
    logits = torch.randn(PIXELS, CLASSES, dtype=torch.float64)
    identity = torch.eye(CLASSES, dtype=torch.float64).expand(PIXELS, -1, -1)
    observed = expected_drawings(identity, logits.softmax(dim=1))
    torch.testing.assert_close(positive_loss(observed, drawn(), alpha=1, beta=0), F.cross_entropy(logits, drawn()))


def test_dice_of_one_hot_drawings_in_both_readings() -> None:
    observed, labels = rows(), drawn()
    truth = F.one_hot(labels, CLASSES).double()
    by_class = [2 * (observed[:, k] * truth[:, k]).sum() / (observed[:, k] + truth[:, k]).sum() for k in range(CLASSES)]
    torch.testing.assert_close(partial_dice(observed, labels), 1 - torch.stack(by_class).mean())
    mean = observed.gather(1, labels[:, None]).mean()
    torch.testing.assert_close(partial_dice(observed, labels, "joint"), 1 - mean)


def test_classes_that_nobody_drew_are_not_in_the_dice() -> None:
    observed = rows()
    labels = drawn() % 2
    kept = [
        partial_dice(observed, labels),
        partial_dice(torch.cat([observed[:, :2], observed[:, 2:].flip(1)], 1), labels),
    ]
    torch.testing.assert_close(*kept)


@pytest.mark.parametrize("dice", ["per_class", "joint"])
def test_nothing_drawn_is_no_loss_but_a_gradient_of_zero(dice: str) -> None:
    observed = rows(0).requires_grad_()
    flips = Flips(CLASSES, learn=False).double()()
    losses = [
        positive_loss(observed, drawn(0), dice=dice),  # type: ignore[arg-type]
        complementary_loss(observed, torch.zeros(0, CLASSES, dtype=torch.bool), flips),
        regulariser(trained()(torch.zeros(0, CHANNELS, dtype=torch.float64)), "identity"),
    ]
    assert all(float(loss.detach()) == 0 for loss in losses)
    torch.stack(losses).sum().backward()


def test_the_complement_of_two_classes_is_the_other_one() -> None:
    observed, labels = rows(classes=2), drawn() % 2
    flips = Flips(2, learn=False).double()()
    excluded = F.one_hot(labels, 2).bool()
    torch.testing.assert_close(
        complementary_loss(observed, excluded, flips), partial_cross_entropy(observed, 1 - labels)
    )


def test_the_complement_of_several_classes_is_equation_6_whatever_the_flips() -> None:
    """v_k = sum over m of M[m, k] u_m: with an M that is not its own transpose."""
    generator = torch.Generator().manual_seed(0)
    observed = torch.rand(6, CLASSES, generator=generator).double().softmax(dim=1)
    flips = torch.rand(CLASSES, CLASSES, generator=generator).double().fill_diagonal_(0)
    flips = flips / flips.sum(dim=1, keepdim=True)
    excluded = torch.rand(6, CLASSES, generator=generator) < 0.5
    literal = [
        -math.log(sum(float(flips[m, k] * observed[n, m]) for m in range(CLASSES)))
        for n in range(6)
        for k in range(CLASSES)
        if excluded[n, k]
    ]
    found = complementary_loss(observed, excluded, flips)
    assert found.item() == pytest.approx(sum(literal) / len(literal))


def test_a_class_said_not_to_be_there_loses_probability_to_the_others() -> None:
    logits = torch.zeros(1, CLASSES, dtype=torch.float64, requires_grad=True)
    excluded = torch.tensor([[False, True, False, False]])
    complementary_loss(logits.softmax(dim=1), excluded, Flips(CLASSES, learn=False).double()()).backward()
    assert logits.grad is not None
    assert logits.grad[0, 1] > 0 and (logits.grad[0, [0, 2, 3]] < 0).all()


@pytest.mark.parametrize("learn", [False, True])
def test_flips_have_rows_of_one_and_a_diagonal_of_zero(learn: bool) -> None:
    flips = Flips(CLASSES, learn)
    if learn:
        torch.nn.init.normal_(flips.scores)
    found = flips()
    torch.testing.assert_close(found.sum(dim=1), torch.ones(CLASSES))
    assert not found.diagonal().any()
    assert flips.scores.requires_grad == learn


def test_regularisers_have_the_identity_as_their_extreme() -> None:
    identity = torch.eye(CLASSES, dtype=torch.float64)[None]
    off = trained()(torch.randn(PIXELS, CHANNELS, dtype=torch.float64))
    assert regulariser(identity, "identity") == 0 < regulariser(off, "identity")
    assert regulariser(identity, "trace") == CLASSES > regulariser(off, "trace")
    assert regulariser(off, "none") == 0


def test_at_first_the_segmenter_gets_a_gradient_as_plain_cross_entropy_gives() -> None:
    logits = torch.randn(PIXELS, CLASSES, dtype=torch.float64, requires_grad=True)
    features = torch.randn(PIXELS, CHANNELS, dtype=torch.float64)
    observed = expected_drawings(Transitions(CHANNELS, CLASSES).double()(features), logits.softmax(dim=1))
    losses = (partial_cross_entropy(observed, drawn()), F.cross_entropy(logits, drawn()))
    ours, plain = (float(torch.autograd.grad(loss, logits, retain_graph=True)[0].norm()) for loss in losses)
    assert 0.1 < ours / plain < 10


def test_a_planted_annotator_is_found_again() -> None:
    """Descent on the likelihood of drawings, the truth being known."""
    planted = torch.tensor([[0.95, 0.15, 0.0], [0.05, 0.85, 0.1], [0.0, 0.0, 0.9]], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    truth = torch.arange(6000) % 3
    labels = torch.multinomial(planted.T[truth], 1, generator=generator)[:, 0]
    p = F.one_hot(truth, 3).double()
    head = Transitions(1, 3).double()
    features = torch.ones(len(truth), 1, dtype=torch.float64)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        partial_cross_entropy(expected_drawings(head(features), p), labels).backward()
        optimizer.step()
    found = mean_transitions(head(features).detach(), p)
    assert (found - planted).abs().mean() < 0.02


def test_the_mean_of_a_class_that_is_nowhere_is_not_a_number() -> None:
    p = torch.tensor([[0.5, 0.5, 0.0]])
    found = mean_transitions(torch.eye(3)[None], p)
    assert found[:, 2].isnan().all() and torch.equal(found[:, :2], torch.eye(3)[:, :2])


def test_keep_must_be_more_than_chance() -> None:
    with pytest.raises(ValueError, match="keep"):
        Transitions(CHANNELS, CLASSES, keep=1 / CLASSES)
    assert math.isclose(
        float(Transitions(CHANNELS, 2, keep=0.6)(torch.zeros(1, CHANNELS))[0, 0, 0].detach()), 0.6, rel_tol=1e-6
    )
