"""Tables of experiments: what is missing is trained and measured once, the rows are compared with the first."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from filelock import FileLock

from NoisyLabelSegLib.errors import InputError
from training import trainings
from training.__main__ import main
from training.curves import epochs_to_best, scores_of, write_curves
from training.evaluate import paired

EXPERIMENT = """\
recipe: supervised
data: tiny
preprocessing:
  {dimensions: 3, window: [16, 32, 32], margin: 0, intensity: {rule: z-score, scope: case}, sliding: true}
augmentation: {jitter: 0}
network: {name: unet, arguments: {features: [4, 4, 4, 4, 4, 4]}}
optimizer: {name: AdamW, learning_rate: 3.0e-2}
engine: {epochs: 1, batch_size: 2, accelerator: cpu, devices: 1, threads: 1}
"""
TABLE: dict[str, Any] = {
    "title": "network",
    "set": ["engine.batch_size=3"],
    "seeds": [0, 1],
    "columns": ["dice", "foreground.ece", "parameters", "structures.lesion.hd95"],
    "rows": {
        "narrow": {"experiment": "tiny.yaml"},
        "trained for longer": {"experiment": "tiny.yaml", "set": ["engine.epochs=2"]},
    },
}


@pytest.fixture
def table(tmp_path: Path, tiny_dataset: Path) -> Callable[..., int]:
    (tmp_path / "tiny.yaml").write_text(EXPERIMENT, encoding="utf-8")
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(TABLE, sort_keys=False), encoding="utf-8")
    where = ["--data", str(tiny_dataset), "--runs", str(tmp_path / "runs"), "--split", "val"]
    threads = torch.get_num_threads()

    def run(*more: str) -> int:
        code = main(["table", str(tmp_path / "table.yaml"), *where, *more])
        torch.set_num_threads(threads)
        return code

    return run


def test_a_table_trains_and_measures_once(
    table: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert table() == 0
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert [line.split(" | ")[0].strip("| ") for line in printed if "---" not in line] == [
        "network",
        "narrow",
        "trained for longer",
    ]
    assert printed[0].split(" | ")[1:5] == ["Dice", "ECE foreground", "parameters", "HD95 (mm) lesion"]
    assert all(line.count("|") == printed[0].count("|") for line in printed)
    figures = json.loads((tmp_path / "runs" / "table-full-val.json").read_text("utf-8"))
    assert [len(row["seeds"]) for row in figures.values()] == [2, 2]
    assert list(figures["trained for longer"]["against"]) == ["narrow"] and not figures["narrow"]["against"]
    assert len(figures["trained for longer"]["against"]["narrow"]["epochs_to_best"]) == 2
    assert figures["narrow"]["seeds"][0]["dice"] != figures["narrow"]["seeds"][1]["dice"], "seeds differ"
    assert figures["narrow"]["seeds"][0]["structures"]["lesion"]["dice"] == figures["narrow"]["seeds"][0]["dice"]

    curves = (tmp_path / "runs" / "table-full-curves.svg").read_text("utf-8")
    assert all(f">{text}</text>" in curves for text in ("narrow", "trained for longer", "network", "epoch"))

    monkeypatch.setattr(trainings.Engine, "run", lambda *_: pytest.fail("it was trained already"))
    monkeypatch.setattr("training.calibrate.measure", lambda *_: pytest.fail("it was measured already"))
    assert table() == 0


def test_a_row_can_be_made_by_itself(table: Callable[..., int], tmp_path: Path) -> None:
    assert table("--row", "trained for longer") == 0
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {
        f"tiny-full-engine.batch_size=3-engine.epochs=2-seed{seed}" for seed in (0, 1)
    }, "no other row, and no table of a part"


@pytest.mark.filterwarnings("ignore:No artists")
def test_a_curve_is_the_mean_where_all_runs_were_validated(tmp_path: Path) -> None:
    for number, scores in enumerate([{2: 0.2, 4: 0.4}, {2: 0.6, 3: 0.9, 4: 0.8}]):
        (tmp_path / str(number)).mkdir()
        rows = [{"step": 1, "loss": 0.5}, *({"epoch": e, "step": e, "score": s} for e, s in scores.items())]
        text = "".join(f"{json.dumps(row)}\n" for row in rows)
        (tmp_path / str(number) / "log.jsonl").write_text(text, encoding="utf-8")
    assert scores_of(tmp_path / "0") == [(2, 0.2), (4, 0.4)]
    assert epochs_to_best(tmp_path / "1", tmp_path / "0") == 2 and epochs_to_best(tmp_path / "1", tmp_path / "1") == 3
    assert epochs_to_best(tmp_path / "0", tmp_path / "1") is None
    drawn: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("matplotlib.axes.Axes.plot", lambda _, *given, **named: drawn.append((*given, named["label"])))
        write_curves(tmp_path / "curves.svg", {"both": [tmp_path / "0", tmp_path / "1"]}, "title")
    [(epochs, means, label)] = drawn
    assert epochs == [2, 4] and means == pytest.approx([0.4, 0.6]) and label == "both"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rows": {"narrow": {"experimnt": "tiny.yaml"}}}, "experimnt"),
        ({"rows": {"narrow": {"experiment": "none.yaml"}}}, "none.yaml"),
        ({"columns": ["dise"], "seeds": [0]}, "no figure 'dise'"),
        ({"seed": [1]}, "seed"),
        ({"against": ["wide"]}, "'wide' is none"),
        ({"gap": ["narrow"]}, "a gap lies between two"),
        ({"same_steps": True}, "same_steps is of ratios, and there are none"),
        ({"set": ["paradigm="]}, "'paradigm' must be one of plain"),
        ({"one_object": True, "set": ["recipe=rerenet"]}, "refines masks, and is measured on whole images"),
    ],
)
def test_what_a_table_does_not_know_is_said(
    change: dict[str, object],
    said: str,
    table: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "table.yaml").write_text(yaml.safe_dump({**TABLE, **change}, sort_keys=False), encoding="utf-8")
    assert table() == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "must hold keys and values"),
        (b"- a", "must hold keys and values"),
        ("title: Größe".encode("cp1252"), "utf-8"),
    ],
)
def test_what_is_no_table_is_said(
    content: bytes, said: str, table: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in ("table.yaml", "tiny.yaml") if said == "utf-8" else ("table.yaml",):
        kept = (tmp_path / file).read_bytes()
        (tmp_path / file).write_bytes(content)
        assert table() == 2 and said in capsys.readouterr().err
        (tmp_path / file).write_bytes(kept)


def test_only_the_same_patients_are_compared() -> None:
    ours, fewer, others = ([{"patient": name, "dice": 0.5} for name in names] for names in ("ab", "a", "cd"))
    assert paired([ours], [ours]) == (0.0, 1.0)
    for rows in (fewer, others):
        with pytest.raises(InputError, match="measured on different patients, such as '[abcd]'"):
            paired([ours], [rows])


def test_an_unknown_row_is_said(table: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert table("--row", "wide") == 2
    assert "its rows are narrow, trained for longer" in capsys.readouterr().err


def test_a_run_that_another_process_trains_is_left_alone(
    table: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "runs" / "tiny-full-engine.batch_size=3-seed0"
    folder.mkdir(parents=True)
    with FileLock(folder / "training.lock"):
        assert table() == 2
    assert "is being trained by another process" in capsys.readouterr().err


def test_folds_are_pooled_and_gaps_told(
    table: Callable[..., int], tmp_path: Path, tiny_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for fold in ("one", "two"):
        shutil.copytree(tiny_dataset / "tiny", tiny_dataset / fold / "tiny")
    change = {
        "folds": ["one", "two"],
        "seeds": [0],
        "gap": ["narrow", "trained for longer"],
        "against": [*TABLE["rows"]],
    }
    (tmp_path / "table.yaml").write_text(yaml.safe_dump({**TABLE, **change}, sort_keys=False), encoding="utf-8")
    assert table() == 0
    for fold in ("one", "two"):
        assert len([path for path in (tmp_path / "runs" / fold).iterdir() if path.is_dir()]) == 2
    figures = json.loads((tmp_path / "runs" / "table-full-val.json").read_text("utf-8"))
    assert [row["gap_closed"] for row in figures.values()] == [0, 1]
    assert [len(row["seeds"]) for row in figures.values()] == [2, 2]
    first, second = TABLE["rows"]
    there, back = figures[first]["against"][second], figures[second]["against"][first]
    assert there["dice_by_patient"] == -back["dice_by_patient"]
    last = capsys.readouterr().out.splitlines()
    assert any("| gap closed |" in line for line in last) and any("| 100% |" in line for line in last)
