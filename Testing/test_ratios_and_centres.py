"""Tables over shares of labels and over data sets: what is trained on what, measured where, compared with whom."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from NoisyLabelSegLib.errors import InputError
from training import centres, measuring, ratios, tables, trainings
from training.__main__ import main
from training.data.cases import Case, DataSet
from training.tables import TableSettings
from training.trainings import Training

EXPERIMENT = """\
recipe: supervised
data: tiny
preprocessing: {dimensions: 2, window: [32, 32], margin: 0, intensity: {rule: z-score, scope: case}, sliding: true}
augmentation: {jitter: 0}
network: {name: unet, arguments: {features: [4, 4, 4, 4, 4, 4]}}
optimizer: {name: AdamW, learning_rate: 3.0e-2}
engine: {epochs: 1, batch_size: 8, accelerator: cpu, devices: 1, threads: 1}
"""
ROWS = {"plain": {"experiment": "tiny.yaml"}, "fast": {"experiment": "tiny.yaml", "set": ["optimizer.learning_rate=1"]}}
RATIOS = {"title": "tiny", "rows": ROWS, "ratios": [0.3, 1], "columns": ["dice", "hd95"]}
CENTRES = {"title": "two", "rows": {"plain": ROWS["plain"]}, "centres": ["tiny", "other"], "columns": ["dice"]}


@pytest.fixture
def desk(tmp_path: Path, tiny_dataset: Path) -> Iterator[Callable[..., int]]:
    """Writes a table, makes it, and gives the exit code; beside "tiny" there is "other" with other images."""
    (tmp_path / "tiny.yaml").write_text(EXPERIMENT, encoding="utf-8")
    for name in ("tiny", "other"):
        shutil.copytree(tiny_dataset / "tiny", tmp_path / "data" / name)
    where = ["--data", str(tmp_path / "data"), "--runs", str(tmp_path / "runs"), "--split", "val"]
    threads = torch.get_num_threads()

    def run(table: dict[str, Any], *more: str) -> int:
        (tmp_path / "table.yaml").write_text(yaml.safe_dump(table, sort_keys=False), encoding="utf-8")
        return main(["table", str(tmp_path / "table.yaml"), *where, *more])

    yield run
    torch.set_num_threads(threads)


def test_a_table_of_ratios_trains_nested_shares_and_compares_rows_at_each(
    desk: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert desk(RATIOS) == 0
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert printed[0] == "| tiny: Dice | 30 % (2) | 100 % (6) |"
    assert [line.split(" | ")[0].strip("| ") for line in printed] == [
        *("tiny: Dice", "---", "plain", "fast", "fast against plain (p)"),
        *("tiny: HD95 (mm)", "---", "plain", "fast"),
    ]
    names = {path.name for path in (tmp_path / "runs").iterdir() if path.is_dir()}
    fast = "optimizer.learning_rate=1-seed0"
    assert names == {
        *("tiny-full-seed0", "tiny-full-labelled=0.3-seed0"),
        *(f"tiny-full-{fast}", f"tiny-full-labelled=0.3-{fast}"),
    }, "all labels are the run that has no share"
    found = json.loads((tmp_path / "runs" / "table-full-val.json").read_text("utf-8"))
    assert {ratio: one["patients"] for ratio, one in found.items()} == {"0.3": 2, "1": 6}
    plain = [one["rows"]["plain"]["seeds"][0]["dice"] for one in found.values()]
    assert plain[0] != plain[1]
    assert [set(one["rows"]["fast"]["against"]) for one in found.values()] == [{"plain"}] * 2
    picture = (tmp_path / "runs" / "table-full-ratios.svg").read_text("utf-8")
    assert all(f">{text}</text>" in picture for text in ("plain", "fast", "30", "100", "Dice", "tiny"))

    monkeypatch.setattr(trainings.Engine, "run", lambda *_: pytest.fail("it was trained already"))
    monkeypatch.setattr("training.calibrate.measure", lambda *_: pytest.fail("it was measured already"))
    assert desk(RATIOS) == 0
    capsys.readouterr()
    written = (tmp_path / "runs" / "table-full-val.json").read_bytes()
    assert desk(RATIOS, "--ratio", "1") == 0
    assert capsys.readouterr().out.splitlines()[0] == "| tiny: Dice | 100 % (6) |"
    assert (tmp_path / "runs" / "table-full-val.json").read_bytes() == written, "a part has a file of its own"
    assert list(json.loads((tmp_path / "runs" / "table-full-1-val.json").read_text("utf-8"))) == ["1"]
    assert desk(RATIOS, "--ratio", "0.5") == 2
    assert "has no ratio 0.5; its ratios are 0.3, 1." in capsys.readouterr().err


def test_the_same_steps_are_as_many_more_epochs(desk: Callable[..., int], tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(EXPERIMENT.replace("epochs: 1", "epochs: 12, validate_every: 3"), "utf-8")
    training = Training(tmp_path / "tiny.yaml", False, (), 0, tmp_path / "data", tmp_path)
    for ratio, epochs, every in ((0.05, 72, 18), (0.3, 36, 9), (1, 12, 3)):  # of six patients one, two and all
        settings = TableSettings("any", {"a": tables.RowSettings("")}, ratios=[ratio], same_steps=True)
        made = ratios._at(training, ratio, settings).experiment()
        assert (made.labelled, made.engine.epochs, made.engine.validate_every) == (ratio, epochs, every)
    patches = ("augmentation.patches=3", "engine.batch_size=4")  # 18 // 4 steps of all, 6 // 4 of two patients
    assert ratios._longer(replace(training, overrides=patches), 0.3) == 4


def figures(dice: float) -> dict[str, Any]:
    """As a run's would be, on eight patients who all have the same Dice but for a little."""
    rows = [{"patient": str(n), "dice": dice + 0.001 * n} for n in range(8)]
    return {"figures": {"dice": dice}, "rows": rows}


def test_means_spreads_and_differences_of_ratios_are_those_of_the_seeds(
    desk: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def measured(training: Training, *_: Any, **__: Any) -> dict[str, Any]:
        fast = any("learning_rate" in text for text in training.overrides)
        return figures(training.experiment().labelled / 2 + 0.1 * training.seed + (0.02 if fast else 0))

    monkeypatch.setattr(ratios, "measured", measured)
    (tmp_path / "runs").mkdir()
    assert desk({**RATIOS, "seeds": [0, 2], "columns": ["dice"]}) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "| plain | 0.2500 ± 0.1414 | 0.6000 ± 0.1414 |" in lines
    assert "| fast against plain (p) | +0.0200 (0.0078) | +0.0200 (0.0078) |" in lines
    drawn: list[Any] = []
    monkeypatch.setattr("matplotlib.axes.Axes.errorbar", lambda _, x, y, spread, **named: drawn.append((x, y, spread)))
    found = json.loads((tmp_path / "runs" / "table-full-val.json").read_text("utf-8"))
    with pytest.warns(UserWarning, match="no artists|No artists"):
        ratios.write_picture(tmp_path / "picture.svg", found, "dice", "title")
    assert drawn[0][0] == [30, 100]
    assert drawn[0][1] == pytest.approx([0.25, 0.6]) and drawn[0][2] == pytest.approx([0.1414, 0.1414], abs=1e-4)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ratios": [0.1, 0.2, 1]}, "20 % of the training patients of 'tiny' are no more than 10 % of them (1)"),
        ({"ratios": [1, 0.5]}, "ratios must rise"),
        ({"ratios": [0, 0.5]}, "lie above 0"),
        ({"ratios": [0.5, 1.2]}, "up to 1"),
        ({"centres": ["tiny", "other"]}, "leave no place for ratios"),
        ({"ratios": [], "centres": ["tiny"]}, "two data sets or more"),
        ({"ratios": [], "centres": ["tiny", "tiny"]}, "each once"),
        ({"ratios": [], "centres": ["tiny", "nowhere"]}, "nowhere"),
        ({"ratios": [], "centres": ["tiny", "other"], "against": ["plain"]}, "leave out against and gap"),
        ({"ratios": [], "centres": ["tiny", "other"], "same_steps": True}, "same_steps is of ratios"),
    ],
)
def test_what_cannot_be_made_is_said_before_any_training(
    change: dict[str, Any],
    said: str,
    desk: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Training, "train", lambda *_: pytest.fail("nothing should be trained"))
    assert desk({**RATIOS, **change}) == 2
    assert said in capsys.readouterr().err


def test_centres_are_trained_once_each_and_measured_on_all(
    desk: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, str]] = []
    measure = measuring.calibrate.measure

    def watched(name: str, model: Any, dataset: DataSet, *more: Any, **named: Any) -> Any:
        seen.append((name, dataset.cases[0].image.parent.name))
        return measure(name, model, dataset, *more, **named)

    monkeypatch.setattr(measuring.calibrate, "measure", watched)
    assert desk(CENTRES) == 0
    here, there = "tiny-full", "tiny-full-data=other"
    assert sorted(seen) == [(here, "other"), (here, "tiny"), (there, "other"), (there, "tiny")]
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert printed[0] == "| two: Dice | on tiny | on other |"
    assert [line.split(" | ")[0].strip("| ") for line in printed[2:]] == ["plain, tiny", "plain, other"]
    found = json.loads((tmp_path / "runs" / "table-full-val.json").read_text("utf-8"))["plain"]
    assert {name: list(places) for name, places in found.items()} == {name: ["tiny", "other"] for name in found}
    assert [list(found["tiny"][place]["against"]) for place in ("tiny", "other")] == [[], ["other"]]
    picture = (tmp_path / "runs" / "table-full-centres.svg").read_text("utf-8")
    numbers = [f"{one['seeds'][0]['dice']:.3f}" for places in found.values() for one in places.values()]
    assert all(f">{text}</text>" in picture for text in (*numbers, "measured on", "trained on", "other"))
    seen.clear()
    assert desk(CENTRES) == 0 and not seen


def cases(folder: str, *splits: str, channels: int = 0) -> tuple[Case, ...]:
    more = tuple(Path(f"{folder}/c{n}.nii.gz") for n in range(channels))
    return tuple(
        Case(f"{folder}{n}", Path(f"{folder}/{n}.nii.gz"), split=split, channels=more)  # type: ignore[arg-type]
        for n, split in enumerate(splits)
    )


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (DataSet("b", {1: "tumour"}, cases("b", "train", "test")), "'a' has the labels {1: 'lesion'} and 'b' {1: 't"),
        (DataSet("b", {1: "lesion"}, cases("b", "train", "test", channels=1)), "'a' has the channels 1 and 'b' 2"),
        (
            DataSet("b", {1: "lesion"}, cases("a", "test", "val")),
            "'a0' of the test part of 'b' is in the training part",
        ),
        (DataSet("b", {1: "lesion"}, cases("b", "train", "test")), ""),
    ],
)
def test_data_sets_that_do_not_go_together_are_refused(other: DataSet, said: str) -> None:
    both = {"a": DataSet("a", {1: "lesion"}, cases("a", "train", "test")), "b": other}
    if not said:
        centres.check_alike(both, "test")
    else:
        with pytest.raises(InputError) as error:
            centres.check_alike(both, "test")
        assert said in str(error.value)
