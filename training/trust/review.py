"""A case's least trusted labels as a result of `noisylabelseg uncertainty`, so that they are looked at in the same way.

A region is listed where omega loses and the network sees another label, which is the one suggested: where it sees
the given one there is nothing to change. Its score is the mean of g / (1 + g), g being the gradient down which omega
goes: it tells more from less where omega has reached 0, or has moved by Adam, which takes the gradient's sign alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.inference.model import Model
from NoisyLabelSegLib.pipeline import map_uncertainty
from NoisyLabelSegLib.result import Result
from NoisyLabelSegLib.suspects import Suspect, suspect_regions
from NoisyLabelSegLib.uncertainty import suspect_rows
from training.checkpoints import Run, as_model, with_arguments
from training.data.channels import read_channels
from training.data.masks import expert_labels
from training.prediction import as_segmentation, labels_of
from training.trust.asked import Trust

NEVER = math.nextafter(1, 0)
LEAST = 0.01
"""Less distrust is rounding."""
NOTE = "Suspect is where DALE, asked after a short training from these labels, trusts them less than at first."


@dataclass(frozen=True)
class Reviewed:
    """A case and what is to be looked at.

    Attributes:
        trust: of its labels.
        given: the labels, (K, J, I).
        improbable: 1 - the network's probability of the given label, (K, J, I): what loses most by plain training.
        result: as the uncertainty of given labels, with the least trusted ones for suspects.
        gradients: the mean of each region of ``result.regions``.
    """

    trust: Trust
    given: NDArray[np.uint8]
    improbable: NDArray[np.float32]
    result: Result
    gradients: tuple[float, ...]


def reviewed(trust: Trust, model: Model) -> Reviewed:
    """Put together a case's review.

    Args:
        trust: the case's.
        model: the same run's, of the kind "uncertainty".
    """
    image, *channels = read_channels(trust.case, model.description.channels)
    labels, grid = expert_labels(trust.case, image), Grid.of(image)
    silent = with_arguments(model, threshold=NEVER)  # what it suspects by itself is replaced
    result = map_uncertainty(image, as_segmentation(labels, model), silent, channels=channels)
    slope = sitk.GetArrayFromImage(trust.gradient)
    given, score = sitk.GetArrayFromImage(labels), distrust(slope)
    found = suspect_regions(score, given, labels_of(result.stages[-1]), LEAST, image.GetSpacing())
    ordered = sorted(((one, _mean(slope, one)) for one in found), key=lambda pair: (-round(pair[0].score, 4), -pair[1]))
    regions = [one for one, _ in ordered]
    structures = {label.value: label.name for label in model.description.labels}
    result = replace(
        result,
        maps={**result.maps, "suspect": grid.image(score)},
        suspects=tuple(suspect_rows(regions, structures, grid)),
        regions=tuple(regions),
        provenance={"image": trust.case.image.name, **result.provenance},
        notes=(*result.notes, NOTE),
    )
    return Reviewed(trust, given, 1 - _probability(given, result), result, tuple(mean for _, mean in ordered))


def distrust(gradient: NDArray[np.float32]) -> NDArray[np.float32]:
    """0 where a label is trusted as at first or more, a half where the gradient is of usual size, never quite 1."""
    against = np.maximum(gradient, 0)
    return np.asarray(against / (1 + against), np.float32)


def _mean(values: NDArray[Any], suspect: Suspect) -> float:
    return float(values[suspect.region.box][suspect.region.values].mean())


def _probability(given: NDArray[np.uint8], result: Result) -> NDArray[np.float32]:
    """Of each given label; what the structures leave is the background's."""
    segments = result.stages[-1].segments
    maps = [sitk.GetArrayFromImage(one) for one in result.probabilities.values()]
    found = np.clip(1 - np.sum(maps, axis=0), 0, 1)
    for segment, probability in zip(segments, maps, strict=True):
        found = np.where(given == segment.label, probability, found)
    return np.asarray(found, np.float32)


def as_reviewing_model(run: Run) -> Model:
    """The run as a model of the kind "uncertainty", whatever its recipe exports."""
    model = as_model(run)
    if model.description.kind == "uncertainty":
        return model
    arguments = {"mirror": list(run.experiment.augmentation.flips)}
    description = replace(model.description, kind="uncertainty", method="affinity_umamba", method_arguments=arguments)
    return replace(model, description=description)
