"""Every paradigm in two processes: what each has its own batch for comes to the same weights in both."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_trainings import KEEP_RANKS, run_script, training

EACH_PARADIGM = """\
*arguments, every = sys.argv[1:]
for paradigm in every.split(";"):
    name, _, paradigm = paradigm.partition("=")
    runs = "RUNS/" + name
    assert main([*arguments, "--runs", runs, "--set", f"paradigm={{name: {paradigm}}}"]) == 0
"""
CHOICES = {
    "dale": "dale, partition: {patch: 8}",
    "gradients": "dale, partition: {patch: 8}, confidence: {by: gradients}",
    "virtual_step": "dale, partition: {patch: 8}, confidence: {by: virtual_step}",
    "small_loss": "small_loss, warm_up: 0",
    "co_teaching": "co_teaching, warm_up: 0",
    "meta_weight_net": "meta_weight_net, partition: {patch: 8}",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path) -> Path:
    """A folder of runs of two processes, one a paradigm; starting processes takes longer than training."""
    folder = tmp_path_factory.mktemp("two")
    file = training(folder, tiny_dataset).file
    ddp = ["engine.strategy=ddp", "engine.devices=2", "engine.epochs=1", "network.arguments.norm=batch"]
    overrides = [part for override in ddp for part in ("--set", override)]
    script = KEEP_RANKS + EACH_PARADIGM.replace("RUNS", str(folder / "runs"))
    done = run_script(
        folder,
        script,
        ["train", str(file), "--data", str(tiny_dataset), *overrides, ";".join(map("=".join, CHOICES.items()))],
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "runs"


@pytest.mark.parametrize("paradigm", CHOICES)
def test_both_processes_end_with_the_same_weights(trained: Path, paradigm: str) -> None:
    (run,) = (trained / paradigm).iterdir()
    first, second = (torch.load(run / f"rank{rank}.pt", weights_only=True)["parameters"] for rank in range(2))
    companions = {"co_teaching": "peer", "meta_weight_net": "weigher"}
    if paradigm in companions:
        assert any(name.startswith(companions[paradigm]) for name in first)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
