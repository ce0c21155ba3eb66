"""Losses as maps: their means are the losses that everybody knows."""

from __future__ import annotations

import pytest
import torch
from monai.losses import DiceLoss
from torch import Tensor
from torch.nn import functional as F

from training.losses.maps import PIXEL_LOSSES, Loss, PixelLoss, dice_map


def logits_and_labels(classes: int, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, classes, *shape, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, classes, (3, *shape), generator=generator)
    labels[0] = 0  # An image without foreground.
    return logits.requires_grad_(), labels


def monai_dice(logits: Tensor, labels: Tensor) -> Tensor:
    loss = DiceLoss(include_background=False, to_onehot_y=True, softmax=True, smooth_nr=1e-5, smooth_dr=1e-5)
    found: Tensor = loss(logits, labels.unsqueeze(1))
    return found


def generalised(logits: Tensor, labels: Tensor) -> Tensor:
    p = logits.softmax(dim=1).gather(1, labels[:, None])
    return ((1 - p**0.7) / 0.7).mean()


@pytest.mark.parametrize("shape", [(9, 7), (4, 5, 6)])
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("name", PIXEL_LOSSES)
def test_a_maps_mean_is_the_loss(name: Loss, classes: int, shape: tuple[int, ...]) -> None:
    logits, labels = logits_and_labels(classes, shape)
    losses: dict[Loss, PixelLoss] = {
        "cross_entropy": F.cross_entropy,
        "dice": monai_dice,
        "dice_cross_entropy": lambda x, y: monai_dice(x, y) + F.cross_entropy(x, y),
        "generalised_cross_entropy": generalised,
        "dice_generalised_cross_entropy": lambda x, y: monai_dice(x, y) + generalised(x, y),
    }
    found, expected = PIXEL_LOSSES[name](logits, labels), losses[name](logits, labels)
    assert found.shape == labels.shape
    assert found.mean().item() == pytest.approx(expected.item(), rel=1e-9)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (found.mean(), expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(("label", "logit"), [(0, 4.0), (1, -4.0)])
def test_the_dice_of_a_wrong_pixel_is_its_own_whether_it_is_missed_or_invented(label: int, logit: float) -> None:
    labels = torch.zeros(1, 4, 4, dtype=torch.int64)
    labels[0, 0] = 1
    right = torch.stack([torch.zeros_like(labels), 2 * labels - 1], dim=1) * 20.0
    wrong = right.clone()
    place = (0, 0, 0) if label else (0, 3, 3)
    wrong[place[0], 1, place[1], place[2]] = logit
    assert labels[place] == label
    share = dice_map(wrong, labels)
    assert share[place] == share.max() and share[place] > 0.9 * share.sum()
