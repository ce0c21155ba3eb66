"""Ways to train, chosen by one line: DALE and small-loss selection in the recipes that learn from labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lightning_fabric import Fabric
from tiny_trainings import EXPERIMENT, first_batch, recipe_of, training

from NoisyLabelSegLib.errors import InputError
from training.__main__ import main
from training.experiment import differences, parse_experiment, read_experiment
from training.paradigms import PARADIGMS
from training.paradigms.dale.paradigm import DALESettings
from training.paradigms.forgetting import kept

PATCH = "paradigm.partition.patch=8"
UMAMBA = "network={name: affinity_umamba, arguments: {features: [4, 8], mamba_from: 1, state: 2, pne: [3]}}"
IN_3D = ["preprocessing.dimensions=3", "preprocessing.window=[16, 32, 32]", "engine.batch_size=2"]


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({}, "plain"),
        ({"paradigm": "dale"}, "dale"),
        ({"paradigm": {"name": "small_loss", "forget": 0.2}}, "small_loss"),
    ],
)
def test_one_line_chooses_a_paradigm(given: dict[str, Any], name: str) -> None:
    assert parse_experiment({**EXPERIMENT, **given}).paradigm.name == name


def test_a_setting_of_a_paradigm_can_be_overridden(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(yaml.safe_dump({**EXPERIMENT, "paradigm": "dale"}), encoding="utf-8")
    plain = read_experiment(tmp_path / "one.yaml")
    changed = read_experiment(tmp_path / "one.yaml", overrides=["paradigm.alpha=0"])
    assert isinstance(changed.paradigm, DALESettings) and changed.paradigm.alpha == 0
    assert differences(plain, changed) == ["paradigm.alpha"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"paradigm": "dales"}, "'paradigm' must be one of plain, small_loss, co_teaching, meta_weight_net, dale"),
        ({"paradigm": "dale", "recipe": "refineseg"}, "does not learn from labels"),
        ({"paradigm": {"name": "dale", "alpha": -1}}, "a weight of at least 0"),
        ({"paradigm": {"name": "dale", "alpha": float("nan")}}, "a weight of at least 0"),
        ({"paradigm": {"name": "dale", "alignment": {"epsilon": float("nan")}}}, "epsilon of at least 0"),
        ({"paradigm": {"name": "dale", "confidence": {"rate": float("nan")}}}, "rate above 0"),
        ({"paradigm": {"name": "small_loss", "forget": float("nan")}}, "a share"),
        ({"paradigm": {"name": "small_loss", "forget": 1}}, "a share"),
        ({"paradigm": {"name": "co_teaching", "warm_up": -1}}, "warm_up at least 0"),
        ({"paradigm": {"name": "meta_weight_net", "rate": 0}}, "rate above 0"),
        ({"paradigm": {"name": "dale", "forget": 0.1}}, "forget"),
    ],
)
def test_what_a_paradigm_does_not_know_is_said(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    (tmp_path / "one.yaml").write_text(yaml.safe_dump({**EXPERIMENT, **given}), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_experiment(tmp_path / "one.yaml")


@pytest.mark.parametrize(
    "change",
    [
        ["paradigm=dale", PATCH],
        ["paradigm=dale", PATCH, "paradigm.masks=images"],
        ["paradigm=dale", PATCH, "paradigm.confidence.by=none"],
        ["paradigm=dale", PATCH, "paradigm.confidence.by=virtual_step"],
        ["paradigm=dale", PATCH, "paradigm.alpha=0", "paradigm.confidence={by: virtual_step, steps: 3}"],
        ["paradigm=dale", "paradigm.partition={patch: 8, measure: edges, clear: paper}", "paradigm.keep=positive"],
        ["paradigm=dale", PATCH, "settings.loss=cross_entropy"],
        ["paradigm=dale", PATCH, *IN_3D],
        ["paradigm=dale", PATCH, "recipe=rerenet", "settings={stages: 2, loss: {dice_only_epochs: 0}}"],
        ["paradigm=dale", PATCH, "paradigm.masks=images", "recipe=rerenet", "settings={stages: 2}"],
        ["paradigm=dale", PATCH, "recipe=affinity_umamba", UMAMBA],
        ["paradigm={name: small_loss, forget: 0.1, warm_up: 0}"],
        ["paradigm={name: co_teaching, forget: 0.1, warm_up: 0}"],
        ["paradigm=co_teaching", *IN_3D],
        ["paradigm=co_teaching", "recipe=rerenet", "settings={stages: 2}"],
        ["paradigm=co_teaching", "recipe=affinity_umamba", UMAMBA],
        ["paradigm=meta_weight_net", PATCH],
        ["paradigm=meta_weight_net", PATCH, *IN_3D],
        ["paradigm=meta_weight_net", PATCH, "recipe=rerenet", "settings={stages: 2}"],
        ["paradigm=meta_weight_net", PATCH, "recipe=affinity_umamba", UMAMBA],
        ["settings.loss=generalised_cross_entropy"],
        ["settings.loss=dice_generalised_cross_entropy"],
    ],
)
def test_every_recipe_learns_by_every_paradigm(tmp_path: Path, tiny_dataset: Path, change: list[str]) -> None:
    recipe = recipe_of(training(tmp_path, tiny_dataset, *change))
    recipe.network.train()
    batch, steps = first_batch(recipe, 2 if IN_3D[0] in change else 8), 10
    losses = [{k: float(v) for k, v in recipe.step(batch, 0, Fabric()).items()} for _ in range(steps)]
    assert all(np.isfinite(list(loss.values())).all() for loss in losses)
    assert losses[-1]["loss"] < losses[0]["loss"]


def test_a_run_trains_goes_on_and_is_measured(tmp_path: Path, tiny_dataset: Path) -> None:
    whole = training(tmp_path, tiny_dataset, PATCH, paradigm="dale")
    assert (whole.train() or 0) > 0
    again = training(tmp_path, tiny_dataset, PATCH, paradigm="dale")
    assert again.read().experiment.paradigm.name == "dale"
    where = ["--data", str(tiny_dataset), "--runs", str(tmp_path / "runs"), "--set", PATCH, "--split", "val"]
    assert main(["calibrate", str(tmp_path / "one.yaml"), *where]) == 0


@pytest.mark.parametrize(
    ("losses", "forget", "expected"),
    [
        ([1, 2, 3, 4, 5], 0.2, [1, 1, 1, 1, 0]),
        ([5, 1, 4, 2, 3], 0.4, [0, 1, 0, 1, 1]),
        ([1, 1, 1, 1], 0.5, [1, 1, 1, 1]),
        ([2, 1], 0.0, [1, 1]),
        ([2, 1], 0.99, [0, 1]),
    ],
)
def test_the_largest_losses_are_left_out(losses: list[float], forget: float, expected: list[int]) -> None:
    labels = torch.zeros(len(losses), dtype=torch.int64)
    assert kept(torch.tensor(losses, dtype=torch.float32), labels, forget).int().tolist() == expected


def test_a_small_structure_is_not_left_out_as_a_whole() -> None:
    """Its pixels lose more than all the others."""
    labels = torch.zeros(1000, dtype=torch.int64)
    labels[:20] = 1
    left_out = ~kept(torch.arange(1000, 0, -1.0), labels, 0.05)
    assert left_out.sum() == 50 and left_out[:20].sum() == 1


def test_all_paradigms_are_named_as_they_are_registered() -> None:
    assert all(registered.settings().name == name for name, registered in PARADIGMS.items())
