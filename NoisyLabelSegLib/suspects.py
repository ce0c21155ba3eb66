"""Given labels that look wrong, as connected regions in the order in which a person should look at them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from NoisyLabelSegLib.centroids import nearest_to_centroids
from NoisyLabelSegLib.regions import Box, Region

Index = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Suspect:
    """Voxels of one given label for which one other label is suggested, connected over faces, edges and corners.

    Attributes:
        score: mean of the voxels' scores, 0 to 1, by which regions are ranked: of planted noise it put more at the top
            of the list than the voxels' sum or their highest score.
        given, suggested: label values, 0 is the background.
        voxels: how many.
        volume_mm3: the same in mm³.
        centre: index (I, J, K) of the voxel of the region that lies nearest to its centroid in space.
        region: the voxels, bool.
    """

    score: float
    given: int
    suggested: int
    voxels: int
    volume_mm3: float
    centre: Index
    region: Region


def suspect_regions(
    score: NDArray[Any],
    given: NDArray[Any],
    suggested: NDArray[Any],
    threshold: float = 0.5,
    spacing: Sequence[float] = (1, 1, 1),
    start: Sequence[int] = (0, 0, 0),
) -> list[Suspect]:
    """The regions of suspect voxels, the most suspect first.

    Figures of all regions are summed up over the list of all suspect voxels at once: noisy labels have thousands of
    regions.

    Args:
        score: of each voxel, 0 to 1, (K, J, I).
        given, suggested: label values of the same voxels; only where they differ a voxel can be suspect.
        threshold: least score of a suspect voxel.
        spacing: in mm, of the axes I, J, K.
        start: where the arrays begin in the grid, (K, J, I).
    """
    labels, count = _labelled((score >= threshold) & (given != suggested), given, suggested)
    if not count:
        return []
    inside = np.nonzero(labels)
    owner, values = labels[inside].astype(np.intp) - 1, score[inside].astype(np.float64)
    voxels = np.bincount(owner)
    place = np.stack(inside) + np.array(start)[:, None]
    first = np.unique(owner, return_index=True)[1]
    centres = place[:, nearest_to_centroids(place, owner, voxels, spacing[::-1])].T[:, ::-1]
    means, voxel = np.bincount(owner, values) / voxels, np.prod(spacing)
    boxes, pairs = ndimage.find_objects(labels), (given[inside][first], suggested[inside][first])
    return [
        Suspect(
            score=float(means[n]),
            given=int(pairs[0][n]),
            suggested=int(pairs[1][n]),
            voxels=int(voxels[n]),
            volume_mm3=float(voxels[n] * voxel),
            centre=tuple(map(int, centres[n])),  # type: ignore[arg-type]
            region=Region(_moved(boxes[n], start), labels[boxes[n]] == n + 1),
        )
        for n in np.lexsort((first, -voxels, -means))
    ]


def _labelled(
    suspect: NDArray[np.bool_], given: NDArray[Any], suggested: NDArray[Any]
) -> tuple[NDArray[np.int32], int]:
    """Numbers, from 1, of the connected regions of equal pairs of labels, and how many there are."""
    inside = np.nonzero(suspect)
    codes = given[inside].astype(np.int64) << 32 | suggested[inside].astype(np.int64)
    pairs = np.zeros(suspect.shape, np.int32)
    pairs[inside] = np.unique(codes, return_inverse=True)[1].ravel() + 1
    labels, count = np.zeros(suspect.shape, np.int32), 0
    for number, box in enumerate(ndimage.find_objects(pairs)):
        found, more = ndimage.label(pairs[box] == number + 1, np.ones((3, 3, 3)))
        labels[box] += np.where(found > 0, found + count, 0).astype(np.int32)
        count += more
    return labels, count


def _moved(box: Box, start: Sequence[int]) -> Box:
    return tuple(slice(side.start + by, side.stop + by) for side, by in zip(box, start, strict=True))
