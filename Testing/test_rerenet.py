"""ReReNet's iteration, with networks whose answers are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.methods.rerenet import (
    Arguments,
    Stage,
    Update,
    coarse_channels,
    input_channels,
    network_input,
    refine,
)

Predict = Callable[[Tensor], Tensor]


class Scripted:
    """Gives item ``i`` in its n-th call the foreground logit ``script[i][n]``; images hold the item's number."""

    def __init__(self, script: Sequence[Sequence[float]]) -> None:
        self.script, self.calls = script, [0] * len(script)
        self.seen: list[list[int]] = []

    def __call__(self, inputs: Tensor) -> Tensor:
        items = [int(image.max()) for image in inputs[:, 0]]
        self.seen.append(items)
        logits = torch.zeros(len(items), 2, *inputs.shape[2:])
        for row, item in enumerate(items):
            logits[row, 1] = self.script[item][self.calls[item]]
            self.calls[item] += 1
        return logits


def numbered(items: int) -> Tensor:
    return torch.arange(items).float().reshape(-1, 1, 1, 1).expand(items, 1, 2, 3)


def run(predict: Predict, items: int = 1, stages: int = 5, update: Update = "replace") -> list[Stage]:
    return list(refine(predict, numbered(items), torch.zeros(items, 2, 3, dtype=torch.int64), 2, stages, update))


def test_a_fixed_point_ends_the_iteration() -> None:
    network = Scripted([[3.0, 3.0, -3.0]])
    stages = run(network)
    assert [stage.number for stage in stages] == [1, 2]
    assert [bool(stage.changed) for stage in stages] == [True, False]
    assert network.calls == [2]


@pytest.mark.parametrize("bound", [1, 2, 4, 9])
def test_stages_are_bounded(bound: int) -> None:
    swinging = Scripted([[3.0, -3.0] * 5])
    assert len(run(swinging, stages=bound)) == swinging.calls[0] == bound


def test_items_that_are_done_are_not_predicted_again() -> None:
    network = Scripted([[3, 3], [-3], [3, -3, 3, 3]])
    stages = run(network, items=3)
    assert network.seen == [[0, 1, 2], [0, 2], [2], [2]]
    assert [stage.changed.tolist() for stage in stages] == [
        [True, False, True],
        [False, False, True],
        [False, False, True],
        [False, False, False],
    ]
    assert [stage.labels.amax(dim=(1, 2)).tolist() for stage in stages] == [[1, 0, 1], [1, 0, 0], [1, 0, 1], [1, 0, 1]]


def test_replace_takes_the_latest_and_mean_the_average_of_all_stages() -> None:
    script, sigmoid = [3.0, -1.0, -1.0, -9.0], torch.sigmoid(torch.tensor([3.0, -1.0, -1.0, -9.0]))
    replace, mean = run(Scripted([script]), stages=4), run(Scripted([script]), stages=4, update="mean")
    for number, stage in enumerate(replace):
        torch.testing.assert_close(stage.probabilities[0, 1, 0, 0], sigmoid[number])
    for number, stage in enumerate(mean):
        torch.testing.assert_close(stage.probabilities[0, 1, 0, 0], sigmoid[: number + 1].mean())
    assert [int(stage.labels.max()) for stage in replace] == [1, 0, 0]
    # Two stages' doubts do not outweigh a certain first one: the second stage changes nothing, so it is the last.
    assert [int(stage.labels.max()) for stage in mean] == [1, 1]


@pytest.mark.parametrize("update", ["replace", "mean"])
def test_every_stage_is_consistent_and_the_start_is_untouched(update: Update) -> None:
    torch.manual_seed(0)
    start = torch.randint(0, 3, (4, 8, 9))
    before = start.clone()
    network = torch.nn.Conv2d(3, 3, 3, padding=1)
    stages = list(refine(network, torch.randn(4, 1, 8, 9), start, 3, 5, update))
    assert torch.equal(start, before)
    previous = start
    for stage in stages:
        assert stage.labels.dtype == torch.int64
        assert torch.equal(stage.probabilities.argmax(dim=1), stage.labels)
        torch.testing.assert_close(stage.probabilities.sum(dim=1), torch.ones(4, 8, 9))
        assert torch.equal(stage.changed, (stage.labels != previous).flatten(1).any(dim=1))
        previous = stage.labels
    kept = [stage.labels.clone() for stage in stages]
    stages[-1].labels.zero_()
    assert all(torch.equal(a, b.labels) for a, b in zip(kept[:-1], stages[:-1], strict=True))


def test_items_of_a_batch_do_not_influence_each_other() -> None:
    torch.manual_seed(1)
    network, image = torch.nn.Conv2d(2, 2, 3, padding=1), torch.randn(5, 1, 8, 8)
    start = torch.randint(0, 2, (5, 8, 8))
    together = list(refine(network, image, start, 2))[-1]
    for item in range(5):
        alone = list(refine(network, image[item : item + 1], start[item : item + 1], 2))[-1]
        assert torch.equal(alone.labels[0], together.labels[item])


@pytest.mark.parametrize("size", [(3, 4), (3, 4, 5)], ids=["2D", "3D"])
def test_each_foreground_class_has_its_channel(size: tuple[int, ...]) -> None:
    labels = torch.randint(0, 4, (2, *size))
    channels = coarse_channels(labels, 4)
    assert channels.shape == (2, 3, *size)
    assert channels.dtype == torch.float32
    for value in (1, 2, 3):
        assert torch.equal(channels[:, value - 1] == 1, labels == value)
    joined = network_input(torch.ones(2, 1, *size), labels, None, 4)
    assert joined.shape[1] == input_channels(1, 4, memory=False)
    assert torch.equal(joined[:, :1], torch.ones(2, 1, *size))
    assert torch.equal(joined[:, 1:], channels)
    with_memory = network_input(torch.ones(2, 1, *size), labels, 0 * labels, 4)
    assert with_memory.shape[1] == input_channels(1, 4, memory=True)
    assert torch.equal(with_memory[:, :4], joined)
    assert not with_memory[:, 4:].any()


def test_the_next_stage_is_given_the_last_one_s_mask() -> None:
    given: list[Tensor] = []

    def shift(inputs: Tensor) -> Tensor:
        given.append(inputs[:, 1].clone())
        moved = inputs[:, 1].roll(1, dims=2)
        return torch.stack([1 - moved, moved], dim=1) * 9

    start = torch.zeros(1, 1, 5, dtype=torch.int64)
    start[0, 0, 0] = 1
    stages = list(refine(shift, torch.zeros(1, 1, 1, 5), start, 2, 3, "replace"))
    assert [int(mask[0, 0].argmax()) for mask in given] == [0, 1, 2]
    assert int(stages[-1].labels[0, 0].argmax()) == 3


def test_memory_shows_the_given_mask_of_the_items_at_every_stage() -> None:
    given: list[Tensor] = []

    def shift(inputs: Tensor) -> Tensor:
        given.append(inputs[:, 2].clone())
        moved = inputs[:, 1].roll(1, dims=2) if inputs.shape[0] > 1 else inputs[:, 1]
        moved[inputs[:, 0, 0, 0] == 7] = inputs[inputs[:, 0, 0, 0] == 7, 1]
        return torch.stack([1 - moved, moved], dim=1) * 9

    start = torch.zeros(2, 1, 5, dtype=torch.int64)
    start[0, 0, 0] = start[1, 0, 3] = 1
    image = torch.zeros(2, 1, 1, 5)
    image[0] = 7  # This item's mask stays as it is: only the other one has a second stage.
    list(refine(shift, image, start, 2, 3, "replace", memory=True))
    assert [mask.argmax(dim=2).flatten().tolist() for mask in given] == [[0, 3], [3]]


def test_arguments_are_read_strictly() -> None:
    assert Arguments.from_json({}) == Arguments(5, "mean", False)
    assert Arguments.from_json({"stages": 9, "update": "replace", "memory": True}) == Arguments(9, "replace", True)
    for stages in (0, 10):
        with pytest.raises(InputError, match=f"between 1 and 9, not {stages}"):
            Arguments(stages)
