"""Requests and outcomes, and how they travel: only the regions that matter, masks as bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from math import isfinite
from typing import Any, Literal

import numpy as np

from NoisyLabelSegLib.bundle.strict_json import convert
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.outcome import Map, MapName, Outcome
from NoisyLabelSegLib.outputs import plain_json
from NoisyLabelSegLib.part import Part
from NoisyLabelSegLib.regions import Region, intersection
from NoisyLabelSegLib.segmentations import Segment
from NoisyLabelSegLib.worker.stream import BITS, PROTOCOL, Block, Header, Message

__all__ = [
    "PROTOCOL",
    "Map",
    "Outcome",
    "Request",
    "outcome_message",
    "read_outcome",
    "read_request",
    "request_message",
    "to_block",
    "to_region",
]

Kind = Literal["refine", "uncertainty", "segment"]


@dataclass(frozen=True, kw_only=True)
class _RequestHeader:
    """What of a request is JSON: see `Request`."""

    kind: Kind
    model: str
    device: str
    stages: int | None
    grid: Grid
    value_range: tuple[float, float]
    segments: tuple[Segment, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Request(_RequestHeader):
    """What is to be computed.

    Attributes:
        kind: of the model.
        model: a bundle's name or folder.
        device: "auto", "gpu", "cpu" or a torch name such as "cuda:1".
        stages: upper bound, 1 to 9; None takes the model's.
        grid: of the whole image.
        voxels: the part of the image that is sent; it holds `preprocessing.needed_box`.
        value_range: lowest and highest value in the whole image.
        segments: those that are worked on, with their identifiers; none to start from nothing. Of the kind "segment"
            the parts of the region of interest; none for the whole image.
        masks: the given mask of each segment, bool.
    """

    voxels: Region
    masks: tuple[Region, ...]

    def __post_init__(self) -> None:
        sound = _are_masks(self.masks, self.grid) and _lies_in(self.voxels, self.grid)
        if not sound or len(self.masks) != len(self.segments):
            raise InputError("A request's voxels and masks must lie in the image, one mask of truth values a segment.")

    @property
    def part(self) -> Part:
        """The image as the pipeline takes it."""
        return Part(self.grid, self.voxels, self.value_range)

    @property
    def kept(self) -> tuple[Segment, ...]:
        """The segments that the outcome has, too, before any others: a region of interest is none of them."""
        return () if self.kind == "segment" else self.segments


@dataclass(frozen=True)
class _MapHeader:
    name: MapName
    segment: str
    minimum: float
    maximum: float
    outside: float

    def __post_init__(self) -> None:
        if not (isfinite(self.minimum) and isfinite(self.maximum) and self.minimum < self.maximum):
            raise InputError(f"its bounds {self.minimum} and {self.maximum} are none.")
        if not isfinite(self.outside):
            raise InputError(f"its value outside, {self.outside}, is none.")


@dataclass(frozen=True)
class _OutcomeHeader:
    """What of an outcome is JSON; ``stages`` is their number."""

    segments: tuple[Segment, ...]
    stages: int
    maps: tuple[_MapHeader, ...]
    statistics: tuple[Mapping[str, Any], ...]
    provenance: Mapping[str, Any]
    notes: tuple[str, ...]
    slice_axis: int
    suspects: tuple[Mapping[str, Any], ...]

    def __post_init__(self) -> None:
        if self.stages < 1 or self.slice_axis not in range(3):
            raise InputError(f"it has {self.stages} stages, and slices along axis {self.slice_axis} of 0 to 2.")


def request_message(request: Request) -> Message:
    """A request as JSON and arrays: the image's part first, then the masks."""
    header = _RequestHeader(**{field.name: getattr(request, field.name) for field in fields(_RequestHeader)})
    return asdict(header), [to_block(region) for region in (request.voxels, *request.masks)]


def read_request(header: Header, blocks: Sequence[Block]) -> Request:
    """What `request_message` was made of.

    Raises:
        InputError: when it cannot be one.
    """
    plain = convert(_RequestHeader, header, "The request")
    if len(blocks) != 1 + len(plain.segments):
        raise InputError(f"A request of {len(plain.segments)} segments holds {len(blocks)} arrays.")
    voxels, *masks = map(to_region, blocks)
    return Request(**vars(plain), voxels=voxels, masks=tuple(masks))


def outcome_message(outcome: Outcome) -> Message:
    """An outcome as JSON and arrays: the masks, stage by stage, then the maps."""
    header = _OutcomeHeader(
        segments=outcome.segments,
        stages=len(outcome.stages),
        maps=tuple(_MapHeader(m.name, m.segment, m.minimum, m.maximum, m.outside) for m in outcome.maps),
        statistics=tuple(outcome.statistics),
        provenance=outcome.provenance,
        notes=outcome.notes,
        slice_axis=outcome.slice_axis,
        suspects=outcome.suspects,
    )
    masks = [mask.trimmed() for stage in outcome.stages for mask in stage]
    return plain_json(asdict(header)), [to_block(region) for region in (*masks, *(m.region for m in outcome.maps))]


def read_outcome(
    header: Mapping[str, Any], blocks: Sequence[Block], grid: Grid, segments: Sequence[Segment]
) -> Outcome:
    """What `outcome_message` was made of.

    Args:
        header, blocks: the message.
        grid, segments: the request's ``grid`` and ``kept``; no segments when it started from nothing.

    Raises:
        InputError: when it cannot be one, or not that of such a request.
    """
    plain = convert(_OutcomeHeader, header, "The outcome")
    _require_answer(plain, segments)
    width, count = len(plain.segments), len(plain.segments) * plain.stages
    if len(blocks) != count + len(plain.maps):
        raise InputError(f"An outcome of {count} masks and {len(plain.maps)} maps holds {len(blocks)} arrays.")
    regions = [to_region(block) for block in blocks]
    masks, maps = regions[:count], regions[count:]
    if not _are_masks(masks, grid):
        raise InputError("An outcome's masks must be truth values that lie in the image.")
    if not all(_lies_in(found, grid) and found.values.dtype == np.float32 for found in maps):
        raise InputError("An outcome's maps must be of type float32 and lie in the image.")
    return Outcome(
        segments=plain.segments,
        stages=tuple(tuple(masks[at : at + width]) for at in range(0, count, width)),
        maps=tuple(
            Map(m.name, m.segment, region, m.minimum, m.maximum, m.outside)
            for m, region in zip(plain.maps, maps, strict=True)
        ),
        statistics=plain.statistics,
        provenance=plain.provenance,
        notes=plain.notes,
        slice_axis=plain.slice_axis,
        suspects=plain.suspects,
    )


def _require_answer(plain: _OutcomeHeader, asked: Sequence[Segment]) -> None:
    """InputError unless an outcome has the segments that were asked for, then perhaps a model's, with identifiers."""
    found = [segment.id for segment in plain.segments]
    named = all(found) and len(set(found)) == len(found) > 0
    if plain.segments[: len(asked)] != tuple(asked) or not (named or 0 < len(found) == len(asked)):
        raise InputError("An outcome must have the segments that were asked for.")
    if not {map_.segment for map_ in plain.maps} <= {"", *found}:
        raise InputError("An outcome's maps must be about its segments.")


def _are_masks(regions: Sequence[Region], grid: Grid) -> bool:
    return all(_lies_in(region, grid) and region.values.dtype == bool for region in regions)


def _lies_in(region: Region, grid: Grid) -> bool:
    return intersection(region.box, grid.whole_box()) == region.box


def to_block(region: Region) -> Block:
    """A region as it travels; its values are copied only where they do not lie one after the other."""
    values, start = region.values, tuple(int(side.start) for side in region.box)
    if values.dtype.name not in BITS:
        raise ValueError(f"An array of {values.dtype} cannot be sent.")
    flat = np.packbits(values) if values.dtype == bool else np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    return Block(values.dtype.name, start, values.shape, flat.reshape(-1).view(np.uint8).data)


def to_region(block: Block) -> Region:
    """What `to_block` was made of; the bytes are not copied but for truth values."""
    count = int(np.prod(block.shape))
    if block.type == "bool":
        values = np.unpackbits(np.frombuffer(block.data, np.uint8), count=count).view(bool)
    else:
        values = np.frombuffer(block.data, np.dtype(block.type).newbyteorder("<"))
    box = tuple(slice(start, start + size) for start, size in zip(block.start, block.shape, strict=True))
    return Region(box, values.reshape(block.shape))
