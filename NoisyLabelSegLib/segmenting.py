"""A segmentation of an image from nothing but the image: a part of it in, regions out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from NoisyLabelSegLib.bundle import ModelDescription
from NoisyLabelSegLib.class_maps import (
    class_probabilities,
    flips_of,
    maps_of,
    on_the_images_grid,
    size_remarks,
    temperature_remarks,
)
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.inference.acquisition import acquisition_remarks
from NoisyLabelSegLib.inference.checks import check_part, require_kind
from NoisyLabelSegLib.inference.model import Model
from NoisyLabelSegLib.inference.preprocessing import prepare_part
from NoisyLabelSegLib.methods import weak_to_strong as method
from NoisyLabelSegLib.outcome import Outcome
from NoisyLabelSegLib.part import Part
from NoisyLabelSegLib.progress import Progress, silent
from NoisyLabelSegLib.progression import statistics
from NoisyLabelSegLib.provenance import provenance
from NoisyLabelSegLib.regions import NOTHING, Region, is_empty
from NoisyLabelSegLib.segmentations import identifiers
from NoisyLabelSegLib.structures import segments_of

NO_ROI = (
    "The model '{name}' was trained on crops about one {anatomy} and finds nothing in a whole image: draw a region of "
    "interest around the place that you mean, and give it."
)
EMPTY_ROI = "The region of interest is empty: draw one, or leave it out to look at the whole image."


@dataclass(frozen=True)
class SegmentSettings:
    """What a person may choose.

    Attributes:
        mirror: average the predictions for all flips that the model allows.
    """

    mirror: bool = False


def segment_part(
    part: Part,
    roi: Region | None,
    model: Model,
    settings: SegmentSettings | None = None,
    progress: Progress = silent,
) -> Outcome:
    """Segment an image, or a region of interest in it, and say how sure that is.

    Args:
        part: of the image; it holds `preprocessing.needed_box` of the region.
        roi: bool, in a region of the whole image's grid: where something may be found; None is everywhere.
        model: of the kind "segment".
        settings: see `SegmentSettings`.
        progress: see `Progress`.

    Returns:
        Two stages: nothing, and the segmentation; see `Outcome`.

    Raises:
        InputError: when something given cannot be used.
    """
    started = time.monotonic()
    settings, description = settings or SegmentSettings(), model.description
    require_kind(description, "segment")
    arguments = method.Arguments.from_json(description.method_arguments)
    flips = flips_of(arguments.mirror, settings.mirror, description)
    notes = check_part(part, description)
    prepared = prepare_part(part, _labelled(roi, arguments, description), model.preprocessing)
    predictor = model.predictor(notes.append)
    probabilities = class_probabilities(prepared, model, predictor, arguments.temperatures, flips, progress)
    found = on_the_images_grid(prepared.frame, probabilities)
    segments = segments_of(description)
    values = [segment.label for segment in segments]
    masks = [Region(prepared.frame.box, found.labels[0].numpy() == value) for value in values]
    names = [segment.name for segment in segments]
    notes += [*acquisition_remarks(part, prepared.frame.box, description), *size_remarks(prepared)]
    inside = [mask.values if roi is None else mask.values & (roi.cut(mask.box) > 0) for mask in masks]
    if arguments.one_object:
        border = method.slices_border(prepared.frame.box, part.grid.size[::-1], prepared.slice_axis)
        inside = _of_one_object(inside, border, notes)
    kept = list(_kept(masks, inside, names, arguments.smallest_mm3 / prod(part.grid.spacing), notes))
    notes += temperature_remarks(arguments.temperatures[0])
    stages = (tuple(NOTHING for _ in segments), tuple(kept))
    rows = tuple(statistics(names, stages, part.grid.spacing, from_nothing=True))
    settled = {"mirror": settings.mirror, "region_of_interest": roi is not None}
    return Outcome(
        segments=segments,
        stages=stages,
        maps=maps_of(prepared.frame, found, list(zip(identifiers(segments), values, strict=True))),
        statistics=rows,
        provenance=provenance(description, settled, predictor.device, time.monotonic() - started),
        notes=tuple(dict.fromkeys([*notes, *prepared.notes])),
        slice_axis=prepared.slice_axis,
    )


def _labelled(roi: Region | None, arguments: method.Arguments, description: ModelDescription) -> Region:
    """The region of interest as labels, around which a network looks; of none an empty one: everywhere."""
    if roi is None and arguments.needs_region:
        raise InputError(NO_ROI.format(name=description.name, anatomy=description.anatomy))
    if roi is not None and is_empty(roi.box):
        raise InputError(EMPTY_ROI)
    around = roi or NOTHING
    return Region(around.box, around.values.astype(np.uint8))


def _of_one_object(
    masks: Sequence[NDArray[np.bool_]], border: NDArray[np.bool_], notes: list[str]
) -> list[NDArray[np.bool_]]:
    """What of the masks belongs to the one object that the model knows."""
    kept, others = method.one_object(np.any(masks, axis=0), border)
    if others:
        objects, were = ("One object", "was") if others == 1 else (f"{others:,} objects", "were")
        notes.append(f"{objects} apart from the largest one {were} left out: this model knows what hangs together.")
    return [mask & kept for mask in masks]


def _kept(
    masks: Sequence[Region],
    inside: Sequence[NDArray[np.bool_]],
    names: Sequence[str],
    least_voxels: float,
    notes: list[str],
) -> Iterator[Region]:
    """What is inside of each mask without small objects, which are counted in a note; what the border cuts is told."""
    for mask, values, name in zip(masks, inside, names, strict=True):
        larger, removed = method.without_small_objects(values, least_voxels)
        outside = mask.values & ~values
        if outside.any() and (binary_dilation(larger) & outside).any():
            notes.append(
                f"What was found of '{name}' goes on beyond the region of interest and was cut there: enlarge the "
                "region to have all of it."
            )
        if removed:
            objects, were = ("one object", "was") if removed == 1 else (f"{removed:,} objects", "were")
            notes.append(f"Of '{name}' {objects} too small to be trusted by this model {were} left out.")
        yield Region(mask.box, larger)
