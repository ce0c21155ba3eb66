"""What a pipeline's stages are worth, whether the last one is worth more than its parts, and their bundles."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from NoisyLabelSegLib.errors import InputError
from training.calibrate import Way
from training.curves import scores_of
from training.data.cases import Split
from training.export import Card, export
from training.measuring import measured
from training.pipeline.settings import PipelineSettings
from training.pipeline.stages import segments
from training.recipes.arm import ARMSettings
from training.tables import Row, RowSettings, TableSettings, as_markdown, figures
from training.texts import write_text
from training.trainings import Training


def scores(pipeline: PipelineSettings, stages: Mapping[str, Training], split: Split) -> tuple[dict[str, Any], str]:
    """All stages' figures on a part of the data, and what to print: a table, and how the last compares with its parts.

    The last is the last that segments in the file's order. Its parts are the stages that it builds on and that see the
    same images. Stages that segment nothing have the score of their own task.
    """
    rows = [
        Row(name, [measured(training, split, Way(windows=pipeline.windows))])
        for name, training in stages.items()
        if segments(training)
    ]
    told = [
        f"{name}: validation score {max(score for _, score in scores_of(training.folder)):.4f}, of its own task."
        for name, training in stages.items()
        if not segments(training)
    ]
    found: dict[str, Any] = {"runs": {name: training.folder.name for name, training in stages.items()}}
    if rows:
        last = max(rows, key=lambda row: list(pipeline.stages).index(row.name))
        best = _best_part(last, rows, pipeline, stages, split)
        found["stages"] = _compared(rows, best or last)
        table = TableSettings(
            pipeline.title, {row.name: RowSettings("") for row in rows}, against=[(best or last).name]
        )
        told = [as_markdown(table, found["stages"]), *told, *([_verdict(last, best, found)] if best else [])]
    return found, "\n".join(told)


def _best_part(
    last: Row, rows: list[Row], pipeline: PipelineSettings, stages: Mapping[str, Training], split: Split
) -> Row | None:
    below, seen = pipeline.below(last.name), _sees(stages[last.name], split)
    parts = [row for row in rows if row.name in below and _sees(stages[row.name], split) == seen]
    return max(parts, key=_dice, default=None)


def _compared(rows: list[Row], other: Row) -> dict[str, Any]:
    """All rows' figures, and how those that were measured on the same patients compare with one of them."""
    patients = {row.name: {one["patient"] for one in row.seeds[0]["rows"]} for row in rows}
    alike = {row.name: [row, other] if patients[row.name] == patients[other.name] else [row] for row in rows}
    return {name: figures(both, [other.name])[name] for name, both in alike.items()}


def _sees(training: Training, split: Split) -> tuple[bool, set[Path]]:
    """Whether it is shown a strong image besides, and the images."""
    experiment = training.experiment()
    images = {case.image.resolve() for case in experiment.dataset(training.data).part(split)}
    return isinstance(experiment.settings, ARMSettings), images


def _dice(row: Row) -> float:
    return float(row.seeds[0]["figures"]["dice"])


def _verdict(last: Row, best: Row, found: dict[str, Any]) -> str:
    difference = _dice(last) - _dice(best)
    p = found["stages"][last.name]["against"][best.name]["p"]
    found["last"] = {"stage": last.name, "best_part": best.name, "dice": difference, "p": p}
    below = "below" if difference < 0 else "not below"
    return (
        f"The last stage, {last.name}, is {below} the best of its parts, {best.name}: "
        f"Dice {_dice(last):.4f} against {_dice(best):.4f} ({difference:+.4f}, p = {p:.2g})."
    )


def export_bundles(
    cards: Mapping[str, tuple[Path, Card]], stages: Mapping[str, Training], models: Path, pipeline: str
) -> dict[str, tuple[Path, bool]]:
    """Write a bundle of each stage that has a card, in a folder of models.

    ``exported.json`` in that folder keeps what each was made of: a bundle of the same weights and card is left alone,
    and only one of the same ``pipeline`` (its name), stage and seed is overwritten.

    Returns:
        For each stage its bundle's folder, and whether it was written now.
    """
    models.mkdir(parents=True, exist_ok=True)
    ledger = models / "exported.json"
    made: dict[str, Any] = json.loads(ledger.read_text(encoding="utf-8")) if ledger.is_file() else {}
    found = {}
    for stage, (file, card) in cards.items():
        run = stages[stage].read()
        whose = {"pipeline": pipeline, "stage": stage, "seed": str(stages[stage].seed)}
        mark = f"{run.folder.name} {run.fingerprint} {hashlib.sha256(file.read_bytes()).hexdigest()[:8]}"
        there = _entry(made.get(card.name))
        new = there.get("of") != mark or not (models / card.name).is_dir()
        if new:
            try:
                export(run, file, models, overwrite=whose.items() <= there.items())
            except InputError as error:
                raise InputError(f"The bundle of stage '{stage}': {error}") from error
            made[card.name] = {**whose, "of": mark}
            write_text(ledger, json.dumps(made, indent=1))
        found[stage] = models / card.name, new
    return found


def _entry(kept: Any) -> dict[str, str]:
    """What ``exported.json`` says of a bundle; it once said no more than what that is made of."""
    return kept if isinstance(kept, dict) else {"of": str(kept)}
