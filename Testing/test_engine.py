"""The engine: a killed run goes on as if nothing had happened, and several processes stay one."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_trainings import KEEP_RANKS, run_script

from training.__main__ import main
from training.recipes.rerenet import ReReNet

TEXT = """\
recipe: rerenet
data: tiny
preprocessing:
  dimensions: 2
  window: [32, 32]
  margin: 4
  intensity: {rule: min-max, scope: slice}
augmentation: {jitter: 2}
network:
  arguments: {features: [4, 4, 4, 4, 4, 4], dropout: 0.1}
optimizer: {name: AdamW, learning_rate: 3.0e-3}
settings:
  stages: 2
  inference_stages: 2
  loss: {dice_only_epochs: 1, stage_weight: uniform}
  starts: {coarse: 0.7, damaged: 0.2, empty: 0.1}
engine: {epochs: 3, batch_size: 8, schedule: cosine, checkpoint_every: 2, accelerator: cpu, devices: 1, threads: 1}
"""
KILL = """\
import os, signal, sys
from training.engine import Engine
step = Engine._step
def killed(self, batch, data, writer):
    if self.state.step == int(os.environ["KILL_AT"]):
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, data, writer)
Engine._step = killed
from training.__main__ import main
sys.exit(main())
"""
DIVERGE_ON_RANK_1 = """\
import os, sys
from training.recipes.rerenet import ReReNet
step = ReReNet.step
def diverging(self, batch, epoch, fabric):
    figures = step(self, batch, epoch, fabric)
    return {name: value / (1 - fabric.global_rank) * (1 - fabric.global_rank) for name, value in figures.items()}
ReReNet.step = diverging
from training.__main__ import main
sys.exit(main())
"""


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """The engine sets the number of threads of the process that it runs in."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class Lab:
    """An experiment's file, its data and a folder of runs."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder, self.data = folder, data
        self.experiment = folder / "tiny.yaml"
        self.experiment.write_text(TEXT, encoding="utf-8")

    def arguments(self, runs: str, *overrides: str) -> list[str]:
        command = ["train", str(self.experiment), "--data", str(self.data), "--runs", str(self.folder / runs)]
        return [*command, *(part for override in overrides for part in ("--set", override))]

    def train(self, runs: str, *overrides: str) -> int:
        return main(self.arguments(runs, *overrides))

    def script(self, text: str, runs: str, *overrides: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return run_script(self.folder, text, self.arguments(runs, *overrides), **environment)

    def run(self, runs: str) -> Path:
        (folder,) = (self.folder / runs).iterdir()
        return folder

    def log(self, runs: str) -> list[dict[str, Any]]:
        lines = (self.run(runs) / "log.jsonl").read_text(encoding="utf-8").splitlines()
        return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path) -> Lab:
    """With one unbroken run, "whole"."""
    made = Lab(tmp_path_factory.mktemp("engine"), tiny_dataset)
    assert made.train("whole") == 0
    return made


def parameters(folder: Path, name: str = "last.ckpt") -> dict[str, torch.Tensor]:
    return torch.load(folder / name, weights_only=True)["network"]


def test_a_run_learns_and_keeps_what_it_did(lab: Lab) -> None:
    log = lab.log("whole")
    epochs, steps = [row for row in log if "epoch" in row], [row for row in log if "epoch" not in row]
    assert [row["epoch"] for row in epochs] == [1, 2, 3]
    assert [row["step"] for row in steps] == list(range(1, len(steps) + 1))
    assert epochs[-1]["score"] > 0
    each = len(steps) // 3
    assert epochs[0]["loss"] == pytest.approx(sum(row["loss"] for row in steps[:each]) / each)
    assert epochs[-1]["loss"] < epochs[1]["loss"], "of the two epochs with the same loss function"
    folder = lab.run("whole")
    assert {"best.ckpt", "last.ckpt", "log.jsonl", "experiment.json"} <= {path.name for path in folder.iterdir()}
    assert not list(folder.glob("*.part"))
    values = json.loads((folder / "experiment.json").read_text(encoding="utf-8"))
    assert (values["seed"], values["settings"]["stages"]) == (0, 2)


@pytest.mark.parametrize("where", ["in an epoch", "at an epoch's end"])
def test_a_killed_run_goes_on_with_the_very_same_losses(lab: Lab, where: str) -> None:
    whole = lab.log("whole")
    each = sum("epoch" not in row for row in whole) // 3
    assert each >= 4, "or the run is not killed within an epoch"
    runs, at = f"killed {where}", each + 3 if where == "in an epoch" else 2 * each
    killed = lab.script(KILL, runs, KILL_AT=str(at))
    assert killed.returncode == -9, killed.stderr
    assert 0 < len(lab.log(runs)) < len(whole)
    with (lab.run(runs) / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write('{"step": 9')  # What a kill in the middle of writing leaves.
    assert lab.train(runs) == 0
    assert lab.log(runs) == whole
    a, b = parameters(lab.run(runs)), parameters(lab.run("whole"))
    assert all(torch.equal(a[name], b[name]) for name in b)
    a, b = parameters(lab.run(runs), "best.ckpt"), parameters(lab.run("whole"), "best.ckpt")
    assert all(torch.equal(a[name], b[name]) for name in b)


def test_a_finished_run_is_not_run_again(lab: Lab) -> None:
    before = (lab.run("whole") / "log.jsonl").read_bytes()
    assert lab.train("whole") == 0
    assert (lab.run("whole") / "log.jsonl").read_bytes() == before


def test_other_settings_are_refused(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    before = (lab.run("whole") / "experiment.json").read_bytes()
    other = Lab.__new__(Lab)
    other.folder, other.data = lab.folder, lab.data
    other.experiment = lab.folder / "other" / "tiny.yaml"
    other.experiment.parent.mkdir()
    other.experiment.write_text(TEXT.replace("3.0e-3", "1.0e-1"), encoding="utf-8")
    assert other.train("whole") == 2
    assert "begun with other settings (optimizer.learning_rate)" in capsys.readouterr().err
    assert (lab.run("whole") / "experiment.json").read_bytes() == before


def test_the_same_settings_in_other_words_are_the_same(lab: Lab) -> None:
    text = lab.experiment.read_text(encoding="utf-8")
    try:
        lab.experiment.write_text(text.replace("3.0e-3", "0.003") + "# A remark.\n", encoding="utf-8")
        assert lab.train("whole") == 0
    finally:
        lab.experiment.write_text(text, encoding="utf-8")


def test_a_loss_that_is_not_finite_ends_the_run(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert lab.train("diverged", "optimizer.learning_rate=1.0e+30") == 2
    assert "lower optimizer.learning_rate" in capsys.readouterr().err
    assert not (lab.run("diverged") / "best.ckpt").exists()


@pytest.mark.parametrize("how", ["loss", "weights"])
def test_what_is_not_finite_names_the_cases_and_leaves_the_last_good_checkpoint(
    lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    step = ReReNet.step

    def failing(self: ReReNet, batch: Any, epoch: int, fabric: Any) -> dict[str, torch.Tensor]:
        figures = step(self, batch, epoch, fabric)
        if epoch == 1 and how == "weights":
            next(self.network.parameters()).data.fill_(float("nan"))
        return {name: value * (float("nan") if epoch == 1 and how == "loss" else 1) for name, value in figures.items()}

    monkeypatch.setattr(ReReNet, "step", failing)
    assert lab.train(how, "engine.checkpoint_every=0" if how == "loss" else "engine.checkpoint_every=1") == 2
    said = capsys.readouterr().err
    assert "case" in said if how == "loss" else "no longer finite" in said
    state = torch.load(lab.run(how) / "last.ckpt", weights_only=True)
    assert state["state"]["epoch"] == 1
    assert all(value.isfinite().all() for value in state["network"].values())


def test_all_processes_stop_when_one_s_loss_is_not_finite(lab: Lab) -> None:
    overrides = ["engine.strategy=ddp", "engine.devices=2", "engine.batch_size=4"]
    done = lab.script(DIVERGE_ON_RANK_1, "one bad", *overrides)
    assert done.returncode == 2, done.stderr[-3000:]
    assert done.stderr.count("The loss is nan at step 1, with the cases case") >= 1


def test_fewer_windows_than_a_batch_are_refused(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert lab.train("large", "engine.batch_size=4096") == 2
    assert "lower engine.batch_size" in capsys.readouterr().err


def test_patience_ends_a_run(lab: Lab) -> None:
    overrides = ["engine.epochs=9", "engine.patience=2", "optimizer.learning_rate=0", "engine.checkpoint_every=0"]
    assert lab.train("patient", *overrides, "network.arguments.norm=instance", "engine.batch_size=40") == 0
    assert [row["epoch"] for row in lab.log("patient") if "epoch" in row] == [1, 2, 3]


def test_two_processes_end_with_the_same_weights(lab: Lab) -> None:
    overrides = ["engine.strategy=ddp", "engine.devices=2", "engine.epochs=2", "engine.batch_size=4"]
    done = lab.script(f"{KEEP_RANKS}sys.exit(main())", "two", *overrides)
    assert done.returncode == 0, done.stderr[-3000:]
    ranks = [torch.load(lab.run("two") / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
    assert ranks[0]["best"] == ranks[1]["best"]
    first, second = (rank["parameters"] for rank in ranks)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    log = lab.log("two")
    assert [row["epoch"] for row in log if "epoch" in row] == [1, 2]
    steps = [row["step"] for row in log if "epoch" not in row]
    assert steps == list(range(1, len(steps) + 1)), "one process writes the log"
