"""AffinityUMamba's maths against literal loops over voxels, and against cases worked out by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.methods.affinity_umamba import (
    Arguments,
    Conflict,
    Fallback,
    branches_of,
    normalised_entropy,
    refine_labels,
    suspects,
    uncertainty,
)

SURE = 20.0


def logits_of(labels: Tensor, classes: int, sure: float = SURE) -> Tensor:
    """Logits of a prediction that is as good as certain."""
    return sure * torch.nn.functional.one_hot(labels, classes).movedim(-1, 1).float()


def neighbours(place: tuple[int, ...], shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    sides = [range(max(p - 1, 0), min(p + 2, n)) for p, n in zip(place, shape, strict=True)]
    return list(itertools.product(*sides))


def at(maps: Tensor, place: tuple[int, ...]) -> Tensor:
    """A voxel's channels."""
    return maps.flatten(1)[:, int(np.ravel_multi_index(place, tuple(maps.shape[1:])))]


def literal_lalr(am: Tensor, cnn: Tensor, given: Tensor, conflict: str, fallback: str) -> tuple[Tensor, Tensor]:
    """Equations (3) to (6), voxel by voxel, for one item."""
    shape, refined, flagged = tuple(given.shape), given.clone(), torch.zeros_like(given, dtype=torch.bool)
    p = {"AM": torch.softmax(am, 0), "CNN": torch.softmax(cnn, 0)}
    for i in itertools.product(*[range(n) for n in shape]):
        doubts = []
        for branch in p.values():
            own, label = at(branch, i), int(at(branch, i).argmax())
            positive: list[float] = []
            negative: list[float] = []
            for j in neighbours(i, shape):
                other = at(branch, j)
                cosine = float(own @ other / (own.norm() * other.norm()))
                (positive if int(given[j]) == label else negative).append(cosine)
            a_pos = sum(positive) / len(positive) if positive else 0.0
            a_neg = sum(negative) / len(negative) if negative else 0.0
            doubts.append(a_pos < 0.5 and a_neg > 0.5)
        flagged[i] = any(doubts) if conflict == "union" else all(doubts)
        if flagged[i]:
            entropy = {name: float(-(at(q, i) * at(q, i).log()).sum()) for name, q in p.items()}
            label_of = {name: int(at(q, i).argmax()) for name, q in p.items()}
            otherwise = {"paper": 0, "keep": int(given[i]), "cnn": label_of["CNN"]}[fallback]
            refined[i] = label_of["AM"] if entropy["CNN"] > entropy["AM"] else otherwise
    return refined, flagged


@pytest.mark.parametrize("conflict", ["union", "intersection"])
@pytest.mark.parametrize("fallback", ["paper", "keep", "cnn"])
@pytest.mark.parametrize("shape", [(7, 6), (5, 4, 3)])
def test_lalr_is_the_papers_loop(conflict: Conflict, fallback: Fallback, shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(len(shape))
    am, cnn = (4 * torch.randn(2, 3, *shape, generator=generator) for _ in range(2))
    given = torch.randint(0, 3, (2, *shape), generator=generator)
    found = refine_labels(am, cnn, given, conflict, fallback)
    assert found.flagged.any() and not found.flagged.all(), "the case must tell something"
    for item in range(2):
        refined, flagged = literal_lalr(am[item], cnn[item], given[item], conflict, fallback)
        assert torch.equal(found.flagged[item], flagged)
        assert torch.equal(found.labels[item], refined)


def test_a_hole_that_both_branches_fill_is_filled() -> None:
    truth = torch.zeros(1, 12, 12, dtype=torch.int64)
    truth[:, 2:10, 2:10] = 1
    given = truth.clone()
    given[:, 4:8, 4:8] = 0
    refined = refine_labels(logits_of(truth, 2), logits_of(truth, 2, sure=3), given)
    assert refined.flagged[0, 5:7, 5:7].all(), "the hole's inside has neighbours of another label alone"
    assert refined.labels[0, 5:7, 5:7].eq(1).all()
    assert torch.equal(refined.labels[0, :4], given[0, :4]), "far from the hole nothing changes"


def test_refined_labels_carry_no_gradient() -> None:
    logits = torch.randn(1, 2, 4, 4, requires_grad=True)
    assert not refine_labels(logits, logits, torch.zeros(1, 4, 4, dtype=torch.int64)).labels.requires_grad


@pytest.mark.parametrize(
    ("probabilities", "entropy"),
    [([1.0, 0.0], 0.0), ([0.5, 0.5], 1.0), ([1 / 3] * 3, 1.0), ([0.5, 0.5, 0.0], math.log(2) / math.log(3))],
)
def test_entropy_runs_from_0_to_1(probabilities: list[float], entropy: float) -> None:
    assert normalised_entropy(torch.tensor(probabilities).reshape(1, -1, 1)).item() == pytest.approx(entropy)


def test_uncertainty_is_that_of_the_first_branch_and_a_temperature_softens_it() -> None:
    am, cnn = torch.tensor([2.0, 0.0]).reshape(1, 2, 1, 1), torch.tensor([0.0, 9.0]).reshape(1, 2, 1, 1)
    plain, soft = (uncertainty(torch.cat([am, cnn], 1), 2, t) for t in (1.0, 4.0))
    assert plain.labels.item() == soft.labels.item() == 0
    assert plain.confidence.item() == pytest.approx(1 / (1 + math.exp(-2)))
    assert soft.confidence.item() == pytest.approx(1 / (1 + math.exp(-0.5)))
    assert 0 < plain.entropy.item() < soft.entropy.item() < 1


@pytest.mark.parametrize("score", ["probability", "affinity", "both"])
@pytest.mark.parametrize("branches", [1, 2])
def test_a_planted_blob_is_the_most_suspect_place(score: str, branches: int) -> None:
    truth = torch.zeros(1, 16, 16, 16, dtype=torch.int64)
    truth[:, 4:12, 4:12, 4:12] = 1
    given = truth.clone()
    given[:, 4:8, 6:10, 2:8] = 1 - truth[:, 4:8, 6:10, 2:8]
    logits = torch.cat([logits_of(truth, 2, sure=3)] * branches, dim=1)
    found, suggested = suspects(logits, given, 2, Arguments(score=score))  # type: ignore[arg-type]
    planted = (given != truth).numpy()
    assert torch.equal(suggested, truth)
    assert found.min() >= 0 and found.max() <= 1
    values = found.numpy()
    assert values[planted].mean() > 0.5 and values[~planted].mean() < 0.1
    assert np.median(values[planted]) > np.quantile(values[~planted], 0.95)


def test_branches_are_split_in_order() -> None:
    first, second = branches_of(torch.arange(4.0).reshape(1, 4, 1), 2)
    assert (first.flatten().tolist(), second.flatten().tolist()) == ([0, 1], [2, 3])


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"temperatures": [0.0]}, "temperatures"),
        ({"temperatures": [1.0, 2.0, 3.0]}, "temperatures"),
        ({"threshold": 1.0}, "threshold"),
        ({"score": "guess"}, "score"),
        ({"sigma": 1}, "unknown key 'sigma'"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(values: dict[str, object], part: str) -> None:
    with pytest.raises(InputError, match=part):
        Arguments.from_json(values)
