"""The training's commands on a tiny run: what is measured is what was trained, and nothing is overwritten."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_models import write_model

from training.__main__ import main
from training.data.cases import DataSet, read_dataset, write_dataset
from training.runs import run_name

TEXT = """\
recipe: rerenet
data: tiny
preprocessing: {dimensions: 2, window: [16, 16], margin: 0, intensity: {rule: min-max, scope: slice}}
augmentation: {jitter: 0}
network: {arguments: {features: [2, 2, 2, 2, 2, 2]}}
settings: {stages: 1, inference_stages: 1, starts: {simulated: {warp: 0.3}}}
engine: {epochs: 1, batch_size: 32, accelerator: cpu, devices: 1, threads: 1}
"""


class Desk:
    """A folder with an experiment, its run and its data."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder, self.data, self.experiment = folder, data, folder / "tiny.yaml"
        self.experiment.write_text(TEXT, encoding="utf-8")
        threads = torch.get_num_threads()
        assert self("train") == 0
        torch.set_num_threads(threads)

    def __call__(self, command: str, *more: str) -> int:
        common = ["--data", str(self.data), "--runs", str(self.folder / "runs")]
        return main([command, str(self.experiment), *common, *more])

    def files(self, pattern: str) -> set[str]:
        return {path.name for path in (self.folder / "runs").rglob(pattern)}

    @property
    def run(self) -> Path:
        return self.folder / "runs" / "tiny-full-seed0"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path) -> Desk:
    return Desk(tmp_path_factory.mktemp("commands"), tiny_dataset)


@pytest.fixture
def desk(made: Desk) -> Iterator[Desk]:
    """As trained, whatever a test did."""
    kept = made.folder / "kept"
    shutil.copytree(made.folder / "runs", kept)
    yield made
    made.experiment.write_text(TEXT, encoding="utf-8")
    shutil.rmtree(made.folder / "runs")
    kept.rename(made.folder / "runs")


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "a-small"),
        (["settings.memory=false"], "a-small-settings.memory=false"),
        (["b=2", "a=1"], "a-small-a=1-b=2"),
        (["a=3", "b=2", "a=1"], "a-small-a=1-b=2"),
    ],
)
def test_overrides_name_a_run(overrides: list[str], name: str) -> None:
    assert run_name(Path("x/a.yaml"), small=True, overrides=overrides) == name


def test_odd_and_long_overrides_still_tell_runs_apart() -> None:
    texts = ["a=[1, 2]", "a={1, 2}", "a=../x", "a=" + "y" * 200, "a=" + "y" * 201]
    names = {run_name(Path("a.yaml"), small=False, overrides=[text]) for text in texts}
    assert len(names) == len(texts)
    assert not any(set(name) & set("/[]{}, ") or len(name) > 110 for name in names)


def test_a_run_is_measured_with_the_settings_that_it_was_trained_with(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.experiment.write_text(TEXT.replace("margin: 0", "margin: 9").replace("warp: 0.3", "warp: 0.2"), "utf-8")
    for command, more in (("evaluate", ["--split", "val"]), ("predict", ["-o", "x"]), ("export", ["--card", "x"])):
        assert desk(command, *more) == 2
        said = capsys.readouterr().err
        assert "preprocessing.margin" in said and "settings.starts.simulated.warp" in said
    assert desk("evaluate", "--split", "val", "--set", "settings.memory=true") == 2, "another run's folder"


def test_a_run_of_an_older_version_without_limit_can_be_measured(desk: Desk) -> None:
    file = desk.run / "experiment.json"
    values = json.loads(file.read_text("utf-8"))
    del values["limit"]
    file.write_text(json.dumps(values), "utf-8")
    assert desk("evaluate", "--split", "val", "--stages", "1") == 0


def test_each_way_of_measuring_has_a_table_and_figures_of_its_own(desk: Desk) -> None:
    assert desk("evaluate", "--split", "val", "--stages", "1") == 0
    assert desk("evaluate", "--split", "val", "--stages", "2", "--update", "replace") == 0
    assert desk("evaluate", "--split", "val", "--stages", "1", "--baseline", str(desk.experiment)) == 0
    tables = {name.rsplit("-", 2)[0] for name in desk.files("*.csv")}
    assert tables == {"val-1-stages-mean", "val-2-stages-replace"}
    figures = {"val-1-stages", "val-2-stages-replace"}
    names = {f"tiny-full-seeds0-{name}.json" for name in figures} | {"tiny-full-vs-tiny-full-seeds0-val-1-stages.json"}
    assert names <= desk.files("*.json")


def test_other_weights_are_measured_anew(desk: Desk) -> None:
    assert desk("evaluate", "--split", "val", "--stages", "1") == 0
    checkpoint = torch.load(desk.run / "best.ckpt", weights_only=True)
    torch.save({"network": checkpoint["network"]}, desk.run / "best.ckpt")
    assert desk("evaluate", "--split", "val", "--stages", "1") == 0
    assert len(desk.files("val-1-stages-mean-*.csv")) == 2


def test_other_cases_are_measured_anew(desk: Desk, tmp_path: Path) -> None:
    assert desk("evaluate", "--split", "val", "--stages", "1") == 0
    shutil.copytree(desk.data / "tiny", tmp_path / "tiny")
    dataset = read_dataset(tmp_path / "tiny")
    (moved, *_) = dataset.part("train")
    cases = tuple(replace(case, split="val") if case == moved else case for case in dataset.cases)
    write_dataset(tmp_path / "tiny", replace(dataset, cases=cases))
    file = desk.run / "experiment.json"
    values = json.loads(file.read_text("utf-8"))
    del values["origins"]  # else the run is refused
    file.write_text(json.dumps(values), "utf-8")
    where = ["--data", str(tmp_path), "--runs", str(desk.folder / "runs")]
    assert main(["evaluate", str(desk.experiment), *where, "--split", "val", "--stages", "1"]) == 0
    assert len(desk.files("val-1-stages-mean-*.csv")) == 2


def test_a_bundle_is_measured_on_the_experiment_s_data(desk: Desk, tmp_path: Path) -> None:
    bundle = write_model(tmp_path / "shipped")
    assert desk("evaluate", "--split", "val", "--stages", "1", "--model", str(bundle)) == 0
    content = json.loads((desk.folder / "runs" / "bundle-shipped-val-1-stages.json").read_text("utf-8"))
    assert set(content["bundle-shipped"]) == {"0", "1"}


def test_a_network_without_refinement_needs_no_first_mask(desk: Desk, tmp_path: Path) -> None:
    tiny = read_dataset(desk.data / "tiny")
    cases = tuple(replace(case, coarse=None) for case in tiny.cases)
    write_dataset(tmp_path / "tiny", DataSet(tiny.name, tiny.labels, cases))
    file = tmp_path / "unet.yaml"
    lines = [line for line in TEXT.replace("rerenet", "supervised").splitlines() if not line.startswith("settings")]
    file.write_text("\n".join(lines), encoding="utf-8")
    common = [str(file), "--data", str(tmp_path), "--runs", str(desk.folder / "runs")]
    assert main(["train", *common]) == 0
    assert main(["evaluate", *common, "--split", "val"]) == 0
    assert {name.rsplit("-", 2)[0] for name in desk.files("*.csv")} == {"val"}


def test_predictions_overwrite_nothing(desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--split", "val", "--stages", "1", "-o", str(tmp_path)]
    (tmp_path / "case7.nii.gz").write_text("mine")
    assert desk("predict", *arguments) == 2
    assert "exists already" in capsys.readouterr().err
    assert not (tmp_path / "case6.nii.gz").exists() and (tmp_path / "case7.nii.gz").read_text() == "mine"
    (tmp_path / "case7.nii.gz").unlink()
    assert desk("predict", *arguments) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"case6.nii.gz", "case7.nii.gz"}


@pytest.mark.parametrize("same", [True, False])
def test_preparing_overwrites_no_data_set(same: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "lidc"
    target.mkdir()
    if not same:
        (target / "dataset.json").write_text("{}")
    assert main(["prepare", "lidc", str(target if same else tmp_path), "--data", str(tmp_path)]) == 2
    assert ("published files themselves" if same else "is a data set already") in capsys.readouterr().err


def test_simulating_otherwise_than_the_data_set_is_said(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = read_dataset(desk.data / "tiny")
    for warp, said in ((0.31, False), (0.6, True)):
        folder = desk.folder / f"data {warp}"
        write_dataset(folder / "tiny", DataSet(tiny.name, tiny.labels, tiny.cases, "", {"warp": warp}))
        assert main(["train", str(desk.experiment), "--data", str(folder), "--runs", str(desk.folder / "runs")]) == 0
        assert ("warning: settings.starts.simulated.warp is 0.3" in capsys.readouterr().err) == said
