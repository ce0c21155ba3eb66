"""Predicting a data set's cases with a run, through the same pipeline as the command line."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import read_image
from NoisyLabelSegLib.inference.model import Model
from NoisyLabelSegLib.inference.predictor import Predictor
from NoisyLabelSegLib.inference.preprocessing import prepare
from NoisyLabelSegLib.pipeline import RefineSettings, from_nothing, refine
from NoisyLabelSegLib.segmentations import Segment, Segmentation
from training.data.cases import Case
from training.data.coarse import CoarseSettings
from training.data.masks import start_labels

Labels = NDArray[np.uint8]


def stage_labels(model: Model, case: Case, stages: int, simulated: CoarseSettings | None = None) -> list[Labels]:
    """A case's label maps: the first mask, then one a stage (a single one for a network without refinement).

    The arrays are on the image's grid, (K, J, I) as SimpleITK gives them. For ``simulated`` see `start_labels`; a
    network without refinement works on the whole image where there is no first mask.
    """
    image = read_image(case.image)
    coarse = start_labels(case, image, simulated)
    supervised = model.description.method == "supervised"
    if coarse is None and not supervised:
        raise InputError(f"The case '{case.id}' has no coarse mask to start from: add one to the data set.")
    coarse = coarse or from_nothing(image, model).image
    given = sitk.GetArrayFromImage(coarse)
    if supervised:
        return [given, _supervised(model, image, coarse)]
    segments = tuple(Segment(label.name, label.value) for label in model.description.labels)
    segmentation = Segmentation(coarse, segments) if given.any() else None
    result = refine(image, segmentation, model, RefineSettings(stages=stages))
    # A label map that kept its values; a stage that changed nothing more stands for all later ones.
    maps = [sitk.GetArrayFromImage(stage.image).astype(np.uint8) for stage in result.stages[1:]]
    return [given, *maps, *[maps[-1]] * (stages - len(maps))]


def _supervised(model: Model, image: sitk.Image, coarse: sitk.Image) -> Labels:
    """The image alone goes into the network; the coarse mask only places the window, as it does for ReReNet."""
    prepared = prepare(image, coarse, model.preprocessing)
    inputs: Any = torch.from_numpy(prepared.image)
    inputs = inputs.unsqueeze(1) if model.preprocessing.dimensions == 2 else inputs[None, None]
    labels = Predictor(model.network, model.device)(inputs).argmax(dim=1).numpy().astype(np.uint8)
    volume = labels if model.preprocessing.dimensions == 2 else labels[0]
    return sitk.GetArrayFromImage(prepared.restore(volume)).astype(np.uint8)
