"""What the panel decides and says, without Qt: workflows, what is missing, first choices, sentences and rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from NoisyLabelSegLib.regions import Region, box_of
from NoisyLabelSegLib.review import Review
from NoisyLabelSegSlicer.client import Progress
from NoisyLabelSegSlicer.installation_plan import Plan, Step
from NoisyLabelSegSlicer.panel import readiness, review_rows, statistics_columns, texts
from NoisyLabelSegSlicer.panel.readiness import Inputs
from NoisyLabelSegSlicer.statistics import Row

MODELS = Path(__file__).resolve().parents[1] / "Resources" / "Models"
LIDC, HIPPOCAMPUS = (
    json.loads((MODELS / name / "configs" / "model.json").read_text(encoding="utf-8"))
    for name in ("lidc-nodule-refine", "hippocampus-refine")
)
FINDER = {**LIDC, "name": "finder", "kind": "segment", "method": "weak_to_strong", "method_arguments": {}}
POINTED = {**FINDER, "method_arguments": {"needs_region": True}}
REFINE, UNCERTAINTY, SEGMENT = readiness.workflows()
CT, MR = (-1024.0, 3000.0), (0.0, 2670.0)


def inputs(**changes: Any) -> Inputs:
    ready = {"ready": True, "workflow": REFINE, "model": LIDC, "has_volume": True, "segments": ["nodule"]}
    return Inputs(**{**ready, "has_roi": False, **changes})


def test_there_is_a_workflow_for_every_kind_of_model() -> None:
    assert [workflow.kind for workflow in readiness.workflows()] == ["refine", "uncertainty", "segment"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, ""),
        ({"ready": False}, "set-up"),
        ({"model": None, "workflow": None}, "model"),
        ({"has_volume": False}, "volume"),
        ({"segments": []}, "Tick"),
        ({"segments": None}, ""),
        ({"segments": ["anything"]}, ""),
        ({"model": HIPPOCAMPUS, "segments": ["anterior", "Posterior"]}, ""),
        ({"model": HIPPOCAMPUS, "segments": ["anterior", "tail"]}, "“tail”"),
        ({"workflow": SEGMENT, "segments": []}, ""),
        ({"workflow": UNCERTAINTY, "segments": None}, ""),
        ({"workflow": SEGMENT, "has_volume": False}, "volume"),
        ({"workflow": SEGMENT, "model": POINTED}, "Draw a box"),
        ({"workflow": SEGMENT, "model": POINTED, "has_roi": True}, ""),
    ],
)
def test_what_is_missing_is_said_first_things_first(changes: dict[str, Any], sentence: str) -> None:
    found = readiness.missing(inputs(**changes))
    assert sentence in found and bool(found) == bool(sentence)


@pytest.mark.parametrize(
    ("changes", "verb", "hinted"),
    [
        ({}, "Refine", False),
        ({"segments": None}, "Segment without a mask", True),
        ({"workflow": UNCERTAINTY, "segments": None}, "Map the uncertainty", True),
        ({"workflow": SEGMENT, "segments": None}, "Segment", True),
        ({"workflow": SEGMENT, "segments": None, "has_roi": True}, "Segment", False),
        ({"workflow": SEGMENT, "model": POINTED, "segments": None}, "Segment", False),
        ({"workflow": SEGMENT, "segments": ["nodule"]}, "Segment", True),
        ({"workflow": None, "model": None}, "Refine", False),
    ],
)
def test_the_button_says_what_it_does(changes: dict[str, Any], verb: str, hinted: bool) -> None:
    assert readiness.verb(inputs(**changes)) == verb
    assert bool(readiness.hint(inputs(**changes))) == hinted


def test_a_whole_volume_is_announced_in_one_sentence() -> None:
    said = readiness.hint(inputs(workflow=SEGMENT, segments=None))
    assert "whole volume" in said and "ROI" in said and said.count(".") == 1


@pytest.mark.parametrize(("workflow", "expected"), [(REFINE, True), (UNCERTAINTY, False), (SEGMENT, False)])
def test_stages_are_asked_for_where_there_are_some(workflow: readiness.Workflow, expected: bool) -> None:
    assert readiness.goes_by_stages(inputs(workflow=workflow)) == expected


@pytest.mark.parametrize(
    ("segments", "model", "ticks"),
    [
        (["a", "b"], None, [True, True]),
        (["nodule"], LIDC, [True]),
        (["lung", "Nodule"], LIDC, [False, True]),
        (["lesion", "other"], LIDC, [True, True]),
        (["anterior", "brain", "posterior"], HIPPOCAMPUS, [True, False, True]),
        (["brain"], HIPPOCAMPUS, [False]),
        (["Label 1", "brain"], HIPPOCAMPUS, [True, False]),
        ([], LIDC, []),
    ],
)
def test_segments_that_the_model_knows_are_ticked_at_first(segments: list[str], model: Any, ticks: list[bool]) -> None:
    assert readiness.ticked_at_first(segments, model) == ticks


@pytest.mark.parametrize(
    ("models", "segments", "values", "name"),
    [
        ([], [], None, ""),
        ([HIPPOCAMPUS, LIDC], [], None, "lidc-nodule-refine"),
        ([HIPPOCAMPUS, LIDC], ["Nodule"], None, "lidc-nodule-refine"),
        ([LIDC, HIPPOCAMPUS], ["anterior"], CT, "hippocampus-refine"),
        ([HIPPOCAMPUS, LIDC], ["unheard of"], CT, "lidc-nodule-refine"),
        ([LIDC, HIPPOCAMPUS], ["unheard of"], MR, "hippocampus-refine"),
        ([LIDC, FINDER], ["nodule"], CT, "lidc-nodule-refine"),
        ([FINDER, LIDC], ["my segment"], CT, "lidc-nodule-refine"),
        ([LIDC, FINDER], [], CT, "finder"),
        ([HIPPOCAMPUS, FINDER], [], MR, "hippocampus-refine"),
    ],
)
def test_the_model_that_suits_best_is_offered(models: Any, segments: list[str], values: Any, name: str) -> None:
    assert readiness.model_at_first(models, segments, values) == name


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (Progress("loading the model", 0.0), "loading the model"),
        (Progress("", 0.2, 1, 5, seconds_left=0.1), "stage 1 of at most 5 · about 1 s left"),
        (Progress("", 0.3, 2, 5, 32, 120, "cpu", 3.4), "stage 2 of at most 5, slice 32 of 120 · about 3 s left"),
        (Progress("", 0.3, 2, 5, 32, 120, "cpu", 89.6), "stage 2 of at most 5, slice 32 of 120 · about 90 s left"),
        (Progress("", 0.3, 2, 5, 32, 120, "cpu", 140), "stage 2 of at most 5, slice 32 of 120 · about 2 min left"),
        (Progress("", 0.3, 2, 5, 32, 120), "stage 2 of at most 5, slice 32 of 120"),
    ],
)
def test_progress_is_a_sentence(progress: Progress, text: str) -> None:
    assert texts.progress_text(progress) == text


def test_numbers_are_put_into_sentences() -> None:
    assert [texts.stage_text(stage, 5) for stage in (0, 3)] == ["given mask", "stage 3 of 5"]
    assert texts.stage_text(0, 5, from_nothing=True) == "nothing"
    assert texts.reviewed_text(3, 12) == "reviewed 3 of 12"
    assert texts.reviewed_text(0, 0) == "Nothing was changed."
    assert texts.reviewed_text(0, 0, from_nothing=True) == "Nothing was found."
    assert texts.bullets(["a", "b"]) == "• a\n• b"
    assert [texts.device_text(device) for device in ("cpu", "cuda:0 (NVIDIA A2)")] == ["CPU", "cuda:0 (NVIDIA A2)"]


@pytest.mark.parametrize("provenance", [{}, {"model": 1}, {"model": {}, "device": "cpu", "seconds": "soon"}])
def test_where_a_result_came_from_is_said_or_left_out(provenance: dict[str, Any]) -> None:
    whole = {"model": {"name": "m", "version": "1.0"}, "device": "cpu", "seconds": 2.345}
    assert texts.made_by(whole) == "By m 1.0, in 2.3 s on CPU."
    assert texts.made_by(provenance) == ""


@pytest.mark.parametrize(
    ("packages", "kind", "words"),
    [([], "slicer", []), (["torch", "monai"], "slicer", ["torch, monai", "once"]), (["torch"], "ssh", ["there"])],
)
def test_what_the_worker_lacks_is_said(packages: list[str], kind: str, words: list[str]) -> None:
    text = texts.lacking_text(packages, kind)
    assert all(word in text for word in words) and bool(text) == bool(packages)


def test_a_person_reads_every_step_before_it_happens() -> None:
    plan = Plan((Step("extension", "First this."), Step("pip", "Then that.")), ("Mind this.",))
    assert texts.plan_text(plan).endswith("\n\n• First this.\n• Then that.\n• Mind this.")


def review(uncertainty: bool = False, segments: int = 1) -> Review:
    """Two changes a segment: 8 voxels added at once, 1 removed at the last stage."""
    given = np.zeros((6, 10, 10), bool)
    given[1:4, 1:4, 1:4] = True
    grown, shrunk = given.copy(), given.copy()
    grown[2:4, 6:8, 6:8] = True
    shrunk |= grown
    shrunk[1, 1, 1] = False
    stages = [[_region(mask)] * segments for mask in (given, grown, shrunk)]
    maps = {0: _region(np.full((6, 10, 10), 0.25, np.float32))} if uncertainty else None
    return Review([f"s{n}" for n in range(segments)], stages, (1.0, 1.0, 2.5), (10, 10, 6), maps)


def _region(array: Any) -> Region:
    box = box_of(array)
    return Region(box, array[box])


def slice_of(index: tuple[int, int, int]) -> int:
    return index[2] + 1


def test_a_row_says_size_place_and_stage_of_a_change() -> None:
    found = review()
    rows = review_rows.rows(found, ["lesion"], slice_of)
    assert rows == [[False, "", "added", 20.0, 3, 1], [False, "", "removed", 2.5, 2, 2]]
    assert [len(row) for row in rows] == [len(review_rows.headings(found, ["lesion"]))] * 2


def test_rows_have_more_columns_where_these_say_something() -> None:
    found = review(uncertainty=True, segments=2)
    names = ["a", "b"]
    rows = review_rows.rows(found, names, slice_of)
    titles = [title for title, _ in review_rows.headings(found, names)]
    assert titles[-2:] == ["Segment", "Unsure"]
    assert {tuple(row[-2:]) for row in rows} == {("a", 0.25), ("b", None)}


def found_at_once() -> Review:
    """Two objects where nothing was given, the smaller one the less sure."""
    nothing, found, doubt = np.zeros((3, 6, 10, 10), np.float32)
    found[1:4, 1:4, 1:4] = found[2:4, 6:8, 6:8] = 1
    doubt[1:4, 1:4, 1:4], doubt[2:4, 6:8, 6:8] = 0.25, 0.75
    stages = [[_region(mask.astype(bool))] for mask in (nothing, found)]
    return Review(["s0"], stages, (1.0, 1.0, 2.5), (10, 10, 6), {0: _region(doubt)}, uncertain_first=True)


def test_what_is_found_where_nothing_was_given_is_no_change_and_has_no_stage() -> None:
    review = found_at_once()
    rows = review_rows.rows(review, ["nodule"], slice_of, from_nothing=True)
    assert rows == [[False, "", 20.0, 3, 0.75], [False, "", 67.5, 3, 0.25]]
    titles = [title for title, _ in review_rows.headings(review, ["nodule"], from_nothing=True)]
    assert titles == ["Seen", "Decision", "mm³", "Slice", "Unsure"]


@pytest.mark.parametrize(
    ("from_nothing", "titles", "values"),
    [
        (False, ["Segment", "Before, mm³", "After, mm³", "Dice", "HD95, mm"], ["nodule", 0.0, 12.3, None, None]),
        (True, ["Segment", "Volume, mm³"], ["nodule", 12.3]),
    ],
)
def test_statistics_compare_where_there_is_something_to_compare(
    from_nothing: bool, titles: list[str], values: list[Any]
) -> None:
    row: Row = {
        "segment": "nodule",
        "volume_before_mm3": 0.0,
        "volume_after_mm3": 12.345,
        "dice": None,
        "hd95_mm": None,
    }
    assert [title for title, _ in statistics_columns.headings(from_nothing=from_nothing)] == titles
    assert statistics_columns.cells(row, from_nothing=from_nothing) == values


def test_decisions_are_in_the_columns_that_the_table_brings_up_to_date() -> None:
    found = review()
    first, second = found.listed()
    found.accept([first])
    found.revert([second])
    rows = review_rows.rows(found, ["lesion"], slice_of)
    assert [row[review_rows.DECISION] for row in rows] == ["accepted", "reverted"]
    assert [row[review_rows.SEEN] for row in rows] == [True, True]
    assert [review_rows.decision_text(found, key) for key in (first, second)] == ["accepted", "reverted"]
