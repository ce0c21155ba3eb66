"""A segmentation, how sure it is, and which given labels look wrong: a part of an image in, regions out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from NoisyLabelSegLib.bundle import ModelDescription
from NoisyLabelSegLib.class_maps import (
    class_probabilities,
    edge_remarks,
    flips_of,
    maps_of,
    on_the_images_grid,
    size_remarks,
    temperature_remarks,
)
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.inference.acquisition import acquisition_remarks
from NoisyLabelSegLib.inference.checks import check_part, mask_remarks, require_kind
from NoisyLabelSegLib.inference.model import Model
from NoisyLabelSegLib.inference.preprocessing import Frame, Prepared, prepare_part
from NoisyLabelSegLib.methods import affinity_umamba as method
from NoisyLabelSegLib.outcome import Map, Outcome
from NoisyLabelSegLib.part import Part
from NoisyLabelSegLib.progress import Progress, silent
from NoisyLabelSegLib.progression import doubts, statistics
from NoisyLabelSegLib.provenance import provenance
from NoisyLabelSegLib.regions import NOTHING, Region, is_empty, joined, overlap
from NoisyLabelSegLib.restoring import restore_labels
from NoisyLabelSegLib.segmentations import Segment, identifiers
from NoisyLabelSegLib.structures import chosen_places, named_as, segments_of, values_of
from NoisyLabelSegLib.suspects import Suspect, suspect_regions

MOST_SUSPECTS = 1000
"""So many regions are listed at most: nobody looks at more."""
BACKGROUND = "background"
NO_LABELS = "The labels are empty: none count as given, and none are suspect."


@dataclass(frozen=True)
class UncertaintySettings:
    """What a person may choose.

    Attributes:
        mirror: average the predictions for all flips that the model allows.
        segments: names of the given segments that count as labels; empty takes all. In the voxels of the others nothing
            is suspect.
    """

    mirror: bool = False
    segments: tuple[str, ...] = ()


def map_uncertainty_part(
    part: Part,
    segments: Sequence[Segment],
    masks: Sequence[Region],
    model: Model,
    settings: UncertaintySettings | None = None,
    progress: Progress = silent,
) -> Outcome:
    """Segment an image, say how sure that is, and find given labels that look wrong.

    Given labels do not influence the segmentation, but for where it is looked for: around them, without any in the
    whole image. Elsewhere all is background, and sure.

    Args:
        part: of the image; it holds `preprocessing.needed_box`.
        segments: the given labels, which are the model's structures by name or "Label <value>"; may be none.
        masks: of each segment, bool, in regions of the whole image's grid.
        model: of the kind "uncertainty".
        settings: see `UncertaintySettings`.
        progress: see `Progress`.

    Returns:
        Two stages: the given labels, which may all be empty, and the segmentation; see `Outcome`.

    Raises:
        InputError: when something given cannot be used.
    """
    started = time.monotonic()
    settings, description = settings or UncertaintySettings(), model.description
    require_kind(description, "uncertainty")
    arguments = method.Arguments.from_json(description.method_arguments)
    flips = flips_of(arguments.mirror, settings.mirror, description)
    notes = check_part(part, description)
    given = _structures(segments, masks, settings, description)
    notes += given.remarks(part.grid, description, asked=bool(segments))
    prepared = prepare_part(part, given.labels, model.preprocessing)
    predictor = model.predictor(notes.append)
    branches = class_probabilities(prepared, model, predictor, arguments.temperatures, flips, progress)
    frame = prepared.frame
    found = on_the_images_grid(frame, branches[:, : model.classes])
    maps = maps_of(frame, found, list(zip(identifiers(given.segments), given.values, strict=True)))
    stages = (given.masks, _masks(frame, found, given))
    rows = tuple(given.compared(statistics(given.names, stages, part.grid.spacing, from_nothing=not given.labelled)))
    notes += acquisition_remarks(part, frame.box, description)
    notes += [*edge_remarks(frame, stages[-1], given.names), *size_remarks(prepared)]
    suspects: tuple[Mapping[str, Any], ...] = ()
    regions: list[Suspect] = []
    if given.labelled:
        score, regions = _suspects(branches, prepared, given, model, arguments)
        maps += (Map("suspect", "", score, 0, 1),)
        suspects = tuple(suspect_rows(regions, dict(zip(given.values, given.names, strict=True)), part.grid))
        notes += _number_of(regions)
    notes += temperature_remarks(arguments.temperatures[0])
    settled = {"mirror": settings.mirror, "segments": list(settings.segments)}
    origin = provenance(description, settled, predictor.device, time.monotonic() - started)
    return Outcome(
        segments=given.segments,
        stages=stages,
        maps=maps,
        statistics=rows,
        provenance=origin,
        notes=tuple(dict.fromkeys([*doubts(rows, len(stages)), *notes, *prepared.notes])),
        slice_axis=prepared.slice_axis,
        suspects=suspects,
        regions=tuple(regions),
    )


@dataclass(frozen=True)
class _Structures:
    """The segments of the result: the given ones that count, then the model's others.

    Attributes:
        values: the model's label of each.
        masks: as given, bool; empty for the model's others.
        kept: masks of the given segments that do not count.
        unchosen: values of the model's structures that are among these.
    """

    segments: tuple[Segment, ...]
    values: tuple[int, ...]
    masks: tuple[Region, ...]
    kept: tuple[Region, ...]
    unchosen: frozenset[int]

    @property
    def names(self) -> list[str]:
        return [segment.name for segment in self.segments]

    @property
    def labelled(self) -> bool:
        return not all(is_empty(mask.box) for mask in self.masks)

    @property
    def labels(self) -> Region:
        """The given masks as one label map."""
        return joined(self.masks, dict(enumerate(self.values)))

    def compared(self, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Rows of `statistics`; what was given of a structure but not chosen is compared with nothing."""
        unknown = {"dice_to_given": None, "hd95_to_given_mm": None}
        apart = [name for name, value in zip(self.names, self.values, strict=True) if value in self.unchosen]
        for row in rows:
            yield {**row, **unknown} if row["segment"] in apart else row

    def remarks(self, grid: Grid, description: ModelDescription, *, asked: bool) -> list[str]:
        """What is to be said about the given labels."""
        if not self.labelled:
            return [NO_LABELS] if asked else []
        notes = []
        for name, mask, value in zip(self.names, self.masks, self.values, strict=True):
            label = next(label for label in description.labels if label.value == value)
            if value in self.unchosen:
                notes.append(f"The labels of '{name}' were not chosen: nothing is compared with them or suspect there.")
            elif is_empty(mask.box):
                notes.append(f"The labels have no voxel of '{name}': wherever the model sees it, it is suggested.")
            elif name.casefold() != label.name.casefold():
                notes.append(f"'{name}' is taken for {label.name}.")
            notes += mask_remarks(mask.box, grid, name)
        return notes


def _structures(
    segments: Sequence[Segment], masks: Sequence[Region], settings: UncertaintySettings, description: ModelDescription
) -> _Structures:
    if settings.segments and not segments:
        raise InputError("Segments are chosen from given labels: give labels, or choose no segments.")
    names = [segment.name for segment in segments]
    places = chosen_places(names, settings.segments, description)
    values = values_of(names, places, description)
    if overlap(masks[place] for place in places):
        raise InputError("Two of the given segments overlap, but a voxel has one label: remove the overlap.")
    labels = {label.value: label for label in description.labels}
    chosen = [named_as(segments[place], labels[values[place]]) for place in places]
    others = [segment for segment in segments_of(description) if segment.label not in values.values()]
    if segments:  # whoever asked may have further segments, whose identifiers are not known here
        others = [replace(other, id=f"Found_{other.label}") for other in others]
    ids = identifiers([*chosen, *others])[len(chosen) :]
    return _Structures(
        segments=(*chosen, *(replace(other, id=own) for other, own in zip(others, ids, strict=True))),
        values=(*values.values(), *(other.label for other in others)),
        masks=(*(masks[place] for place in places), *(NOTHING for _ in others)),
        kept=tuple(mask for place, mask in enumerate(masks) if place not in places),
        unchosen=frozenset(
            label.value
            for place, name in enumerate(names)
            if place not in places and (label := description.structure_of(name)) and label.value not in values.values()
        ),
    )


def _labels(labels: Tensor) -> NDArray[np.int64]:
    """``BHW[D]`` as (slices, rows, columns)."""
    return labels.numpy() if labels.ndim == 3 else labels[0].numpy()


def _masks(frame: Frame, found: method.Uncertainty, given: _Structures) -> tuple[Region, ...]:
    labels = found.labels[0].numpy()
    return tuple(Region(frame.box, labels == value) for value in given.values)


def _suspects(
    branches: Tensor, prepared: Prepared, given: _Structures, model: Model, arguments: method.Arguments
) -> tuple[Region, list[Suspect]]:
    """The score on the image's grid, and the suspect regions."""
    labels = torch.from_numpy(prepared.labels.astype(np.int64))
    labels = labels if model.preprocessing.dimensions == 2 else labels[None]
    plain = replace(arguments, temperatures=(1.0,))  # these logits are calibrated
    found, suggested = method.suspects(branches.log(), labels, model.classes, plain)
    frame = prepared.frame
    score = frame.restore_region(_labels(found).astype(np.float32))
    for mask in given.kept:
        score.values[mask.cut(score.box)] = 0
    other = restore_labels(frame, _labels(suggested), given.values)
    score.values[np.isin(other.values, list(given.unchosen))] = 0
    start = [side.start for side in score.box]
    own = given.labels.cut(score.box)
    threshold, spacing = arguments.threshold, frame.grid.spacing
    return score, suspect_regions(score.values, own, other.values, threshold, spacing, start=start)


def suspect_rows(regions: Sequence[Suspect], structures: Mapping[int, str], grid: Grid) -> Iterator[dict[str, Any]]:
    """Yield the first regions as `result.Result.suspects`.

    Args:
        regions: in their order.
        structures: names by their labels.
        grid: the image's.
    """
    names = {0: BACKGROUND, **structures}
    for rank, suspect in enumerate(regions[:MOST_SUSPECTS], 1):
        yield _row(rank, suspect, names, grid)


def _row(rank: int, suspect: Suspect, names: Mapping[int, str], grid: Grid) -> dict[str, Any]:
    left, back, up = grid.to_physical(suspect.centre).tolist()
    return {
        "rank": rank,
        "score": round(suspect.score, 4),
        "given": names[suspect.given],
        "suggested": names[suspect.suggested],
        "given_label": suspect.given,
        "suggested_label": suspect.suggested,
        "voxels": suspect.voxels,
        "volume_mm3": suspect.volume_mm3,
        "index": list(suspect.centre),
        "ras_mm": [-left, -back, up],
    }


def _number_of(regions: Sequence[Suspect]) -> list[str]:
    if len(regions) <= MOST_SUSPECTS:
        return []
    return [f"There are {len(regions):,} suspect regions: the first {MOST_SUSPECTS:,} are listed."]
