"""A table at several shares of labelled patients: which row needs fewer of them? (thesis, tables 3.2 and 4.1)

Each ratio is an ordinary table of the same rows, trained on the nested subsets of `training.data.labelled`; each seed
has subsets of its own. Rows are compared ratio by ratio, on the same held-out patients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import FixedLocator, NullLocator

from NoisyLabelSegLib.errors import InputError
from training.data.cases import Split
from training.data.labelled import labelled_part, labelled_patients
from training.measuring import measured
from training.svg import svg_figure
from training.tables import Made, Row, TableSettings, cell, comparison, figures, heading, values_of
from training.trainings import Training

Trainings = Mapping[str, list[Training]]


def some_of(table: TableSettings, ratios: Sequence[float]) -> TableSettings:
    """The same table at some of its ratios; an `InputError` for one that it does not have."""
    if not table.ratios:
        raise InputError("This table has no ratios: leave out --ratio.")
    if strange := set(ratios) - set(table.ratios):
        raise InputError(
            f"This table has no ratio {min(strange):g}; its ratios are {', '.join(f'{one:g}' for one in table.ratios)}."
        )
    return replace(table, ratios=sorted(set(ratios)))


def made(table: TableSettings, trainings: Trainings, split: Split) -> Made:
    """Train and measure what is missing of all ratios, and compare the rows at each."""
    counts = _counts(table, trainings)
    found: dict[str, Any] = {}
    for ratio, patients in counts.items():
        seeds = {name: [_at(training, ratio, table) for training in each] for name, each in trainings.items()}
        rows = [Row(name, [measured(training, split, table.way) for training in each]) for name, each in seeds.items()]
        found[f"{ratio:g}"] = {"patients": patients, "rows": figures(rows, table.against, table.gap)}
    text = "\n\n".join(as_markdown(table, found, column) for column in table.columns)
    return Made(found, text, "ratios", lambda path: write_picture(path, found, table.columns[0], table.title))


def _at(training: Training, ratio: float, table: TableSettings) -> Training:
    """The training with this share of the patients; with ``same_steps`` for as many more epochs as each is shorter."""
    changes = [f"labelled={ratio:g}"]
    if table.same_steps:
        engine, longer = training.experiment().engine, _longer(training, ratio)
        changes += [f"engine.{key}={round(getattr(engine, key) * longer)}" for key in ("epochs", "validate_every")]
    return training.changed(*changes)


def _longer(training: Training, ratio: float) -> float:
    """How many times as many steps an epoch of all patients has: a last batch that is not full is left out."""
    experiment = training.experiment()
    dataset = experiment.dataset(training.data)
    every, some = (len(labelled_part(dataset, share, training.seed).part("train")) for share in (1, ratio))
    if experiment.preprocessing.dimensions == 2 and not experiment.augmentation.patches:
        return every / some  # windows are slices, whose number only their images tell
    windows, batch = experiment.augmentation.patches or 1, experiment.engine.batch_size
    return (every * windows // batch) / max(some * windows // batch, 1)


def _counts(table: TableSettings, trainings: Trainings) -> dict[float, int]:
    """How many patients each ratio is, of the first row; before hours of training, each must give some more.

    Raises:
        InputError: a ratio gives no more patients than the one below, in any row.
    """
    counts: dict[float, int] = {}
    for training in (training for each in trainings.values() for training in each):
        dataset = training.experiment().dataset(training.data)
        ours = {ratio: len(labelled_patients(dataset, ratio, training.seed)) for ratio in table.ratios}
        for low, high in pairwise(table.ratios):
            if ours[high] <= ours[low]:
                raise InputError(
                    f"{100 * high:.4g} % of the training patients of '{dataset.name}' are no more than "
                    f"{100 * low:.4g} % of them ({ours[low]}): leave one out of 'ratios'."
                )
        counts = counts or ours
    return counts


def as_markdown(table: TableSettings, found: Mapping[str, Any], column: str) -> str:
    """A column's figures, a line a row and a column a ratio; below them the rows' comparisons, of Dice."""
    head = [f"{table.title}: {heading(column)}", *(_named(ratio, one["patients"]) for ratio, one in found.items())]
    lines = [head, ["---"] * len(head)]
    names = list(next(iter(found.values()))["rows"])
    lines += [[name, *(cell(one["rows"][name]["seeds"], column) for one in found.values())] for name in names]
    for name in names if column == "dice" else ():
        for other in next(iter(found.values()))["rows"][name]["against"]:
            told = (comparison(one["rows"][name]["against"][other]) for one in found.values())
            lines.append([f"{name} against {other} (p)", *told])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _named(ratio: str, patients: int) -> str:
    return f"{100 * float(ratio):.4g} % ({patients})"


def write_picture(path: Path, found: Mapping[str, Any], column: str, title: str) -> None:
    """Draw a figure against the ratio: the mean of each row's seeds, and bars of one standard deviation either way."""
    ratios = [100 * float(ratio) for ratio in found]
    with svg_figure(path, 8, 4.5) as figure:
        axes = figure.add_subplot(title=title, xlabel="labelled training patients (%)", ylabel=heading(column))
        for name in next(iter(found.values()))["rows"]:
            values = [values_of(one["rows"][name]["seeds"], column) for one in found.values()]
            spread = [float(np.std(each, ddof=1)) if len(each) > 1 else 0.0 for each in values]
            axes.errorbar(ratios, [np.mean(each) for each in values], spread, marker=".", capsize=3, label=name)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(ratios))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.4g}")
        axes.grid(alpha=0.3)
        figure.legend(loc="outside right upper", frameon=False)
