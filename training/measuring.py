"""What a run is worth on a part of a data set: trained and measured if that was not done yet, else read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from training import calibrate
from training.checkpoints import Run, as_model
from training.data.cases import DataSet, Split, read_dataset
from training.data.content import content_of
from training.evaluate import evaluate, of_stage, subject_of_run, write_figures
from training.predicted import with_first_masks
from training.trainings import Training


def measured(training: Training, split: Split, way: calibrate.Way | None = None, on: str = "") -> dict[str, Any]:
    """A run's `figures` and, case by case, `rows`; trained to its end first.

    Args:
        training: the run.
        split: the part that is measured.
        way: how it is measured.
        on: the name of another prepared data set than the run's own.
    """
    training.finish()
    run = training.read()
    way = way or calibrate.Way()
    dataset = _elsewhere(training, run, on) if on else run.parts.dataset
    place = f"{f'-on-{on}' if on else ''}-{content_of(dataset.part(split))}"
    path = training.folder / f"measured-{split}{way}{place}-{run.fingerprint}.json"
    if not path.is_file():
        found = _measure(training.name, run, dataset, split, way)
        cost = {"parameters": sum(t.numel() for t in run.state_dict.values()), "minutes": _minutes(training.folder)}
        write_figures(path, {"figures": {**found.figures(), **cost}, "rows": found.rows})
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _elsewhere(training: Training, run: Run, on: str) -> DataSet:
    """Another data set, with first masks as the run is used to them."""
    dataset = read_dataset(training.data / on)
    return with_first_masks(dataset, run.experiment.masks, training.data, training.runs, training.seed)


def _measure(name: str, run: Run, dataset: DataSet, split: Split, way: calibrate.Way) -> calibrate.Measured:
    """A refinement by its last stage's masks, any other network from the image alone."""
    model = as_model(run)
    if model.description.kind != "refine":
        return calibrate.measure(name, model, dataset, split, way)
    stages = model.description.method_arguments["stages"]
    rows = evaluate(replace(subject_of_run(run, name), dataset=dataset), split, stages)
    return calibrate.Measured(name, of_stage(rows, stages, slices=False), {})


def _minutes(folder: Path) -> float:
    """How long the run's epochs took, their validations left out."""
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return sum(json.loads(line).get("seconds", 0) for line in lines) / 60
