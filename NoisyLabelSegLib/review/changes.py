"""The connected regions in which two masks differ, with size, place, stage and uncertainty."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from NoisyLabelSegLib.centroids import nearest_to_centroids
from NoisyLabelSegLib.regions import Box, Region, union

Kind = Literal["added", "removed"]
Index = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Change:
    """Voxels that a segment has got or lost, connected over faces, edges and corners.

    Attributes:
        key: the same for the same change of the same masks: kind, first voxel (linear index in the grid), segment.
        segment: its place among the segments.
        kind: whether the voxels came or went.
        region: the voxels, bool.
        voxels: how many.
        volume_mm3: the same in mm³.
        centre: index (I, J, K) of the voxel of the region that lies nearest to its centroid in space.
        stage: the one, from 1, at which most of the voxels first had the value that they have in the result.
        uncertainty: the mean over the voxels, 0 to 1; None where there is no map.
    """

    key: str
    segment: int
    kind: Kind
    region: Region
    voxels: int
    volume_mm3: float
    centre: Index
    stage: int
    uncertainty: float | None


def changes(
    segment_ids: Sequence[str],
    stages: Sequence[Sequence[Region]],
    spacing: Sequence[float],
    size: Sequence[int],
    uncertainty: Mapping[int, Region] | None = None,
    *,
    uncertain_first: bool = False,
) -> list[Change]:
    """List the changes from the first stage to the last, the largest first, or those of the highest uncertainty.

    Args:
        segment_ids: the segments' identifiers, all different.
        stages: for every stage, the given one first, each segment's mask (bool).
        spacing: in mm, of the axes I, J, K.
        size: the grid's, in voxels along I, J, K.
        uncertainty: maps (0 to 1) by the place of the segment; see `uncertainty_of`.
        uncertain_first: the order.
    """
    maps = uncertainty or {}
    found = []
    for place, identifier in enumerate(segment_ids):
        masks = [stage[place] for stage in stages]
        box = union((masks[0].box, masks[-1].box))
        before, after = masks[0].cut(box), masks[-1].cut(box)
        for kind, different in (("added", after & ~before), ("removed", before & ~after)):
            part = _Part(identifier, place, kind, Region(box, different).trimmed())  # type: ignore[arg-type]
            found += [(index, change) for index, change in part.changes(masks, spacing, size, maps.get(place))]
    found.sort(key=lambda item: (-item[1].voxels, item[1].segment, item[0], item[1].kind))
    if uncertain_first:
        found.sort(key=lambda item: -(item[1].uncertainty or 0))
    return [change for _, change in found]


@dataclass(frozen=True)
class _Part:
    """All that one segment has got, or all that it has lost."""

    identifier: str
    place: int
    kind: Kind
    whole: Region

    def changes(
        self, masks: Sequence[Region], spacing: Sequence[float], size: Sequence[int], map_: Region | None
    ) -> Iterator[tuple[int, Change]]:
        """Yield the connected ones, each with the linear index of its first voxel.

        Figures of all regions are summed up over the list of all changed voxels at once: a noisy result has thousands
        of regions.
        """
        labels, count = ndimage.label(self.whole.values, np.ones((3, 3, 3)))
        if not count:
            return
        inside = np.nonzero(labels)
        owner = labels[inside] - 1
        voxels = np.bincount(owner)
        place = np.stack(inside) + np.array([[side.start] for side in self.whole.box])
        first = np.ravel_multi_index(tuple(place[:, np.unique(owner, return_index=True)[1]]), size[::-1])
        centres = place[:, nearest_to_centroids(place, owner, voxels, spacing[::-1])].T[:, ::-1]
        stages = _most_frequent(owner, self._first_stages(masks, inside), len(masks))
        doubts = None if map_ is None else np.bincount(owner, map_.cut(self.whole.box)[inside]) / voxels
        for n, inner in enumerate(ndimage.find_objects(labels)):
            yield (
                int(first[n]),
                Change(
                    key=f"{self.kind} {first[n]} {self.identifier}",
                    segment=self.place,
                    kind=self.kind,
                    region=Region(_moved(inner, self.whole.box), labels[inner] == n + 1),
                    voxels=int(voxels[n]),
                    volume_mm3=float(voxels[n] * np.prod(spacing)),
                    centre=tuple(map(int, centres[n])),  # type: ignore[arg-type]
                    stage=int(stages[n]),
                    uncertainty=None if doubts is None else float(doubts[n]),
                ),
            )

    def _first_stages(self, masks: Sequence[Region], inside: tuple[NDArray[np.intp], ...]) -> NDArray[np.intp]:
        """For each changed voxel the first stage at which it had its last value."""
        first = np.zeros(len(inside[0]), np.intp)
        for number in range(len(masks) - 1, 0, -1):
            first[masks[number].cut(self.whole.box)[inside] == (self.kind == "added")] = number
        return first


def _most_frequent(owner: NDArray[np.intp], stages: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """For each region the stage of most of its voxels; of equals the earlier."""
    votes = np.bincount(owner * count + stages, minlength=(int(owner.max()) + 1) * count)
    return votes.reshape(-1, count).argmax(axis=1)


def _moved(box: Box, outer: Box) -> Box:
    """A box that is counted from the start of another one, counted from the start of the grid."""
    return tuple(slice(s.start + o.start, s.stop + o.start) for s, o in zip(box, outer, strict=True))


def uncertainty_of(probability: Region) -> Region:
    """The entropy of a probability (0 to 1) of a structure, in bits: 0 where it is sure, 1 at a half; float32."""
    p = np.clip(probability.values.astype(np.float32), 0, 1)
    entropy = np.zeros_like(p)
    for share in (p, 1 - p):
        entropy -= share * np.log2(share, out=np.zeros_like(p), where=share > 0)
    return Region(probability.box, entropy)
