"""What a computation finds, as regions of the image's grid; `result.Result` is the same as whole images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from NoisyLabelSegLib.regions import Region
from NoisyLabelSegLib.segmentations import Segment
from NoisyLabelSegLib.suspects import Suspect

MapName = Literal["probability", "entropy", "confidence", "suspect"]


@dataclass(frozen=True)
class Map:
    """Numbers over a region.

    Attributes:
        name: what they mean.
        segment: identifier of the segment they are about; empty for all together.
        region: float32.
        minimum, maximum: the bounds that such numbers have, wherever these ones lie.
        outside: what they are in the rest of the image.
    """

    name: MapName
    segment: str
    region: Region
    minimum: float
    maximum: float
    outside: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """See the module's text.

    Attributes:
        segments: the given ones in their order, or the model's when nothing was given; of an uncertainty the model's
            other structures come last.
        stages: each segment's mask (bool) at every stage; the first are the given masks, the last are the result.
        maps: see `Map`; of a refinement the probabilities behind the last stage, for each refined segment; of an
            uncertainty those of each structure, the entropy, the confidence and, where labels were given, the suspects.
        statistics, provenance, notes, slice_axis, suspects: see `result.Result`.
        regions: the voxels of the suspects, and of those that are too many to be listed.
    """

    segments: tuple[Segment, ...]
    stages: tuple[tuple[Region, ...], ...]
    maps: tuple[Map, ...]
    statistics: tuple[Mapping[str, Any], ...]
    provenance: Mapping[str, Any]
    notes: tuple[str, ...]
    slice_axis: int
    suspects: tuple[Mapping[str, Any], ...] = ()
    regions: tuple[Suspect, ...] = ()
