"""Where regions lie, of thousands at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def nearest_to_centroids(
    place: NDArray[np.intp], owner: NDArray[np.intp], voxels: NDArray[np.intp], spacing: Sequence[float]
) -> NDArray[np.intp]:
    """For each region the number of that of its voxels that is nearest to the mean of all; of equals the first.

    Args:
        place: index of each voxel, (3, voxels).
        owner: number of the region of each voxel, from 0.
        voxels: how many each region has, at least one.
        spacing: in mm, in the order of ``place``'s axes.
    """
    distance = np.zeros(len(owner))
    for axis, step in zip(place, spacing, strict=True):
        mean = np.bincount(owner, axis) / voxels
        distance += ((axis - mean[owner]) * step) ** 2
    order = np.lexsort((distance, owner))
    return order[np.cumsum(voxels) - voxels]
