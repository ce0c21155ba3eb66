"""Validation scores over training, a line for each of several runs, as an SVG picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from training.svg import svg_figure


def scores_of(folder: Path) -> list[tuple[int, float]]:
    """A run's validation scores: (epoch, score)."""
    rows = map(json.loads, (folder / "log.jsonl").read_text(encoding="utf-8").splitlines())
    return [(row["epoch"], row["score"]) for row in rows if "score" in row]


def epochs_to_best(folder: Path, other: Path) -> int | None:
    """After how many epochs a run's validation score first was another run's best one; None if it never was."""
    best = max((score for _, score in scores_of(other)), default=float("inf"))
    return next((epoch for epoch, score in scores_of(folder) if score >= best), None)


def write_curves(path: Path, runs: Mapping[str, Sequence[Path]], title: str) -> None:
    """Draw the mean score of each name's runs, seeds or folds, where all of them were validated.

    Args:
        path: the SVG file to write or to replace as a whole.
        runs: the folders of each name's runs.
        title: says what was trained.
    """
    with svg_figure(path, 8, 4.5) as figure:
        axes = figure.add_subplot(title=title, xlabel="epoch", ylabel="validation score")
        for name, folders in runs.items():
            each = [dict(scores_of(folder)) for folder in folders]
            epochs = sorted(set.intersection(*map(set, each)))
            axes.plot(epochs, [np.mean([scores[e] for scores in each]) for e in epochs], marker=".", label=name)
        axes.grid(alpha=0.3)
        figure.legend(loc="outside right upper", frameon=False)
