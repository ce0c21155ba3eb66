"""Predicting a data set's cases with a run, through the same pipeline as the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.inference.model import Model
from NoisyLabelSegLib.inference.preprocessing import needed_box
from NoisyLabelSegLib.pipeline import RefineSettings, from_nothing, map_uncertainty, refine, segment
from NoisyLabelSegLib.regions import Box, masks_of
from NoisyLabelSegLib.result import Result
from NoisyLabelSegLib.segmentations import Segment, Segmentation
from training.data.cases import Case
from training.data.channels import read_channels
from training.data.coarse import CoarseSettings
from training.data.masks import start_labels

Labels = NDArray[np.uint8]


def stage_labels(model: Model, case: Case, stages: int, simulated: CoarseSettings | None = None) -> list[Labels]:
    """A case's label maps: the first mask, then one a stage (a single one for a network without refinement).

    The arrays are on the image's grid, (K, J, I) as SimpleITK gives them. For ``simulated`` see `start_labels`; a
    network without refinement works on the whole image where there is no first mask.
    """
    image, *channels = read_channels(case, model.description.channels)
    coarse = start_labels(case, image, simulated)
    refines = model.description.kind == "refine"
    if coarse is None and refines:
        raise InputError(f"The case '{case.id}' has no coarse mask to start from: add one to the data set.")
    coarse = coarse or from_nothing(image, model).image
    given = sitk.GetArrayFromImage(coarse)
    segmentation = as_segmentation(coarse, model) if given.any() else None
    if not refines:
        # The image alone goes into the network; the coarse mask only places the window, as it does for ReReNet.
        if segmentation is None:
            return [given, labels_of(segmented(image, model, channels).stages[-1])]
        if model.description.kind == "segment":
            return [given, in_the_window(image, channels, segmentation, model)]
        return [given, labels_of(map_uncertainty(image, segmentation, model, channels=channels).stages[-1])]
    result = refine(image, segmentation, model, RefineSettings(stages=stages))
    # A stage that changed nothing more stands for all later ones.
    maps = [labels_of(stage) for stage in result.stages[1:]]
    return [given, *maps, *[maps[-1]] * (stages - len(maps))]


def segmented(image: sitk.Image, model: Model, channels: Sequence[sitk.Image] = ()) -> Result:
    """A whole image segmented by a network that needs no mask, whatever the model's kind."""
    if model.description.kind == "segment":
        everywhere = Segmentation(Grid.of(image).image(np.ones(image.GetSize()[::-1], np.uint8)), (Segment("all", 1),))
        return segment(image, everywhere, model, channels=channels)
    return map_uncertainty(image, None, model, channels=channels)


def in_the_window(image: sitk.Image, channels: Sequence[sitk.Image], masks: Segmentation, model: Model) -> Labels:
    """What is found in the window about these masks, which is all that the model is shown."""
    box = window_about(masks, model)
    crop, *others = (cut(whole, box) for whole in (image, *channels))
    return placed(labels_of(segmented(crop, model, others).stages[-1]), box, image)


def window_about(masks: Segmentation, model: Model) -> Box:
    """The box that a model is shown of an image with these masks."""
    return needed_box(Grid.of(masks.image), [mask.box for mask in masks_of(masks)], model.preprocessing)


def cut(image: sitk.Image, box: Box) -> sitk.Image:
    """A box of an image, where it lies in the image."""
    return Grid.of(image).crop(box).image(sitk.GetArrayViewFromImage(image)[box])


def placed(values: NDArray[Any], box: Box, image: sitk.Image, fill: float = 0) -> NDArray[Any]:
    """The values ``(..., K, J, I)`` of a box of an image in an array of the whole image's last axes."""
    whole = np.full((*values.shape[:-3], *image.GetSize()[::-1]), fill, values.dtype)
    inside: tuple[Any, ...] = (..., *box)
    whole[inside] = values
    return whole


def as_segmentation(labels: sitk.Image, model: Model) -> Segmentation:
    """A label map of the model's values as its structures."""
    return Segmentation(labels, tuple(Segment(label.name, label.value) for label in model.description.labels))


def labels_of(stage: Segmentation) -> Labels:
    """A label map that kept its values, as an array."""
    return sitk.GetArrayFromImage(stage.image).astype(np.uint8)
