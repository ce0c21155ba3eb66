"""What RefineSeg has learnt of annotators, told and shown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_trainings import from_drawings

from training.__main__ import main
from training.annotators import _counted, _pairs, _told, expected_at_start
from training.data.cases import read_dataset, write_dataset


def test_how_annotators_err_is_shown(drawn_desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from_drawings(drawn_desk).train()
    where = ["--data", str(drawn_desk / "data"), "--runs", str(drawn_desk / "runs"), "-o", str(drawn_desk / "shown")]
    assert main(["annotators", str(drawn_desk / "refineseg.yaml"), *where]) == 0
    said = capsys.readouterr().out
    assert "eroded (positive): " in said and "eroded (complementary): its matrix comes before" in said
    figures = json.loads((drawn_desk / "shown" / "annotators.json").read_text("utf-8"))
    assert list(figures) == ["eroded (positive)", "eroded (complementary)"]
    assert "counted" not in figures["eroded (complementary)"]
    positive = figures["eroded (positive)"]
    assert positive["counted"] == [[1, 0], [0, 1]], "an eroded drawing says nothing wrong"
    difference = np.abs(np.array(positive["drawn_given_true"]) - np.eye(2))
    assert positive["mean_absolute_error"] == pytest.approx(difference.mean(), abs=1e-3)
    assert positive["largest_error"] == pytest.approx(difference.max(), abs=1e-3)
    for found in figures.values():
        np.testing.assert_allclose(np.sum(found["drawn_given_true"], axis=0), 1, atol=1e-3)
    for name in ("1_eroded_positive", "2_eroded_complementary"):
        assert (drawn_desk / "shown" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    predicted = [
        "predict",
        str(drawn_desk / "refineseg.yaml"),
        *where[:4],
        "--split",
        "val",
        "-o",
        str(drawn_desk / "labels"),
    ]
    assert main(predicted) == 0 and len(list((drawn_desk / "labels").iterdir())) == 2
    capsys.readouterr()
    assert main(["annotators", str(drawn_desk / "refineseg.yaml"), *where, "--set", "settings.matrices=false"]) == 2
    assert "train this experiment first" in capsys.readouterr().err


def test_nothing_is_told_of_matrices_as_they_were_before_training() -> None:
    start = expected_at_start(3, 0.9)
    assert torch.allclose(start.sum(dim=0), torch.ones(3))
    assert _told(start, start, ["a", "b", "c"]) == [f"no error of {name} was learnt" for name in "abc"]
    learnt = torch.tensor([[0.9, 0.2, 0.05], [0.05, 0.75, 0.05], [0.05, 0.05, 0.9]])
    assert _told(learnt, start, ["a", "b", "c"])[1] == "of true b, 20% as a is drawn otherwise"


def test_a_part_that_nobody_drew_in_is_shown(drawn_desk: Path) -> None:
    dataset = read_dataset(drawn_desk / "data" / "coarse")
    cases = tuple(case if case.split == "train" else replace(case, drawings=()) for case in dataset.cases)
    write_dataset(drawn_desk / "data" / "coarse", replace(dataset, cases=cases))
    from_drawings(drawn_desk).train()
    where = ["--data", str(drawn_desk / "data"), "--runs", str(drawn_desk / "runs"), "-o", str(drawn_desk / "shown")]
    assert main(["annotators", str(drawn_desk / "refineseg.yaml"), *where]) == 0
    figures = json.loads((drawn_desk / "shown" / "annotators.json").read_text("utf-8"))
    assert "counted" not in figures["eroded (positive)"]


@pytest.mark.parametrize(("before", "said"), [(False, "'coarse' has changed"), (True, "others had drawn in")])
def test_a_run_is_not_read_with_other_annotators(
    drawn_desk: Path, before: bool, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    training = from_drawings(drawn_desk)
    training.train()
    if before:  # runs said what they are made of
        settings = training.folder / "experiment.json"
        values = json.loads(settings.read_text("utf-8"))
        settings.write_text(json.dumps({**values, "origins": {}}), encoding="utf-8")
    dataset = read_dataset(drawn_desk / "data" / "coarse")
    renamed = tuple(
        replace(case, drawings=tuple(replace(one, annotator="somebody") for one in case.drawings))
        for case in dataset.cases
    )
    write_dataset(drawn_desk / "data" / "coarse", replace(dataset, cases=renamed))
    where = ["--data", str(drawn_desk / "data"), "--runs", str(drawn_desk / "runs"), "-o", str(drawn_desk / "shown")]
    assert main(["annotators", str(drawn_desk / "refineseg.yaml"), *where]) == 2
    assert said in capsys.readouterr().err


def test_what_an_annotator_makes_of_each_class_is_counted() -> None:
    codes = torch.tensor([0, 1, 1, 2, 3, 3, 9])  # nothing, background twice, one, two twice, no class
    true = torch.tensor([1, 0, 1, 1, 2, 1, 0])
    assert _pairs(codes, true, 3).tolist() == [[1, 1, 0], [0, 1, 0], [0, 1, 1]]
    found = _counted(torch.eye(3), torch.tensor([[3.0, 1, 0], [0, 1, 0], [1, 0, 0]]))
    assert found["classes_counted"] == [0, 1] and found["counted"] == [[0.75, 0.5], [0, 0.5], [0.25, 0]]
    assert found["mean_absolute_error"] == pytest.approx(1.5 / 6) and found["largest_error"] == 0.5
