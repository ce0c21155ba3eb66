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

    Its parts are the stages that see the same images. Stages that segment nothing have the score of their own task.
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
        best = _best_part(rows, stages, split)
        against = [(best or rows[-1]).name]
        found["stages"] = figures(rows, against)
        table = TableSettings(pipeline.title, {row.name: RowSettings("") for row in rows}, against=against)
        told = [as_markdown(table, found["stages"]), *told, *([_verdict(rows[-1], best, found)] if best else [])]
    return found, "\n".join(told)


def _best_part(rows: list[Row], stages: Mapping[str, Training], split: Split) -> Row | None:
    last = _sees(stages[rows[-1].name], split)
    parts = [row for row in rows[:-1] if _sees(stages[row.name], split) == last]
    return max(parts, key=_dice, default=None)


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
    cards: Mapping[str, tuple[Path, Card]], stages: Mapping[str, Training], models: Path
) -> dict[str, tuple[Path, bool]]:
    """Write a bundle of each stage that has a card, in a folder of models.

    ``exported.json`` in that folder keeps what each was made of: a bundle of the same weights and card is left alone,
    and no other model of that name is overwritten.

    Returns:
        For each stage its bundle's folder, and whether it was written now.
    """
    models.mkdir(parents=True, exist_ok=True)
    ledger = models / "exported.json"
    made: dict[str, str] = json.loads(ledger.read_text(encoding="utf-8")) if ledger.is_file() else {}
    found = {}
    for stage, (file, card) in cards.items():
        run = stages[stage].read()
        mark = f"{run.folder.name} {run.fingerprint} {hashlib.sha256(file.read_bytes()).hexdigest()[:8]}"
        new = made.get(card.name) != mark or not (models / card.name).is_dir()
        if new:
            try:
                export(run, file, models, overwrite=card.name in made)
            except InputError as error:
                raise InputError(f"The bundle of stage '{stage}': {error}") from error
            made[card.name] = mark
            write_text(ledger, json.dumps(made, indent=1))
        found[stage] = models / card.name, new
    return found
