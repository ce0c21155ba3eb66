"""A temperature makes probabilities mean what they say, and changes no label."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from NoisyLabelSegLib.calibration import RegionName, counts_of
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.temperature import LARGEST, LEAST, fit_temperature, sampled_voxels


def planted(temperature: float, voxels: int = 200_000, classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits ``(voxels, N)`` that need this temperature: labels are drawn from the probabilities that it gives."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(voxels, classes, generator=generator)
    labels = torch.multinomial(logits.softmax(dim=1), 1, generator=generator)[:, 0]
    return logits * temperature, labels


def likelihood(logits: Tensor, labels: Tensor) -> float:
    return float(torch.nn.functional.cross_entropy(logits.double(), labels))


@pytest.mark.parametrize("classes", [2, 3, 9])
@pytest.mark.parametrize("temperature", [0.2, 0.7, 1, 1.8, 12])
def test_a_planted_temperature_is_found(temperature: float, classes: int) -> None:
    assert fit_temperature(*planted(temperature, classes=classes)) == pytest.approx(temperature, rel=0.02)


def test_no_other_temperature_is_more_likely() -> None:
    logits, labels = planted(1.7, voxels=500)
    found = fit_temperature(logits, labels)
    steps = torch.linspace(math.log(LEAST), math.log(LARGEST), 2000).exp()
    assert likelihood(logits / found, labels) <= min(likelihood(logits / t, labels) for t in steps) + 1e-9


def test_scaled_probabilities_are_calibrated_and_labels_stay() -> None:
    logits, labels = planted(3)
    scaled = logits / fit_temperature(logits, labels)
    before, after = (counts_of(x.double().softmax(dim=1).T.numpy(), labels.numpy(), "all") for x in (logits, scaled))
    assert before.ece > 0.1
    assert after.ece < 0.01
    assert scaled.argmax(dim=1).equal(logits.argmax(dim=1))


@pytest.mark.parametrize("right", [True, False])
def test_voxels_that_are_all_right_or_all_wrong_give_a_limit(right: bool) -> None:
    logits = torch.tensor([[0.4, 0.0]] * 10)
    labels = torch.zeros(10, dtype=torch.int64) if right else torch.ones(10, dtype=torch.int64)
    assert fit_temperature(logits, labels) == pytest.approx(LEAST if right else LARGEST, rel=0.01)


def test_half_precision_is_fitted_in_double_precision() -> None:
    logits, labels = planted(2)
    assert fit_temperature(logits.half(), labels) == pytest.approx(fit_temperature(logits, labels), rel=1e-3)


LOGITS, LABELS = torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (LOGITS[:0], LABELS[:0], "without voxels"),
        (LOGITS * math.nan, LABELS, "not finite"),
        (LOGITS + math.inf, LABELS, "not finite"),
        (LOGITS, LABELS + 2, "2 to 2, but the model has 2 classes"),
        (LOGITS, LABELS - 100, "-100 to -100"),
    ],
)
def test_bad_input_is_said_in_one_sentence(logits: Tensor, labels: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_temperature(logits, labels)


def volumes(count: int = 3, shape: tuple[int, ...] = (6, 5, 4)) -> list[tuple[Tensor, Tensor]]:
    """Cases whose logits tell case and voxel: ``(2, ...)``, of which the first is the voxel's number."""
    numbers = torch.arange(count * math.prod(shape), dtype=torch.float32).reshape(count, *shape)
    return [(torch.stack([part, 300 - part]), (part % 3 == 0).to(torch.uint8)) for part in numbers]


@pytest.mark.parametrize("region", ["all", "predicted", "foreground", "union"])
def test_all_voxels_of_a_region_are_taken_where_they_are_few(region: RegionName) -> None:
    logits, labels = sampled_voxels(volumes(), region)
    numbers = range(360)
    predicted = {n for n in numbers if n < 150}
    given = {n for n in numbers if n % 3 == 0}
    expected = {"all": set(numbers), "predicted": predicted, "foreground": given, "union": predicted | given}[region]
    assert sorted(logits[:, 0].int().tolist()) == sorted(expected)
    assert labels.dtype == torch.int64
    assert labels.equal((logits[:, 0] % 3 == 0).long())


def test_of_many_voxels_each_case_has_its_share() -> None:
    cases = [(torch.full((2, size), float(size)), torch.ones(size, dtype=torch.int64)) for size in (8000, 2000, 6000)]
    logits, labels = sampled_voxels(cases, most=4000)
    assert logits.shape == (4000, 2) and labels.shape == (4000,)
    for size, expected in ((8000, 2000), (2000, 500), (6000, 1500)):
        assert int((logits[:, 0] == size).sum()) == pytest.approx(expected, abs=150)


def test_a_sample_has_no_voxel_twice_and_its_seed_tells_which() -> None:
    first, again, other = (sampled_voxels(volumes(), most=100, seed=seed)[0][:, 0] for seed in (1, 1, 2))
    assert len(set(first.tolist())) == 100
    assert first.equal(again)
    assert not first.equal(other)


def test_a_temperature_of_a_sample_is_that_of_all() -> None:
    logits, labels = planted(1.6)
    cases = [(x.T, y) for x, y in zip(logits.split(50_000), labels.split(50_000), strict=True)]
    assert fit_temperature(*sampled_voxels(cases, most=40_000)) == pytest.approx(1.6, rel=0.03)


def test_each_of_two_branches_has_its_own_temperature() -> None:
    first, second = planted(0.8), planted(2.5, seed=1)
    assert [round(fit_temperature(*branch), 1) for branch in (first, second)] == [0.8, 2.5]


@pytest.mark.parametrize(
    ("cases", "message"),
    [([], "without cases"), ([(torch.zeros(2, 4), torch.zeros(5, dtype=torch.int64))], "do not fit")],
)
def test_bad_cases_are_said_in_one_sentence(cases: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        sampled_voxels(cases)
