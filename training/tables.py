"""A table of experiments: a YAML names its rows; what is missing is trained and measured, what is there is read.

    title: what the table shows
    rows:
      a name: {experiment: ../configs/FILE.yaml, set: [KEY=VALUE, ...]}
    set: [KEY=VALUE, ...]        # of every row
    seeds: [0, 1, 2]
    columns: [dice, hd95, foreground.ece]
    one_object: true             # of all that is found, only the largest connected object is measured
    windows: true                # measured in the window about each case's coarse mask; else whole images
    folds: [set/a, set/b]        # folders, beneath those of data and of runs, of the same sets in other parts
    against: [a name]            # what the rows are compared with, patient by patient; else the first
    gap: [a name, another]       # tells how much of the Dice between these rows each row gains

Paths are relative to the file. Figures are means over the seeds, or over folds and seeds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jsonargparse import ArgumentError, ArgumentParser

from NoisyLabelSegLib.errors import InputError
from training import calibrate
from training.checkpoints import as_model
from training.data.cases import Split
from training.engine import finished
from training.evaluate import paired, write_figures
from training.trainings import Training

# What stands above a column, for the figures that have no name of their own.
HEADINGS = {
    "dice": "Dice",
    "hd95": "HD95 (mm)",
    "assd": "ASSD (mm)",
    "iou": "IoU",
    "minutes": "training (min)",
    "without_distance": "one empty",
}


@dataclass(frozen=True)
class RowSettings:
    """A row: an experiment's file and what is changed in it."""

    experiment: str
    set: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class TableSettings:
    """See the module's text. Columns are figures of `training.calibrate`, ``parameters`` or ``minutes``."""

    title: str
    rows: dict[str, RowSettings]
    set: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=lambda: [0])
    columns: list[str] = field(default_factory=lambda: ["dice", "iou", "hd95", "assd"])
    windows: bool = False
    one_object: bool = False
    folds: list[str] = field(default_factory=lambda: ["."])
    against: list[str] = field(default_factory=list)
    gap: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.rows or len(self.gap) not in (0, 2):
            raise ValueError("a table needs rows, and a gap lies between two of them")
        if unknown := {*self.against, *self.gap} - self.rows.keys():
            raise ValueError(f"against and gap name rows, and '{min(unknown)}' is none")


@dataclass(frozen=True)
class Row:
    """A row's name and what was measured of each fold and seed: `figures` and, case by case, `rows`."""

    name: str
    seeds: list[dict[str, Any]]


def read_table(path: Path) -> TableSettings:
    """Read a table's YAML; an `InputError` for what it does not know."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(TableSettings)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        settings = parser.instantiate(parser.parse_object(values))
        return TableSettings(**vars(settings))
    except (OSError, yaml.YAMLError, ArgumentError, TypeError, ValueError) as error:
        raise InputError(f"The table '{path}' cannot be used: {' '.join(str(error).split())}") from error


def trainings_of(
    table: TableSettings, path: Path, names: Sequence[str], *, small: bool, data: Path, runs: Path
) -> dict[str, list[Training]]:
    """The trainings of each row, one a fold and seed.

    Args:
        table, path: the table and its file.
        names: the rows that are wanted; none wants all.
        small, data, runs: see `Training`.
    """
    if unknown := set(names) - table.rows.keys():
        raise InputError(f"'{path}' has no row '{min(unknown)}'; its rows are {', '.join(table.rows)}.")
    return {
        name: [
            Training(path.parent / row.experiment, small, (*table.set, *row.set), seed, data / fold, runs / fold)
            for fold in table.folds
            for seed in table.seeds
        ]
        for name, row in table.rows.items()
        if not names or name in names
    }


def measured(training: Training, split: Split, way: calibrate.Way | None = None) -> dict[str, Any]:
    """A run's `figures` and `rows` on a part of its data set; trained and measured if that was not done yet."""
    way = way or calibrate.Way()
    if not finished(training.folder, training.experiment().engine):
        training.train()
    run = training.read()
    path = training.folder / f"measured-{split}{way}-{run.fingerprint}.json"
    if not path.is_file():
        found = calibrate.measure(training.name, as_model(run), run.parts.dataset, split, way)
        cost = {"parameters": sum(t.numel() for t in run.state_dict.values()), "minutes": _minutes(training.folder)}
        write_figures(path, {"figures": {**found.figures(), **cost}, "rows": found.rows})
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _minutes(folder: Path) -> float:
    """How long the run's epochs took, their validations left out."""
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return sum(json.loads(line).get("seconds", 0) for line in lines) / 60


def figures(table: TableSettings, rows: Sequence[Row]) -> dict[str, Any]:
    """All seeds' figures of every row, its comparison with others, and how much of the gap it closes."""
    measured_rows = {row.name: [seed["rows"] for seed in row.seeds] for row in rows}
    dice = {row.name: float(np.mean([seed["figures"]["dice"] for seed in row.seeds])) for row in rows}
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        found[row.name] = {"seeds": [seed["figures"] for seed in row.seeds], "against": {}}
        for other in table.against or [rows[0].name]:
            if other in measured_rows and other != row.name:
                difference, p = paired(measured_rows[row.name], measured_rows[other])
                found[row.name]["against"][other] = {"dice_by_patient": difference, "p": p}
        if table.gap and dice.keys() >= set(table.gap):
            low, high = (dice[name] for name in table.gap)
            if high > low:  # else there is no gap to close
                found[row.name]["gap_closed"] = (dice[row.name] - low) / (high - low)
    return found


def as_markdown(table: TableSettings, found: Mapping[str, Any]) -> str:
    """The table as Markdown: means over the seeds, with their standard deviation where there are several."""
    against = table.against or [next(iter(found))]
    headings = [table.title, *map(_heading, table.columns)]
    headings += [*(["gap closed"] if table.gap else []), *(f"Dice against {name} (p)" for name in against)]
    lines = [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    for name, row in found.items():
        cells = [name, *(_cell(row["seeds"], column) for column in table.columns)]
        if table.gap:
            cells.append(f"{row['gap_closed']:.0%}" if "gap_closed" in row else "")
        cells += [_comparison(row["against"].get(other)) for other in against]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _comparison(found: Mapping[str, float] | None) -> str:
    return f"{found['dice_by_patient']:+.4f} ({found['p']:.2g})" if found else ""


def _heading(column: str) -> str:
    region, _, figure = column.rpartition(".")
    title = HEADINGS.get(figure) or (figure.upper() if "ece" in figure else figure)
    return f"{title} {region.removeprefix('structures.')}".strip()


def _cell(seeds: Sequence[Mapping[str, Any]], column: str) -> str:
    values = []
    for seed in seeds:
        value: Any = seed
        for key in column.split("."):
            if not isinstance(value, dict) or key not in value:
                raise InputError(f"There is no figure '{column}' to make a column of.")
            value = value[key]
        values.append(float(value))
    mean = float(np.mean(values))
    if mean >= 100:
        return f"{mean:,.0f}"
    return f"{mean:.4f}" + (f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else "")
