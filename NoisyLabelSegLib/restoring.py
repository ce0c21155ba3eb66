"""From label maps of a network's working grid to the image's own grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from NoisyLabelSegLib.inference.frame import Frame
from NoisyLabelSegLib.regions import Region


def restore_labels(frame: Frame, labels: NDArray[np.int64], values: Sequence[int]) -> Region:
    """A label map of the crop on the image's grid.

    Where voxels differ in size, a voxel that is at least half covered goes to what covers most of it, and to that
    alone: neither gaps nor overlaps arise where structures touch.

    Args:
        frame: of the crop.
        labels: of the crop's voxels.
        values: the labels that count; all others are background.
    """
    ordered = sorted(values)
    shares = np.stack([frame.restore_region((labels == value).astype(np.float32)).values for value in ordered])
    winner = np.array(ordered)[shares.argmax(axis=0)]
    winner[shares.sum(axis=0) < 0.5] = 0
    return Region(frame.box, winner)
