"""A matrix of data sets: trained on each, measured on all, as between hospitals (thesis, section 4.4.4).

A network that was trained elsewhere is compared with the one that was trained at home, on the same held-out patients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from NoisyLabelSegLib.errors import InputError
from training.data.cases import DataSet, Split, read_dataset
from training.measuring import measured
from training.svg import svg_figure
from training.tables import Made, Row, TableSettings, cell, comparison, figures, heading, values_of
from training.trainings import Training

Matrix = dict[str, dict[str, Any]]
"""What a row's networks are worth, by the data set that they were trained on and the one they were measured on."""


def made(table: TableSettings, trainings: Mapping[str, list[Training]], split: Split) -> Made:
    """Train and measure what is missing of each row's matrix."""
    for folder in {training.data: None for each in trainings.values() for training in each}:
        check_alike({name: read_dataset(folder / name) for name in table.centres}, split)
    found = {name: _matrix(table, each, split) for name, each in trainings.items()}
    text = "\n\n".join(as_markdown(table, found, column) for column in table.columns)
    return Made(found, text, "centres", lambda path: write_picture(path, found, table.columns[0], table.title))


def check_alike(datasets: Mapping[str, DataSet], split: Split) -> None:
    """Data sets that a network may go between.

    Raises:
        InputError: labels or channels differ, or an image that one is trained on is measured in another.
    """
    first, *others = datasets.items()
    for name, dataset in others:
        for what in ("labels", "channels"):
            ours, theirs = (getattr(one, what) for one in (first[1], dataset))
            if ours != theirs:
                raise InputError(f"'{first[0]}' has the {what} {ours} and '{name}' {theirs}: both need the same.")
    for name, dataset in datasets.items():
        seen = {case.image.resolve() for case in dataset.part("train")}
        for other, measured_on in datasets.items():
            known = [case.id for case in measured_on.part(split) if case.image.resolve() in seen]
            if known:
                raise InputError(f"'{known[0]}' of the {split} part of '{other}' is in the training part of '{name}'.")


def _matrix(table: TableSettings, trainings: Sequence[Training], split: Split) -> Matrix:
    runs = {name: [training.changed(f"data={name}") for training in trainings] for name in table.centres}
    found: Matrix = {name: {} for name in table.centres}
    for place in table.centres:
        rows = [
            Row(name, [measured(t, split, table.way, "" if name == place else place) for t in each])
            for name, each in runs.items()
        ]
        for name, one in figures(rows, against=[place]).items():
            found[name][place] = one
    return found


def as_markdown(table: TableSettings, found: Mapping[str, Matrix], column: str) -> str:
    """A column's figures: a line for each data set trained on, a column for each measured on.

    For Dice, what is trained elsewhere has its difference from what is trained at home, with its p.
    """
    lines = [[f"{table.title}: {heading(column)}", *(f"on {name}" for name in table.centres)]]
    lines.append(["---"] * len(lines[0]))
    for row, matrix in found.items():
        for name, places in matrix.items():
            cells = [cell(one["seeds"], column) for one in places.values()]
            if column == "dice":
                told = [comparison(one["against"].get(place)) for place, one in places.items()]
                cells = [f"{value}, {more}" if more else value for value, more in zip(cells, told, strict=True)]
            lines.append([f"{row}, {name}", *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_picture(path: Path, found: Mapping[str, Matrix], column: str, title: str) -> None:
    """Draw each row's matrix, with its numbers in it, side by side and on one scale of shades."""
    values = {
        row: np.array(
            [[np.mean(values_of(one["seeds"], column)) for one in places.values()] for places in each.values()]
        )
        for row, each in found.items()
    }
    low, high = min(map(np.min, values.values())), max(map(np.max, values.values()))
    places = list(next(iter(found.values())))
    side = 1.5 + 0.9 * len(places)
    with svg_figure(path, side * len(values), side) as figure:
        figure.suptitle(f"{title}: {heading(column)}")
        ticks = np.arange(len(places))
        for number, (row, matrix) in enumerate(values.items(), 1):
            axes = figure.add_subplot(1, len(values), number, title=row, xlabel="measured on", ylabel="trained on")
            axes.pcolormesh(matrix, vmin=low, vmax=high, cmap="Blues", edgecolors="white")
            for (line, place), value in np.ndenumerate(matrix):
                dark = value > (low + high) / 2
                axes.text(place + 0.5, line + 0.5, f"{value:.3f}", ha="center", va="center", color="w" if dark else "k")
            axes.set_xticks(ticks + 0.5, places, rotation=30, ha="right")
            axes.set_yticks(ticks + 0.5, places)
            axes.invert_yaxis()
