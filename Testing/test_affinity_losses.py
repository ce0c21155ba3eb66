"""AffinityUMamba's losses against the paper's sums, written out."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from training.losses.affinity import Margin, affinity_loss, margin_loss

LOGITS = torch.tensor([9.0, 0.0, -1.0]).reshape(1, 3, 1, 1)


def literal_affinity(logits: Tensor, labels: Tensor) -> float:
    """Equation (7) with I(y_AM^i = y^j) replaced by p_AM^i[y^j], neighbour by neighbour, for one item."""
    p, shape, total = torch.softmax(logits, 0), tuple(labels.shape), 0.0
    for i in itertools.product(*[range(n) for n in shape]):
        own = p.flatten(1)[:, int(np.ravel_multi_index(i, shape))]
        missed, wrong, same, other = 0.0, 0.0, 0, 0
        for j in itertools.product(*(range(max(a - 1, 0), min(a + 2, n)) for a, n in zip(i, shape, strict=True))):
            agreeing = float(own[labels[j]])
            if labels[j] == labels[i]:
                same, missed = same + 1, missed + 1 - agreeing
            else:
                other, wrong = other + 1, wrong + agreeing
        total += missed / math.sqrt(same) + (wrong / math.sqrt(other) if other else 0.0)
    return total / labels.numel()


@pytest.mark.parametrize("shape", [(5, 6), (4, 3, 5)])
def test_the_affinity_loss_is_the_papers_sum(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(3)
    logits, labels = torch.randn(1, 3, *shape, generator=generator), torch.randint(0, 3, shape, generator=generator)
    assert affinity_loss(logits, labels[None]).item() == pytest.approx(literal_affinity(logits[0], labels), rel=1e-5)


def test_the_affinity_loss_falls_as_the_prediction_approaches_the_labels() -> None:
    labels = torch.zeros(1, 6, 6, dtype=torch.int64)
    labels[:, 2:4, 2:4] = 1
    logits = torch.nn.functional.one_hot(labels, 2).movedim(-1, 1).float().requires_grad_()
    losses = [affinity_loss(scale * logits, labels) for scale in (-2, 0, 2, 8)]
    assert sorted((loss.item() for loss in losses), reverse=True) == [loss.item() for loss in losses]
    (gradient,) = torch.autograd.grad(losses[2], logits)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize(
    ("margin", "loss"), [(8.0, (0 + 1 + 2) / 3), (9.0, (0 + 0 + 1) / 3), (10.0, 0.0), (0.0, (0 + 9 + 10) / 3)]
)
def test_a_constant_margin_is_margin_smoothing(margin: float, loss: float) -> None:
    assert margin_loss(LOGITS, "constant", margin).item() == pytest.approx(loss)


def test_margins_follow_the_local_spread() -> None:
    """Left half flat, right half noisy: who may be confident differs from kind to kind."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.zeros(1, 2, 8, 8)
    logits[:, 0] = 6
    logits[:, 0, :, 4:] += 4 * torch.rand(8, 4, generator=generator)

    def share_of_the_left(kind: Margin) -> float:
        given = logits.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(margin_loss(given, kind), given)
        return float(gradient[..., :3].abs().sum() / gradient.abs().sum())

    assert share_of_the_left("paper") == pytest.approx(3 / 8)
    assert share_of_the_left("variance") > 3 / 8, "a flat interior has the smallest margin"
    assert share_of_the_left("inverse") == 0, "a flat interior has the largest margin: 6 is allowed"


@pytest.mark.parametrize("kind", ["paper", "variance", "inverse"])
def test_an_images_margin_does_not_depend_on_the_others_of_the_batch(kind: Margin) -> None:
    generator = torch.Generator().manual_seed(2)
    calm, wild = (scale * torch.randn(1, 3, 8, 8, generator=generator) for scale in (1, 9))
    alone = [margin_loss(logits, kind).item() for logits in (calm, wild)]
    assert margin_loss(torch.cat([calm, wild]), kind).item() == pytest.approx(sum(alone) / 2)


def test_the_papers_variance_of_sums_leaves_no_margin_anywhere() -> None:
    logits = 3 * torch.randn(1, 2, 6, 6, 6, generator=torch.Generator().manual_seed(1)) + 5
    assert margin_loss(logits, "paper").item() == pytest.approx(margin_loss(logits, "constant", 0.0).item())


@pytest.mark.parametrize("kind", ["paper", "variance", "inverse", "constant"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_losses_of_flat_logits_are_finite(kind: Margin, dtype: torch.dtype) -> None:
    logits = torch.zeros(1, 3, 4, 4, 4, dtype=dtype, requires_grad=True)
    loss = margin_loss(logits, kind) + affinity_loss(logits, torch.zeros(1, 4, 4, 4, dtype=torch.int64))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.isfinite() and gradient.isfinite().all()
