"""What a computation finds, as regions of the image's grid; `result.Result` is the same as whole images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from NoisyLabelSegLib.regions import Region
from NoisyLabelSegLib.segmentations import Segment

MapName = Literal["probability", "entropy", "confidence", "suspect"]


@dataclass(frozen=True)
class Map:
    """Numbers over a region.

    Attributes:
        name: what they mean.
        segment: identifier of the segment they are about; empty for all together.
        region: float32.
        minimum, maximum: the bounds that such numbers have, wherever these ones lie.
    """

    name: MapName
    segment: str
    region: Region
    minimum: float
    maximum: float


@dataclass(frozen=True)
class Outcome:
    """See the module's text.

    Attributes:
        segments: the given ones in their order, or the model's when nothing was given.
        stages: each segment's mask (bool) at every stage; the first are the given masks, the last are the result.
        maps: see `Map`; of a refinement the probabilities behind the last stage, for each refined segment.
        statistics, provenance, notes, slice_axis: see `result.Result`.
    """

    segments: tuple[Segment, ...]
    stages: tuple[tuple[Region, ...], ...]
    maps: tuple[Map, ...]
    statistics: tuple[Mapping[str, Any], ...]
    provenance: Mapping[str, Any]
    notes: tuple[str, ...]
    slice_axis: int
