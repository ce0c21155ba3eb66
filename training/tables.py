"""A table of experiments: a YAML names its rows; what is missing is trained and measured, what is there is read.

    title: what the table shows
    rows:
      a name: {experiment: ../configs/FILE.yaml, set: [KEY=VALUE, ...]}
    set: [KEY=VALUE, ...]        # of every row
    seeds: [0, 1, 2]
    columns: [dice, hd95, foreground.ece]
    one_object: true             # of all that is found, only the largest connected object within the image is measured
    windows: true                # measured in the window about each case's coarse mask; else whole images
    folds: [set/a, set/b]        # folders, beneath those of data and of runs, of the same sets in other parts
    against: [a name]            # what the rows are compared with, patient by patient; else the first
    gap: [a name, another]       # tells how much of the Dice between these rows each row gains

Paths are relative to the file. Figures are means over the seeds, or over folds and seeds. Either of two keys more makes
of each row a row or a matrix of cells, see `training.ratios` and `training.centres`:

    ratios: [0.05, 0.1, 1]       # trained on these shares of the training patients
    same_steps: true             # for as many steps at each ratio; else for as many epochs
    centres: [set, another]      # trained on each of these data sets, measured on all
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from jsonargparse import ArgumentError, ArgumentParser

from NoisyLabelSegLib.errors import InputError
from training.calibrate import Way
from training.curves import epochs_to_best, write_curves
from training.data.cases import Split
from training.evaluate import paired
from training.measuring import measured
from training.recipes.rerenet import ReReNetSettings
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
    ratios: list[float] = field(default_factory=list)
    same_steps: bool = False
    centres: list[str] = field(default_factory=list)

    @property
    def way(self) -> Way:
        """How every row is measured."""
        return Way(self.windows, self.one_object)

    def __post_init__(self) -> None:
        if not self.rows or len(self.gap) not in (0, 2):
            raise ValueError("a table needs rows, and a gap lies between two of them")
        if unknown := {*self.against, *self.gap} - self.rows.keys():
            raise ValueError(f"against and gap name rows, and '{min(unknown)}' is none")
        if self.ratios != sorted(set(self.ratios)) or not all(0 < ratio <= 1 for ratio in self.ratios):
            raise ValueError("ratios must rise and lie above 0 and up to 1")
        if len(set(self.centres)) < max(len(self.centres), 2 * bool(self.centres)) or (self.centres and self.ratios):
            raise ValueError("centres must be two data sets or more, each once, and leave no place for ratios")
        if self.centres and (self.against or self.gap):
            raise ValueError(
                "centres compare what was trained elsewhere with what was trained at home: leave out against and gap"
            )
        if self.same_steps and not self.ratios:
            raise ValueError("same_steps is of ratios, and there are none: leave it out")


class Made(NamedTuple):
    """A table's figures, its Markdown, and its picture: what that shows, and how it is written."""

    found: dict[str, Any]
    text: str
    shown: str
    draw: Callable[[Path], None]


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
        if not isinstance(values, dict):
            raise ValueError("it must hold keys and values.")
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

    Raises:
        InputError: there is no such row, or one cannot be measured in the table's way.
    """
    if unknown := set(names) - table.rows.keys():
        raise InputError(f"'{path}' has no row '{min(unknown)}'; its rows are {', '.join(table.rows)}.")
    found = {
        name: [
            Training(path.parent / row.experiment, small, (*table.set, *row.set), seed, data / fold, runs / fold)
            for fold in table.folds
            for seed in table.seeds
        ]
        for name, row in table.rows.items()
        if not names or name in names
    }
    for name in found if str(table.way) else ():
        if isinstance(found[name][0].experiment().settings, ReReNetSettings):
            raise InputError(
                f"Row '{name}' of '{path}' refines masks, and is measured on whole images by all that it finds: leave "
                "out 'windows' and 'one_object'."
            )
    return found


def made(table: TableSettings, trainings: Mapping[str, list[Training]], split: Split) -> Made:
    """Train and measure what is missing, and compare the rows."""
    rows = [
        Row(name, [measured(training, split, table.way) for training in seeds]) for name, seeds in trainings.items()
    ]
    found = figures(rows, table.against, table.gap)
    folders = {name: [training.folder for training in seeds] for name, seeds in trainings.items()}
    for name, row in found.items():
        for other, compared in row["against"].items():
            pairs = zip(folders[name], folders[other], strict=True)
            compared["epochs_to_best"] = [epochs_to_best(ours, theirs) for ours, theirs in pairs]
    return Made(found, as_markdown(table, found), "curves", lambda path: write_curves(path, folders, table.title))


def figures(rows: Sequence[Row], against: Sequence[str] = (), gap: Sequence[str] = ()) -> dict[str, Any]:
    """All seeds' figures of every row, its comparison with others, and how much of the gap it closes.

    For ``against`` and ``gap`` see the module's text.
    """
    measured_rows = {row.name: [seed["rows"] for seed in row.seeds] for row in rows}
    dice = {row.name: float(np.mean([seed["figures"]["dice"] for seed in row.seeds])) for row in rows}
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        found[row.name] = {"seeds": [seed["figures"] for seed in row.seeds], "against": {}}
        for other in against or [rows[0].name]:
            if other in measured_rows and other != row.name:
                difference, p = paired(measured_rows[row.name], measured_rows[other])
                found[row.name]["against"][other] = {"dice_by_patient": difference, "p": p}
        if gap and dice.keys() >= set(gap):
            low, high = (dice[name] for name in gap)
            if high > low:  # else there is no gap to close
                found[row.name]["gap_closed"] = (dice[row.name] - low) / (high - low)
    return found


def as_markdown(table: TableSettings, found: Mapping[str, Any]) -> str:
    """The table as Markdown: means over the seeds, with their standard deviation where there are several."""
    against = table.against or [next(iter(found))]
    headings = [table.title, *map(heading, table.columns)]
    headings += [*(["gap closed"] if table.gap else []), *(f"Dice against {name} (p)" for name in against)]
    lines = [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    for name, row in found.items():
        cells = [name, *(cell(row["seeds"], column) for column in table.columns)]
        if table.gap:
            cells.append(f"{row['gap_closed']:.0%}" if "gap_closed" in row else "")
        cells += [comparison(row["against"].get(other)) for other in against]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def comparison(found: Mapping[str, float] | None) -> str:
    """The difference in Dice by patient and, in brackets, its p."""
    return f"{found['dice_by_patient']:+.4f} ({found['p']:.2g})" if found else ""


def heading(column: str) -> str:
    """What a person calls a column."""
    region, _, figure = column.rpartition(".")
    title = HEADINGS.get(figure) or (figure.upper() if "ece" in figure else figure)
    return f"{title} {region.removeprefix('structures.')}".strip()


def values_of(seeds: Sequence[Mapping[str, Any]], column: str) -> list[float]:
    """A column's figure of each seed; an `InputError` where there is none."""
    values = []
    for seed in seeds:
        value: Any = seed
        for key in column.split("."):
            if not isinstance(value, dict) or key not in value:
                raise InputError(f"There is no figure '{column}' to make a column of.")
            value = value[key]
        values.append(float(value))
    return values


def cell(seeds: Sequence[Mapping[str, Any]], column: str) -> str:
    """The mean, with the standard deviation where there are several seeds."""
    values = values_of(seeds, column)
    mean = float(np.mean(values))
    if mean >= 100:
        return f"{mean:,.0f}"
    return f"{mean:.4f}" + (f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else "")
