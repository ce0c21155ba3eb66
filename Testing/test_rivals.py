"""DALE's rivals, which bring networks of their own: co-teaching and Meta-Weight-Net."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from tiny_trainings import first_batch, recipe_of, training
from torch import Tensor, nn

from NoisyLabelSegLib.errors import InputError
from training.benchmarks.paradigms import CHOICES, EXPERIMENT, Steps
from training.data.cases import read_dataset
from training.data.noisy_sets import Noise, plant_dataset
from training.engine import Engine
from training.experiment import read_experiment
from training.losses.maps import cross_entropy_map
from training.paradigms import PARADIGMS
from training.paradigms.co_teaching import CoTeaching, CoTeachingSettings
from training.paradigms.dale.partition import Partition
from training.paradigms.forgetting import Forgetting, kept
from training.paradigms.meta_weight_net import MetaWeightNet, MetaWeightNetSettings, Weigher
from training.paradigms.plain import BatchLoss, Companion, Learner, Objective
from training.trainings import Training

PATCH = "paradigm.partition.patch=8"
RATE = 0.1


def student(seed: int = 0) -> Companion:
    """The least that learns."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(1, 5, 1), nn.Tanh(), nn.Conv2d(5, 2, 1)).double()
    return Companion(network, torch.optim.SGD(network.parameters(), lr=RATE))


def example(flipped: float = 0) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Images, a batch whose first half is verified, and which labels of the second half are wrong."""
    torch.manual_seed(1)
    labels = torch.zeros(4, 16, 16, dtype=torch.int64)
    labels[:, 4:12, 4:12] = 1
    image = labels[:, None] + 0.3 * torch.randn(4, 1, 16, 16).double()
    wrong = torch.rand(labels.shape) < flipped
    wrong[:2] = False
    return image, {"expert": labels ^ wrong, "verified": torch.tensor([True, True, False, False])}, wrong


def objective_of(batch: dict[str, Tensor]) -> Objective:
    return lambda network, image: BatchLoss(cross_entropy_map(network(image), batch["expert"]))


def taught_by(peer: Learner, **settings: Any) -> CoTeaching:
    paradigm = CoTeaching(CoTeachingSettings(**settings))
    paradigm.prepare(student(0), None, lambda: peer)  # type: ignore[arg-type]
    return paradigm


def test_each_network_learns_from_what_the_other_finds_easy() -> None:
    image, batch, _ = example(0.2)
    one, other = student(0), student(1)
    expected = deepcopy([one.network, other.network])
    losses = [cross_entropy_map(network(image), batch["expert"]) for network in expected]
    chosen = [kept(loss.detach(), batch["expert"], 0.3) for loss in losses]
    assert not torch.equal(*chosen)
    for network, loss, where in zip(expected, losses, chosen[::-1], strict=True):
        loss[where].mean().backward()
        for parameter in network.parameters():
            assert parameter.grad is not None
            parameter.data -= RATE * parameter.grad
    figures = taught_by(other, forget=0.3, warm_up=2).step(one, objective_of(batch), image, batch, 2, Fabric())
    for found, network in zip((one.network, other.network), expected, strict=True):
        for ours, theirs in zip(found.parameters(), network.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(figures["loss"], losses[0][chosen[1]].mean().detach())


@pytest.mark.parametrize(
    ("warm_up", "epoch", "share"), [(10, 0, 0), (10, 5, 0.1), (10, 10, 0.2), (10, 99, 0.2), (0, 0, 0.2)]
)
def test_more_is_left_out_from_epoch_to_epoch(warm_up: int, epoch: int, share: float) -> None:
    assert Forgetting(0.2, warm_up).share(epoch) == pytest.approx(share)


def test_networks_that_begin_alike_are_refused() -> None:
    with pytest.raises(InputError, match="would begin alike"):
        taught_by(student(0))


def test_the_second_network_is_of_the_same_kind_and_begins_elsewhere(tmp_path: Path, tiny_dataset: Path) -> None:
    plain = recipe_of(training(tmp_path, tiny_dataset)).network.state_dict()
    recipe = recipe_of(training(tmp_path, tiny_dataset, "paradigm=co_teaching"))
    ours, theirs = recipe.network.state_dict(), recipe.paradigm.peer.network.state_dict()
    assert all(torch.equal(plain[name], ours[name]) for name in plain)
    assert [tensor.shape for tensor in ours.values()] == [tensor.shape for tensor in theirs.values()]
    assert not all(torch.equal(ours[name], theirs[name]) for name in ours)


def weights_by_hand(layers: nn.Module, losses: Tensor) -> Tensor:
    return layers(losses.log1p().view(-1, 1)).view(losses.shape)


@pytest.mark.parametrize("kind", ["clear", "verified"])
def test_the_weighing_network_s_gradient_is_that_of_the_differentiated_step(kind: Any) -> None:
    image, batch, _ = example(0.2)
    settings = MetaWeightNetSettings(meta=kind, partition=Partition(patch=4, threshold=0.9))
    learner, paradigm = student(), MetaWeightNet(settings)
    paradigm.weigher.network.double()
    layers = deepcopy(paradigm.weigher.network.get_submodule("layers"))
    meta = settings.partition(image, batch["expert"]).clear
    if kind == "verified":
        meta = torch.tensor([1.0, 1, 0, 0]).double().view(4, 1, 1).expand(4, 16, 16)
    names = [name for name, _ in learner.network.named_parameters()]
    values = [value.detach().clone().requires_grad_() for value in learner.network.parameters()]

    def losses(parameters: list[Tensor]) -> Tensor:
        state = dict(zip(names, parameters, strict=True))
        return cross_entropy_map(torch.func.functional_call(learner.network, state, (image,)), batch["expert"])

    before = losses(values)
    virtual = ((1 - meta) * weights_by_hand(layers, before.detach()) * before).mean()
    towards = torch.autograd.grad(virtual, values, create_graph=True)
    moved = [value - RATE * step for value, step in zip(values, towards, strict=True)]
    expected = torch.autograd.grad((meta * losses(moved)).mean(), list(layers.parameters()))
    paradigm.step(learner, objective_of(batch), image, batch, 0, Fabric())
    assert max(gradient.abs().max() for gradient in expected) > 1e-7
    for parameter, gradient in zip(paradigm.weigher.network.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-6, atol=1e-15)


def test_the_network_learns_from_the_meta_part_and_from_the_weighted_rest() -> None:
    image, batch, _ = example(0.2)
    learner, paradigm = student(), MetaWeightNet(MetaWeightNetSettings(meta="verified"))
    losses = cross_entropy_map(learner.network(image), batch["expert"]).detach()
    figures = paradigm.step(learner, objective_of(batch), image, batch, 0, Fabric())
    weights = paradigm.weigher.network(losses.float()).detach()
    weights[:2] = 1
    torch.testing.assert_close(figures["loss"], (weights * losses).mean(), check_dtype=False)


def test_large_losses_lose_weight_where_they_come_from_wrong_labels() -> None:
    image, batch, wrong = example(0.3)
    learner, paradigm = student(), MetaWeightNet(MetaWeightNetSettings(meta="verified", rate=0.03))
    learner.optimizer.param_groups[0]["lr"] = 1.0
    for _ in range(60):
        paradigm.step(learner, objective_of(batch), image, batch, 0, Fabric())
    losses = cross_entropy_map(learner.network(image), batch["expert"]).detach()
    weights = paradigm.weigher.network(losses.float())
    assert weights[2:][wrong[2:]].mean() < 0.2 < 0.8 < weights[2:][~wrong[2:]].mean()


def test_a_batch_without_verified_cases_teaches_the_weighing_network_nothing() -> None:
    image, batch, _ = example()
    paradigm = MetaWeightNet(MetaWeightNetSettings(meta="verified"))
    paradigm.step(student(), objective_of(batch), image, batch, 0, Fabric())  # after which Adam has momentum
    before = deepcopy(paradigm.weigher.network.state_dict())
    none = {**batch, "verified": torch.zeros(4, dtype=torch.bool)}
    paradigm.step(student(), objective_of(batch), image, none, 0, Fabric())
    assert all(torch.equal(before[name], value) for name, value in paradigm.weigher.network.state_dict().items())


def test_weights_are_of_any_shape_and_between_0_and_1(monkeypatch: pytest.MonkeyPatch) -> None:
    weigher, losses = Weigher(7), 100 * torch.rand(2, 5, 6, 7)
    whole = weigher(losses)
    monkeypatch.setattr("training.paradigms.meta_weight_net.CHUNK", 50)
    torch.testing.assert_close(weigher(losses), whole)
    assert whole.shape == losses.shape and 0 < whole.min() <= whole.max() < 1


def test_verified_cases_are_marked_in_the_data_set(tmp_path: Path, tiny_dataset: Path) -> None:
    tiny = read_dataset(tiny_dataset / "tiny")
    with pytest.raises(InputError, match="marked as verified"):
        recipe_of(training(tmp_path, tiny_dataset, "paradigm={name: meta_weight_net, meta: verified}"))
    planted = plant_dataset(tiny, tmp_path / "data" / "planted", Noise(0.3, verified=0.2))
    assert read_dataset(tmp_path / "data" / "planted") == planted
    cases = planted.part("train")
    assert [case.verified for case in cases].count(True) == 2, "a fifth of 6, and a part of one"
    assert all(case.verified == (case.clean is None) for case in cases)
    assert not any(case.verified for case in planted.part("val"))
    with pytest.raises(InputError, match="share of verified cases"):
        plant_dataset(tiny, tmp_path / "other", Noise(0.3, verified=1))
    one = training(tmp_path, tmp_path / "data", "paradigm={name: meta_weight_net, meta: verified}", data="planted")
    recipe = recipe_of(one)
    batch = first_batch(recipe, 96)
    sure = recipe.training_data().names_of(batch["index"][batch["verified"]])
    assert set(sure) == {case.id for case in cases if case.verified}


class StoppedError(Exception):
    """Instead of a kill, which a process of its own would take."""


def interrupted(one: Training, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    step = Engine._step

    def stopping(self: Engine, batch: Any, data: Any, writer: Any) -> float:
        if self.state.step == at:
            raise StoppedError
        return step(self, batch, data, writer)

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "_step", stopping)
        with pytest.raises(StoppedError):
            one.train()


def losses_of(one: Training) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (one.folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


@pytest.mark.parametrize(
    ("paradigm", "companion"),
    [
        ("{name: co_teaching, warm_up: 1}", "peer"),
        ("{name: meta_weight_net, partition: {patch: 8}}", "weigher"),
        ("{name: dale, partition: {patch: 8}}", ""),
    ],
)
def test_a_resumed_run_is_the_whole_one_and_companions_are_not_exported(
    tmp_path: Path,
    tiny_dataset: Path,
    monkeypatch: pytest.MonkeyPatch,
    paradigm: str,
    companion: str,
) -> None:
    change = [f"paradigm={paradigm}", "engine.precision=bf16-mixed", "engine.checkpoint_every=2"]
    change += ["engine.schedule=cosine", "engine.channels_last=true"]
    runs = []
    for name in ("whole", "broken"):
        one = training(tmp_path, tiny_dataset, *change)
        one = replace(one, runs=tmp_path / name)
        if name == "broken":
            interrupted(one, monkeypatch, 7)
        one.train()
        runs.append(one)
    whole, broken = runs
    assert len(losses_of(whole)) == 12 and losses_of(whole) == losses_of(broken)
    last, ours = (torch.load(one.folder / "last.ckpt", weights_only=True) for one in runs)
    prefix = f"{companion}." if companion else ""
    assert {f"{prefix}network", f"{prefix}optimizer"} <= last.keys()
    for name, value in last[f"{prefix}network"].items():
        assert torch.equal(value, ours[f"{prefix}network"][name])
    best = torch.load(whole.folder / "best.ckpt", weights_only=True)
    assert best.keys() == {"network", "optimizer", "state"}
    plain = recipe_of(training(tmp_path, tiny_dataset)).network.state_dict()
    assert whole.read().state_dict.keys() == plain.keys()


def test_the_benchmark_measures_every_paradigm() -> None:
    chosen = {
        read_experiment(EXPERIMENT, small=True, overrides=[f"paradigm={text}"]).paradigm for text in CHOICES.values()
    }
    assert {settings.name for settings in chosen} == set(PARADIGMS)
    assert len(chosen) == len(CHOICES), "no two rows are the same"
    steps = Steps("co_teaching")
    assert steps.batch["image"].shape == (8, 3, 96, 128) and steps() > 0
