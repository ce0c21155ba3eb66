"""How well networks segment without any mask, and whether their probabilities mean what they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from rich.console import Console
from rich.progress import track
from rich.table import Table

from NoisyLabelSegLib import metrics
from NoisyLabelSegLib.calibration import CalibrationCounts, RegionName, calibration, counts_of
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.inference.model import Model
from NoisyLabelSegLib.methods.weak_to_strong import one_object, slices_border
from NoisyLabelSegLib.regions import Box
from NoisyLabelSegLib.result import Result
from NoisyLabelSegLib.segmentations import identifiers
from training.data.cases import Case, DataSet, Split
from training.data.channels import read_channels
from training.data.masks import coarse_labels, expert_labels
from training.evaluate import Row, paired, summary
from training.prediction import as_segmentation, cut, labels_of, placed, segmented, window_about
from training.reliability import write_reliability

REGIONS: tuple[RegionName, ...] = ("foreground", "union", "predicted", "all")


@dataclass(frozen=True)
class Measured:
    """One network on a part of a data set.

    Attributes:
        name: what tables call it.
        rows: overlap and distance, one for each case and label.
        counts: for each region, of each case.
    """

    name: str
    rows: list[Row]
    counts: dict[RegionName, list[CalibrationCounts]]

    def figures(self) -> dict[str, Any]:
        """Means of `rows`, of all and of each structure, and each region's calibration."""
        labels = dict.fromkeys(str(row["label"]) for row in self.rows)
        structures = {label: summary([row for row in self.rows if row["label"] == label]) for label in labels}
        regions = {str(region): calibration(cases) for region, cases in self.counts.items()}
        return {**summary(self.rows), "structures": structures, **regions}


@dataclass(frozen=True)
class Way:
    """How what was found is measured.

    Attributes:
        windows: a network is shown nothing but the window about the case's coarse mask, as for a nodule that a person
            has pointed at; what it misses beyond it is counted.
        one_object: of all that is found only one connected object counts, see
            `NoisyLabelSegLib.methods.weak_to_strong.one_object`; probabilities stay as they are.
    """

    windows: bool = False
    one_object: bool = False

    def __str__(self) -> str:
        return "".join(f"-{name}" for name, wanted in vars(self).items() if wanted)


def measure(name: str, model: Model, dataset: DataSet, split: Split, way: Way | None = None) -> Measured:
    """Segment every case of a part from the image alone, on the way that a person's request takes."""
    way, rows = way or Way(), list[Row]()
    counts: dict[RegionName, list[CalibrationCounts]] = {region: [] for region in REGIONS}
    for case in track(dataset.part(split), description=name):
        image, *channels = read_channels(case, model.description.channels)
        expert = sitk.GetArrayFromImage(expert_labels(case, image))
        box = _window(case, image, model) if way.windows else Grid.of(image).whole_box()
        crop, *others = (cut(whole, box) for whole in (image, *channels))
        result = segmented(crop, model, others)
        labels = placed(labels_of(result.stages[-1]), box, image)
        if way.one_object:
            border = slices_border(Grid.of(image).whole_box(), labels.shape, result.slice_axis)
            labels = labels * one_object(labels > 0, border)[0]
        probabilities = placed(class_probabilities(result), box, image)
        probabilities[0] += placed(np.zeros_like(probabilities[0][box]), box, image, 1)  # background beyond the window
        for value, label in dataset.labels.items():
            found = metrics.evaluate(labels == value, expert == value, image.GetSpacing()[::-1])
            rows.append({"case": case.id, "patient": case.patient, "label": label, **found})
        for region in REGIONS:
            counts[region].append(counts_of(probabilities, expert, region))
    return Measured(name, rows, counts)


def _window(case: Case, image: sitk.Image, model: Model) -> Box:
    coarse = coarse_labels(case, image)
    if coarse is None:
        raise InputError(f"The case '{case.id}' has no coarse mask to lay a window about: measure whole images.")
    return window_about(as_segmentation(coarse, model), model)


def class_probabilities(result: Result) -> np.ndarray:
    """``(N, K, J, I)``, float32, the background first: what the structures leave over."""
    ids = identifiers(result.stages[-1].segments)
    structures = np.stack([sitk.GetArrayFromImage(result.probabilities[id_]) for id_ in ids])
    return np.concatenate([np.clip(1 - structures.sum(axis=0, keepdims=True), 0, 1), structures])


def tell(every: Sequence[Measured]) -> dict[str, Any]:
    """Print a table of all networks and return the figures; the first is compared with those of other labels."""
    table = Table(title="from the image alone")
    regions = [f"{name} {region}" for region in REGIONS for name in ("ECE", "CECE")]
    for heading in ("network", "Dice", "HD95 (mm)", "ASSD (mm)", *regions):
        table.add_column(heading, justify="right")
    figures: dict[str, Any] = {}
    for one in every:
        found = figures[one.name] = one.figures()
        cells = [found[r][k] for r in REGIONS for k in ("ece", "cece")]
        values = [found["dice"], found["hd95"], found["assd"], *cells]
        table.add_row(one.name, *(f"{value:.4f}" for value in values))
    Console(width=170).print(table)
    for other in [one for one in every[1:] if one.rows != every[0].rows]:  # a temperature changes no label
        difference, p = paired([every[0].rows], [other.rows])
        figures[f"{every[0].name} - {other.name}"] = {"dice_by_patient": difference, "p": p}
        print(f"{every[0].name} against {other.name}: Dice {difference:+.4f} by patient, p = {p:.2g}")
    return figures


def write_diagram(every: Sequence[Measured], path: Path, cases: str, region: RegionName = "predicted") -> None:
    """The networks' reliability, side by side, as a picture; ``cases`` says of which it is."""
    pooled = {one.name: sum(one.counts[region][1:], one.counts[region][0]) for one in every}
    write_reliability(path, pooled, f"{cases}; voxels taken for a structure")
