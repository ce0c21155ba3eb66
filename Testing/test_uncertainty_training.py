"""AffinityUMamba from labels with planted noise to a bundle: train, measure, look for the noise, export."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
import yaml
from torch import Tensor

from NoisyLabelSegLib import cli
from NoisyLabelSegLib.bundle import load_bundle
from NoisyLabelSegLib.methods.affinity_umamba import Relabelled
from training.__main__ import main
from training.recipes.affinity_umamba import relabelling, supervision
from training.suspicion import auroc

TEXT = """\
recipe: affinity_umamba
data: tiny_planted20
preprocessing:
  {dimensions: 3, window: [16, 32, 32], margin: 0, intensity: {rule: z-score, scope: case}, sliding: true}
augmentation: {jitter: 0}
network:
  name: affinity_umamba
  arguments: {features: [4, 8], mamba_from: 1, state: 2, pne: [3], deep_supervision: true}
optimizer: {name: AdamW, learning_rate: 3.0e-2}
engine: {epochs: 16, batch_size: 2, validate_every: 16, accelerator: cpu, devices: 1, threads: 1}
"""
CARD = Path(__file__).parents[1] / "training" / "cards" / "hippocampus-uncertainty.yaml"


class Desk:
    """A folder with an experiment, its data sets and its run."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder, self.data, self.experiment = folder, data, folder / "tiny.yaml"
        self.experiment.write_text(TEXT, encoding="utf-8")
        assert main(["plant", "tiny", "--share", "0.2", "--data", str(data)]) == 0
        assert self("train") == 0

    def __call__(self, command: str, *more: str) -> int:
        common = ["--data", str(self.data), "--runs", str(self.folder / "runs")]
        return main([command, str(self.experiment), *common, *more])

    @property
    def run(self) -> Path:
        return self.folder / "runs" / "tiny-full-seed0"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path) -> Iterator[Desk]:
    threads = torch.get_num_threads()
    yield Desk(tmp_path_factory.mktemp("uncertainty"), tiny_dataset)
    torch.set_num_threads(threads)


def write_card(folder: Path) -> Path:
    """The card of the shipped model, for one structure."""
    card: dict[str, Any] = yaml.safe_load(CARD.read_text("utf-8"))
    (folder / "licence.txt").write_text("A licence.", encoding="utf-8")
    card |= {"labels": card["labels"][:1], "licence_file": "licence.txt"}
    path = folder / "card.yaml"
    path.write_text(yaml.safe_dump(card), encoding="utf-8")
    return path


def test_it_learns_and_logs_what_was_relabelled(desk: Desk) -> None:
    rows = [json.loads(line) for line in (desk.run / "log.jsonl").read_text("utf-8").splitlines()]
    steps = [row for row in rows if "seconds" not in row]
    assert rows[-1]["score"] > 0.7 and steps[-1]["loss"] < 0.6 * steps[0]["loss"]
    assert {"margin", "affinity", "flagged", "relabelled", "relabelled_at_borders"} <= steps[0].keys()
    assert any(row["relabelled"] > 0 for row in steps), "planted noise gives LALR something to do"
    assert all(row["relabelled"] <= row["flagged"] <= 1 for row in steps)


def test_planted_noise_is_found(desk: Desk) -> None:
    assert desk("suspects", "--score", "probability", "both") == 0
    (file,) = desk.run.glob("suspects-*.json")
    figures = json.loads(file.read_text("utf-8"))
    assert figures["both"]["auroc"] > 0.9 and figures["both"]["planted_voxels"] > 0
    assert figures["both"] != figures["probability"]


def test_clean_labels_have_nothing_to_be_found(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert desk("train", "--set", "data=tiny", "--set", "engine.epochs=1") == 0
    assert desk("suspects", "--set", "data=tiny", "--set", "engine.epochs=1") == 2
    assert "make such a data set with 'plant'" in capsys.readouterr().err


def test_calibration_is_measured_before_and_after_a_temperature(desk: Desk) -> None:
    assert desk("calibrate", "--split", "val") == 0
    (file,) = (desk.folder / "runs").glob("*-calibration.json")
    plain, calibrated = (
        json.loads(file.read_text("utf-8"))["tiny-full"],
        json.loads(file.read_text("utf-8"))["tiny-full, calibrated"],
    )
    assert plain["dice"] == calibrated["dice"] > 0.7, "a temperature changes no label"
    assert calibrated["predicted"]["nll"] < plain["predicted"]["nll"]
    assert file.with_suffix(".svg").read_text("utf-8").startswith("<svg")


def test_export_keeps_the_temperatures_that_were_fitted(desk: Desk, tmp_path: Path) -> None:
    card = write_card(tmp_path)
    assert desk("export", "--card", str(card), "--models", str(tmp_path)) == 0
    bundle = load_bundle(tmp_path / yaml.safe_load(card.read_text("utf-8"))["name"])
    bundle.verify()
    arguments = bundle.description.method_arguments
    assert (bundle.description.kind, bundle.description.method) == ("uncertainty", "affinity_umamba")
    assert len(arguments["temperatures"]) == 2 and 1 not in arguments["temperatures"]


def test_patches_of_odd_images_are_calibrated_as_they_are_used(
    tmp_path: Path, tiny_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whole validation cases that are no multiple of anything: the network must see windows of them."""
    odd = tmp_path / "data" / "odd"
    odd.mkdir(parents=True)
    content = json.loads((tiny_dataset / "tiny" / "dataset.json").read_text("utf-8"))
    for entry in content["training"]:
        for key in ("image", "label"):
            image = sitk.ReadImage(str(tiny_dataset / "tiny" / entry[key]))
            entry[key] = f"{entry['id']}_{key}.nii.gz"
            sitk.WriteImage(sitk.ConstantPad(image, (2, 3, 5), (3, 4, 6)), str(odd / entry[key]))
        del entry["coarse"]
    (odd / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    text = TEXT.replace("{jitter: 0}", "{jitter: 0, patches: 1}").replace("epochs: 16", "epochs: 1")
    (tmp_path / "odd.yaml").write_text(text, encoding="utf-8")
    where = [str(tmp_path / "odd.yaml"), "--data", str(tmp_path / "data"), "--runs", str(tmp_path / "runs")]
    assert main(["train", *where, "--set", "data=odd"]) == 0
    assert main(["calibrate", *where, "--set", "data=odd", "--split", "val"]) == 0
    assert "odd" in capsys.readouterr().out


def test_a_network_of_two_channels_is_trained_measured_exported_and_used(
    desk: Desk, tmp_path: Path, tiny_dataset: Path
) -> None:
    pairs = tmp_path / "data" / "pairs"
    pairs.mkdir(parents=True)
    content = json.loads((tiny_dataset / "tiny" / "dataset.json").read_text("utf-8"))
    for entry in content["training"]:
        for key in ("image", "label", "coarse"):
            entry[key] = str(tiny_dataset / "tiny" / entry[key])
        entry["image"] = [entry["image"]] * 2
    (pairs / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    experiment = tmp_path / "two.yaml"
    experiment.write_text(TEXT.replace("tiny_planted20", "pairs").replace("epochs: 16", "epochs: 1"), encoding="utf-8")
    where = [str(experiment), "--data", str(tmp_path / "data"), "--runs", str(tmp_path / "runs")]
    assert main(["train", *where]) == 0
    assert main(["calibrate", *where, "--split", "val"]) == 0
    card = write_card(tmp_path)
    assert main(["export", *where, "--card", str(card), "--models", str(tmp_path)]) == 0
    bundle = load_bundle(tmp_path / yaml.safe_load(card.read_text("utf-8"))["name"])
    assert bundle.description.channels == 2
    image, out = content["training"][0]["image"][0], tmp_path / "out"
    used = ["uncertainty", image, "-m", str(bundle.folder), "-o", str(out), "--device", "cpu"]
    assert cli.main(used) == 2, "one of its two channels is missing"
    assert cli.main([*used, "--channel", image]) == 0
    assert "channel_2" in json.loads((out / "figures.json").read_text("utf-8"))["provenance"]


def test_deep_supervision_halves_the_weight_and_the_labels_of_each_level() -> None:
    labels = torch.randint(0, 2, (1, 8, 8), generator=torch.Generator().manual_seed(0))
    right = [20.0 * torch.nn.functional.one_hot(m, 2).movedim(-1, 1).float() for m in (labels, labels[:, ::2, ::2])]
    wrong = [-m for m in right]
    assert supervision([[m, m] for m in right], labels).mean().item() == pytest.approx(0, abs=1e-3)
    pairs = ((wrong[0], right[1]), (right[0], wrong[1]))
    top, bottom = (supervision([[a], [b]], labels).mean().item() for a, b in pairs)
    assert top == pytest.approx(2 * bottom, rel=0.05)


def test_relabelling_counts_what_changed_and_where() -> None:
    given = torch.zeros(1, 6, 6, dtype=torch.int64)
    given[:, :, 3:] = 1
    refined = given.clone()
    refined[0, 0, 2], refined[0, 0, 5] = 1, 0
    found = relabelling(Relabelled(refined, refined != given), given, 2)
    expected = {"flagged": 2 / 36, "relabelled": 2 / 36, "relabelled_foreground": 1 / 18, "relabelled_at_borders": 0.5}
    assert {name: value.item() for name, value in found.items()} == pytest.approx(expected)


@pytest.mark.parametrize("ties", [False, True])
def test_auroc_is_the_chance_of_the_right_order(ties: bool) -> None:
    rng = np.random.default_rng(0)
    score, positive = rng.normal(size=60), rng.random(60) < 0.3
    score = np.round(score) if ties else score
    pairs = [(a > b) + 0.5 * (a == b) for a in score[positive] for b in score[~positive]]
    assert auroc(score, positive) == pytest.approx(np.mean(pairs))
    assert np.isnan(auroc(score, np.zeros(60, bool)))


def test_the_network_gives_every_level_when_asked(desk: Desk) -> None:
    from NoisyLabelSegLib.networks import build

    network = build(
        "affinity_umamba",
        spatial_dims=2,
        in_channels=1,
        out_channels=3,
        features=[4, 8, 8],
        mamba_from=1,
        state=2,
        pne=[3],
        deep_supervision=True,
    )
    image = torch.randn(2, 1, 16, 24)
    levels: list[Tensor] = network(image, levels=True)
    assert [tuple(level.shape) for level in levels] == [(2, 6, 16, 24), (2, 6, 8, 12)]
    torch.testing.assert_close(network(image), levels[0])
