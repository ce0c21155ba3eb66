"""DALE's denoised alignment: equations (13) and (14) against matrix roots, and where its gradient goes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.linalg import sqrtm
from torch import Tensor

from training.paradigms.dale.alignment import Alignment, Perturbation, _root, gaussian, wasserstein

EXACT = Alignment(epsilon=0, squared=True)


def covariance(
    rows: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.average(rows, axis=0, weights=weights), np.cov(rows.T, aweights=weights, ddof=0).reshape(
        rows.shape[1], -1
    )


def literal(ours: tuple[NDArray[np.float64], ...], aim: tuple[NDArray[np.float64], ...]) -> float:
    """A term of (14) as it is written."""
    root = sqrtm(aim[1])
    inner = sqrtm(root @ ours[1] @ root)
    return float(np.sum((ours[0] - aim[0]) ** 2) + np.trace(aim[1] + ours[1] - 2 * inner).real)


def random_rows(n: int, channels: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(channels, channels, generator=generator, dtype=torch.float64)
    rows = torch.randn(n, channels, generator=generator, dtype=torch.float64) @ mix + seed
    return rows, torch.rand(n, generator=generator, dtype=torch.float64) + 0.1


def scene(shape: tuple[int, ...] = (12, 12), channels: int = 4) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)

    def randn(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    return {
        "fuzzy": (2 * randn(2, channels, *shape) + 1).requires_grad_(),
        "fuzzy_weights": randn(2, *shape).abs(),
        "clear": randn(2, channels, *shape).requires_grad_(),
        "clear_weights": randn(2, *shape).abs(),
        "labels": torch.randint(0, 3, (2, *shape), generator=generator),
    }


@pytest.mark.parametrize(("n", "m"), [(200, 150), (30, 300), (6, 6)])
def test_the_distance_is_the_papers_with_matrix_roots(n: int, m: int) -> None:
    (rows, weights), (aim, aim_weights) = random_rows(n, 5, 1), random_rows(m, 5, 2)
    expected = literal(covariance(rows.numpy(), weights.numpy()), covariance(aim.numpy(), aim_weights.numpy()))
    assert wasserstein(*gaussian(rows, weights), *gaussian(aim, aim_weights)).item() == pytest.approx(expected)


def test_the_distances_gradient_is_the_slope_of_the_papers() -> None:
    (rows, weights), (aim, aim_weights) = random_rows(40, 3, 1), random_rows(50, 3, 2)
    rows.requires_grad_()
    (gradient,) = torch.autograd.grad(wasserstein(*gaussian(rows, weights), *gaussian(aim, aim_weights)), rows)
    target = covariance(aim.numpy(), aim_weights.numpy())
    for place in [(0, 0), (7, 2), (39, 1)]:
        ends = []
        for step in (1e-5, -1e-5):
            moved = rows.detach().numpy().copy()
            moved[place] += step
            ends.append(literal(covariance(moved, weights.numpy()), target))
        assert gradient[place].item() == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_fewer_pixels_than_channels_have_a_distance_and_a_gradient(n: int) -> None:
    (rows, weights), (aim, aim_weights) = random_rows(n, 6, 1), random_rows(3, 6, 2)
    rows.requires_grad_()
    distance = wasserstein(*gaussian(rows, weights), *gaussian(aim, aim_weights))
    (gradient,) = torch.autograd.grad(distance, rows)
    assert distance > 0 and gradient.isfinite().all() and gradient.abs().sum() > 0


def test_a_gaussian_is_at_no_distance_from_itself_moved_by_nothing() -> None:
    rows, weights = random_rows(100, 5, 3)
    there = gaussian(rows, weights)
    assert wasserstein(*there, *there).item() == pytest.approx(0, abs=1e-9)
    assert wasserstein(there[0] + 2, there[1], *there).item() == pytest.approx(5 * 4)


@pytest.mark.parametrize("shape", [(12, 12), (6, 5, 4)])
def test_the_loss_is_the_sum_over_classes(shape: tuple[int, ...]) -> None:
    given = scene(shape)
    expected = 0.0
    for value in range(3):
        where = given["labels"] == value
        sides = [
            covariance(given[s].movedim(1, -1)[where].detach().numpy(), given[f"{s}_weights"][where].numpy())
            for s in ("fuzzy", "clear")
        ]
        expected += literal(sides[0], sides[1])
    assert EXACT(**given).item() == pytest.approx(expected)


def test_unless_squared_it_is_the_sum_of_distances() -> None:
    given = scene()
    squares = [EXACT(**{**given, "fuzzy_weights": given["fuzzy_weights"] * (given["labels"] == n)}) for n in range(3)]
    assert Alignment(epsilon=0)(**given).item() == pytest.approx(sum(one.item() ** 0.5 for one in squares), rel=1e-6)


@pytest.mark.parametrize("far", [1.0, 1e3])
def test_the_distances_gradient_does_not_grow_with_it(far: float) -> None:
    given = scene()
    given["fuzzy"] = (given["clear"].detach() + far).requires_grad_()
    given["fuzzy_weights"] = given["clear_weights"]
    Alignment(epsilon=0)(**given).backward()
    assert given["fuzzy"].grad is not None
    # All rows of a class together move by 1 along the diagonal of four channels.
    assert given["fuzzy"].grad.sum().item() == pytest.approx(3 * 2, rel=1e-3)


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e3])
def test_at_no_distance_there_is_next_to_no_gradient(scale: float) -> None:
    given = scene()
    given["fuzzy"] = (scale * given["clear"].detach()).float().requires_grad_()
    given["clear"], given["fuzzy_weights"] = given["fuzzy"].detach().clone(), given["clear_weights"]
    loss = Alignment(epsilon=0)(**given)
    (gradient,) = torch.autograd.grad(loss, given["fuzzy"])
    assert loss.item() == pytest.approx(0, abs=0.02 * scale + 1e-9)
    assert gradient.isfinite().all() and gradient.norm() < 0.2


@pytest.mark.parametrize("squared", [-1e-3, 0.0, 1e-8, 4.0])
def test_the_root_has_a_slope_wherever_rounding_leads(squared: float) -> None:
    value = torch.tensor(squared, requires_grad=True)
    root = _root(value, torch.tensor(100.0))
    (slope,) = torch.autograd.grad(root, value)
    assert root.item() == pytest.approx(max(squared, 0) ** 0.5, abs=0.02) and 0 <= slope.item() <= 60


def test_the_gradient_reaches_the_fuzzy_features_and_no_others() -> None:
    given = scene()
    EXACT(**given).backward()
    fuzzy = given["fuzzy"].grad
    assert fuzzy is not None and (fuzzy.abs().sum(dim=1) > 0).all()
    assert given["clear"].grad is None


def test_following_the_gradient_spreads_fuzzy_features_like_clear_ones() -> None:
    given = scene()
    optimizer = torch.optim.Adam([given["fuzzy"]], lr=0.05)
    losses = []
    for _ in range(200):
        loss = EXACT(**given)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 1e-3 * losses[0]


def test_pixels_that_are_left_out_do_not_matter() -> None:
    given = scene()
    given["fuzzy_weights"][:, :4] = 0
    given["clear_weights"][:, 8:] *= -1  # (6) as the paper has it.
    before = EXACT(**given).item()
    with torch.no_grad():
        given["fuzzy"][:, :, :4] = 1e3
        given["clear"][:, :, 8:] = -1e3
    assert EXACT(**given).item() == pytest.approx(before)


def test_a_class_that_a_set_lacks_does_not_count() -> None:
    given = scene()
    without = {**given, "clear_weights": given["clear_weights"] * (given["labels"] != 2)}
    none = {**given, "fuzzy_weights": torch.zeros_like(given["fuzzy_weights"])}
    assert 0 < EXACT(**without).item() < EXACT(**given).item()
    assert EXACT(**none).item() == 0


@pytest.mark.parametrize("side", ["fuzzy", "clear"])
@pytest.mark.parametrize(("left", "counts"), [(0, False), (4, False), (5, True)])
def test_a_class_counts_with_more_pixels_than_channels(side: str, left: int, counts: bool) -> None:
    given = scene()
    weights = given[f"{side}_weights"].flatten()
    weights[torch.nonzero(given["labels"].flatten() == 2)[left:]] = 0
    others = {**given, f"{side}_weights": given[f"{side}_weights"] * (given["labels"] != 2)}
    assert (EXACT(**given).item() > EXACT(**others).item() + 0.1) == counts


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("side", ["fuzzy", "clear"])
def test_features_that_are_not_finite_have_no_distance(side: str, value: float) -> None:
    given = scene()
    with torch.no_grad():
        given[side][0, 0, 2, 2] = value
    assert EXACT(**given).isnan()


def test_no_more_pixels_take_part_than_allowed() -> None:
    given = scene()
    assert Alignment(pixels=4)(**given).item() == 0, "no more than channels"
    Alignment(pixels=5, epsilon=0, squared=True)(**given).backward()
    assert given["fuzzy"].grad is not None
    assert (given["fuzzy"].grad.abs().sum(dim=1) > 0).sum() == 3 * 5


@pytest.mark.parametrize(
    ("perturbation", "more"), [("paper", torch.ones(4, 4)), ("identity", torch.eye(4))], ids=["paper", "identity"]
)
def test_the_clear_covariance_is_perturbed_as_equation_13_says(perturbation: Perturbation, more: Tensor) -> None:
    _, factor = gaussian(*random_rows(20, 4, 1))
    alignment = Alignment(epsilon=0.5, perturbation=perturbation)
    wider = alignment._perturbed(factor)
    added = wider.T @ wider - factor.T @ factor
    epsilon = added[0, 0].item()
    assert 0 < epsilon < 0.5
    torch.testing.assert_close(added, epsilon * more.double(), atol=1e-12, rtol=1e-9)


def test_mixed_precision_changes_nothing() -> None:
    given = {name: x.float() if x.is_floating_point() else x for name, x in scene().items()}
    with torch.autocast("cpu", torch.bfloat16):
        inside = EXACT(**given)
    assert inside.dtype == torch.float32 and inside.item() == pytest.approx(EXACT(**given).item(), rel=1e-5)
    halves = {**given, "fuzzy": given["fuzzy"].bfloat16(), "clear": given["clear"].bfloat16()}
    assert EXACT(**halves).item() == pytest.approx(inside.item(), rel=0.05)


def test_what_does_not_fit_together_is_refused() -> None:
    given = scene()
    with pytest.raises(ValueError, match="differ"):
        EXACT(**{**given, "labels": given["labels"][:, 1:]})
    with pytest.raises(ValueError, match="at least"):
        Alignment(pixels=0)
