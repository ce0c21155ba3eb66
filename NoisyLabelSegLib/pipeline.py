"""One request, one way through: image and mask -> preprocessing -> method -> inverse -> `Outcome`.

The graphical interface, the command line and Python call the same function.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import SimpleITK as sitk

from NoisyLabelSegLib.assembly import assemble
from NoisyLabelSegLib.dicom_series import resampling_note
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.images import same_grid
from NoisyLabelSegLib.inference.checks import EMPTY_MASK, on_grid
from NoisyLabelSegLib.inference.model import Model
from NoisyLabelSegLib.outcome import Outcome
from NoisyLabelSegLib.part import Part
from NoisyLabelSegLib.progress import Progress, silent
from NoisyLabelSegLib.refinement import RefineSettings, refine_part
from NoisyLabelSegLib.regions import Region, masks_of, together
from NoisyLabelSegLib.result import Maps, Result
from NoisyLabelSegLib.segmentations import Segmentation
from NoisyLabelSegLib.segmenting import SegmentSettings, segment_part
from NoisyLabelSegLib.structures import segments_of
from NoisyLabelSegLib.uncertainty import NO_LABELS, UncertaintySettings, map_uncertainty_part

__all__ = [
    "RefineSettings",
    "SegmentSettings",
    "UncertaintySettings",
    "from_nothing",
    "map_uncertainty",
    "refine",
    "segment",
]


def refine(
    image: sitk.Image,
    segmentation: Segmentation | None,
    model: Model,
    settings: RefineSettings | None = None,
    progress: Progress = silent,
) -> Result:
    """Refine a coarse segmentation of an image, stage by stage: `refine_part` for whole images.

    Args:
        image: 3D, scalar; its grid is the result's.
        segmentation: the coarse masks, on any grid; None starts from nothing, over the whole image.
        model, settings, progress: see `refine_part`.

    Raises:
        InputError: when something given cannot be used.
    """
    part = Part.whole(image)
    given, remarks = (from_nothing(image, model), []) if segmentation is None else on_grid(segmentation, image)
    if not given.segments:
        raise InputError(EMPTY_MASK)
    start = () if segmentation is None else given.segments
    outcome = refine_part(part, start, masks_of(given) if start else (), model, settings, progress)
    given = Segmentation(given.image, outcome.segments)
    return Result(
        image=image,
        stages=(given, *(assemble(stage, given) for stage in outcome.stages[1:])),
        probabilities=Maps(image, {found.segment: found for found in outcome.maps}),
        statistics=outcome.statistics,
        provenance=outcome.provenance,
        notes=(*outcome.notes, *_with_resampling(image, remarks)),
        slice_axis=outcome.slice_axis,
    )


def map_uncertainty(
    image: sitk.Image,
    segmentation: Segmentation | None,
    model: Model,
    settings: UncertaintySettings | None = None,
    progress: Progress = silent,
    channels: Sequence[sitk.Image] = (),
) -> Result:
    """Segment an image, say how sure that is, and which given labels look wrong: `map_uncertainty_part` as images.

    Args:
        image: 3D, scalar; its grid is the result's.
        segmentation: the given labels, on any grid; None when there are none.
        model, settings, progress: see `map_uncertainty_part`.
        channels: for a model of several channels the further ones, in its order and on the image's grid.

    Raises:
        InputError: when something given cannot be used.
    """
    part = _part_of(image, channels)
    nothing = Segmentation(Grid.of(image).empty_image(), ())
    given, remarks = on_grid(segmentation or nothing, image, empty_allowed=True)
    if segmentation is not None and not given.segments:  # a label map of nothing but background
        remarks.append(NO_LABELS)
    outcome = map_uncertainty_part(part, given.segments, masks_of(given), model, settings, progress)
    return _with_maps(image, outcome, remarks)


def segment(
    image: sitk.Image,
    roi: Segmentation | None,
    model: Model,
    settings: SegmentSettings | None = None,
    progress: Progress = silent,
    channels: Sequence[sitk.Image] = (),
) -> Result:
    """Segment an image from nothing but the image: `segment_part` as images.

    Args:
        image: 3D, scalar; its grid is the result's.
        roi: where something may be found, all segments of it together, on any grid; None is everywhere.
        model, settings, progress: see `segment_part`.
        channels: see `map_uncertainty`.

    Raises:
        InputError: when something given cannot be used.
    """
    region: Region | None = None
    remarks: list[str] = []
    if roi is not None:
        given, remarks = on_grid(roi, image)
        region = together(masks_of(given))
    outcome = segment_part(_part_of(image, channels), region, model, settings, progress)
    return _with_maps(image, outcome, remarks)


def _part_of(image: sitk.Image, channels: Sequence[sitk.Image]) -> Part:
    for number, channel in enumerate(channels, 2):
        if not same_grid(channel, image):
            raise InputError(f"Channel {number} is not on the grid of the image: resample it first.")
    return Part.whole(image, channels)


def _with_maps(image: sitk.Image, outcome: Outcome, remarks: Sequence[str]) -> Result:
    like = Segmentation(Grid.of(image).empty_image(), tuple(replace(s, layer=0) for s in outcome.segments))
    return Result(
        image=image,
        stages=tuple(assemble(stage, like) for stage in outcome.stages),
        probabilities=Maps(image, {found.segment: found for found in outcome.maps if found.segment}),
        statistics=outcome.statistics,
        provenance=outcome.provenance,
        notes=(*dict.fromkeys([*outcome.notes, *_with_resampling(image, remarks)]),),
        slice_axis=outcome.slice_axis,
        maps=Maps(image, {found.name: found for found in outcome.maps if not found.segment}),
        suspects=outcome.suspects,
        regions=outcome.regions,
    )


def _with_resampling(image: sitk.Image, remarks: Sequence[str]) -> list[str]:
    note = resampling_note(image)
    return [note, *remarks] if note else [*remarks]


def from_nothing(image: sitk.Image, model: Model) -> Segmentation:
    """An empty segmentation with the model's structures, on the image's grid."""
    return Segmentation(Grid.of(image).empty_image(), segments_of(model.description))
