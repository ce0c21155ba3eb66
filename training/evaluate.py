"""Measuring runs on a part of the data set that training never saw: tables and paired tests."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import wilcoxon

from NoisyLabelSegLib import metrics
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import read_image, write_atomically
from NoisyLabelSegLib.inference.model import Model, load_model
from training.checkpoints import Run, as_model, simulated_starts, with_update
from training.data.cases import DataSet, Split
from training.data.coarse import CoarseSettings
from training.data.content import content_of
from training.data.masks import expert_labels
from training.experiment import Experiment
from training.prediction import stage_labels
from training.texts import write_text

Row = dict[str, Any]
MEASURES = ("dice", "iou", "hd95", "assd", "precision", "recall", "relative_volume_error")


@dataclass(frozen=True)
class Subject:
    """What is measured, and where its tables are kept.

    Attributes:
        name: what tables and figures call it.
        model: the network with its method.
        dataset: the data set that it is measured on.
        simulated: how the first mask of a case without a coarse one is made.
        folder: where tables are kept.
        fingerprint: tells these weights and settings from others of the same folder.
    """

    name: str
    model: Model
    dataset: DataSet
    simulated: CoarseSettings | None
    folder: Path
    fingerprint: str

    @property
    def slices(self) -> bool:
        """Whether it works slice by slice and is measured so."""
        return self.model.preprocessing.dimensions == 2

    def table(self, split: Split, stages: int) -> Path:
        """The file of the table of a part."""
        update = self.model.description.method_arguments.get("update")
        how = [f"{stages}-stages", update] if update else []
        return self.folder / f"{'-'.join([split, *how, content_of(self.dataset.part(split)), self.fingerprint])}.csv"


def subject_of_run(run: Run, name: str, update: str | None = None) -> Subject:
    """A training run's best weights."""
    model = with_update(as_model(run), update)
    simulated = simulated_starts(run.experiment)
    return Subject(name, model, run.parts.dataset, simulated, run.folder, run.fingerprint)


def subject_of_bundle(
    name_or_folder: str, experiment: Experiment, data: Path, runs: Path, update: str | None = None
) -> Subject:
    """A bundle as it is shipped, in half precision, on an experiment's data set."""
    model = with_update(load_model(name_or_folder, "cpu"), update)
    name = f"bundle-{model.description.name}"
    digest = hashlib.sha256(repr(model.description).encode()).hexdigest()[:8]
    return Subject(name, model, experiment.dataset(data), simulated_starts(experiment), runs / name, digest)


def evaluate(subject: Subject, split: Split, stages: int, limit: int = 0) -> list[Row]:
    """Predict and measure every case of a part.

    Returns:
        A row for each case, label and stage (0 = the coarse mask), and for slice-wise models one for each slice with
        any expert foreground as well (``slice`` is then its number, otherwise empty).
    """
    rows: list[Row] = []
    for case in track(subject.dataset.part(split)[: limit or None], description=subject.name):
        expert = expert_labels(case, read_image(case.image))
        reference, spacing = sitk.GetArrayFromImage(expert), expert.GetSpacing()[::-1]
        for stage, labels in enumerate(stage_labels(subject.model, case, stages, subject.simulated)):
            for value, name in subject.dataset.labels.items():
                head = {"case": case.id, "patient": case.patient, "label": name, "stage": stage, "slice": ""}
                rows += _measured(head, labels == value, reference == value, spacing, slices=subject.slices)
    return rows


def _measured(
    head: Row, predicted: NDArray[np.bool_], expert: NDArray[np.bool_], spacing: Sequence[float], *, slices: bool
) -> Iterable[Row]:
    yield head | metrics.evaluate(predicted, expert, spacing)
    for z in np.flatnonzero(expert.any(axis=(1, 2))) if slices else ():
        yield head | {"slice": int(z)} | metrics.evaluate(predicted[z], expert[z], spacing[1:])


def rows_of(subject: Subject, split: Split, stages: int, *, again: bool = False) -> list[Row]:
    """The table of a part: read from the subject's folder, or made and kept there (always when ``again``)."""
    path = subject.table(split, stages)
    if again or not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_rows(path, evaluate(subject, split, stages))
    return read_rows(path)


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write rows as CSV; an `InputError` when there are none."""
    if not rows:
        raise InputError("There is nothing to measure: the part of the data set has no cases.")

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    write_atomically(path, write)


def read_rows(path: Path) -> list[Row]:
    """Read what `write_rows` wrote."""
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {k: float(v) if k in MEASURES else int(v) if k == "stage" else v for k, v in row.items()}
            for row in csv.DictReader(file)
        ]


def of_stage(rows: Iterable[Row], stage: int, *, slices: bool) -> list[Row]:
    """The rows of one stage; the last one there is, where a method has fewer."""
    chosen = [row for row in rows if (row["slice"] != "") == slices]
    last = max(row["stage"] for row in chosen)
    return [row for row in chosen if row["stage"] == min(stage, last)]


def summary(rows: Sequence[Row]) -> dict[str, float]:
    """Mean of each measure; infinite distances (one mask empty) are left out of the distances' means and counted."""
    result = {}
    for measure in MEASURES:
        values = np.array([row[measure] for row in rows])
        finite = values[np.isfinite(values)]
        result[measure] = float(finite.mean()) if len(finite) else float("nan")
    result["without_distance"] = int(sum(not np.isfinite(row["hd95"]) for row in rows))
    return result


def paired(rows: Sequence[Sequence[Row]], others: Sequence[Sequence[Row]]) -> tuple[float, float]:
    """Mean difference in Dice and the p-value of a two-sided Wilcoxon signed-rank test over patients.

    Each argument holds the rows of several seeds; a patient's value is the mean over seeds and rows, so that neither
    seeds nor the slices of one patient are counted as independent.

    Raises:
        InputError: they are of different patients.
    """
    ours, theirs = (_mean_dice_by("patient", chain.from_iterable(seeds)) for seeds in (rows, others))
    if alone := sorted(ours.keys() ^ theirs.keys()):
        raise InputError(
            f"What is compared patient by patient was measured on different patients, such as '{alone[0]}': compare "
            "only what was measured on the same part of one data set."
        )
    differences = np.array([ours[patient] - theirs[patient] for patient in sorted(ours)])
    if not differences.any():
        return 0.0, 1.0
    return float(differences.mean()), float(wilcoxon(differences).pvalue)


def _mean_dice_by(key: str, rows: Iterable[Row]) -> dict[str, float]:
    """Mean Dice of the rows of each patient or case."""
    values = defaultdict(list)
    for row in rows:
        values[row[key]].append(row["dice"])
    return {name: float(np.mean(dice)) for name, dice in values.items()}


def worse_than_given(rows: Sequence[Row], stage: int, by: float = 0.02) -> float:
    """Share of cases whose Dice (mean over labels) lies more than ``by`` below the coarse mask's."""
    before, after = (_mean_dice_by("case", of_stage(rows, s, slices=False)) for s in (0, stage))
    return float(np.mean([after[case] < before[case] - by for case in before]))


def report(name: str, seeds: Sequence[Sequence[Row]], *, slices: bool) -> Row:
    """Print a method's table over its seeds and return the figures (means over seeds, and Dice's SD between seeds).

    The stages are those that the method has: the first mask alone and one more for a network without refinement.
    """
    table = Table(title=f"{name}: {len(seeds)} seed(s), per {'slice' if slices else 'case and label'}")
    for column in ("stage", *MEASURES, "SD of seeds", "one empty"):
        table.add_column(column, justify="right")
    figures: Row = {}
    for stage in sorted({row["stage"] for row in seeds[0]}):
        means = [summary(of_stage(rows, stage, slices=slices)) for rows in seeds]
        mean = {key: float(np.mean([m[key] for m in means])) for key in means[0]}
        mean["dice_sd_of_seeds"] = float(np.std([m["dice"] for m in means]))
        figures[str(stage)] = mean
        cells = [f"{mean[measure]:.4f}" for measure in MEASURES]
        table.add_row(str(stage), *cells, f"{mean['dice_sd_of_seeds']:.4f}", f"{mean['without_distance']:.1f}")
    Console(width=150).print(table)
    return figures


def compare(ours: Sequence[Sequence[Row]], baseline: Sequence[Sequence[Row]] | None, *, slices: bool) -> Row:
    """Print and return how the method compares with the coarse masks and with a baseline."""
    last = max(row["stage"] for row in ours[0])
    figures: Row = {}
    for stage in sorted({1, min(5, last), last}):
        rows = [of_stage(seed, stage, slices=slices) for seed in ours]
        given = [of_stage(seed, 0, slices=slices) for seed in ours]
        pairs = {"coarse mask": given}
        if baseline:
            pairs["baseline"] = [of_stage(seed, stage, slices=slices) for seed in baseline]
        for name, other in pairs.items():
            difference = _mean_dice(rows) - _mean_dice(other)
            patients, p = paired(rows, other)
            figures[f"stage {stage} - {name}"] = {"dice": difference, "dice_by_patient": patients, "p": p}
            print(f"stage {stage} against {name}: Dice {difference:+.4f} (by patient {patients:+.4f}, p = {p:.2g})")
        worse = float(np.mean([worse_than_given(seed, stage) for seed in ours]))
        figures[f"stage {stage} worse than given"] = worse
        print(f"stage {stage}: {100 * worse:.1f} % of the cases are worse than the given mask by more than 0.02 Dice")
    return figures


def _mean_dice(seeds: Sequence[Sequence[Row]]) -> float:
    return float(np.mean([np.mean([row["dice"] for row in rows]) for rows in seeds]))


def write_figures(path: Path, figures: Mapping[str, Any]) -> None:
    """Write figures as JSON, for the documents' tables."""
    write_text(path, json.dumps(figures, indent=1))
