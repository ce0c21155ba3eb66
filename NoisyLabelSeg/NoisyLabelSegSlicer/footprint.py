"""Which part of a grid something covers that was placed, turned or bent there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.regions import Box
from NoisyLabelSegSlicer.transforms import Points

_SAMPLES = 17  # Along each edge.


def footprint(low: Points, high: Points, to_index: Callable[[Points], Points], grid: Grid) -> Box:
    """A box of the grid around all that a box elsewhere covers; empty where it covers nothing.

    A transform need not be linear: the box is sampled, with a margin for what lies between two samples.

    Args:
        low, high: two opposite corners of the box, (3,), in any coordinates.
        to_index: brings points (N, 3) of these coordinates to indices (I, J, K) of the grid.
        grid: the grid.
    """
    steps = np.linspace(0, 1, _SAMPLES)
    lattice = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1)
    points = np.asarray(low) + lattice.reshape(-1, 3) * (np.asarray(high) - np.asarray(low))
    index = to_index(points).reshape(lattice.shape)
    margin = 0.5 + max(np.abs(np.diff(index, axis=axis)).max() for axis in range(3)) / 2
    first = np.floor(index.min(axis=(0, 1, 2)) - margin)
    stop = np.ceil(index.max(axis=(0, 1, 2)) + margin) + 1
    starts = np.clip(first, 0, grid.size).astype(int)
    stops = np.maximum(np.clip(stop, 0, grid.size).astype(int), starts)
    box = tuple(slice(int(a), int(b)) for a, b in zip(starts[::-1], stops[::-1], strict=True))
    return box if all(side.start < side.stop for side in box) else tuple(slice(0, 0) for _ in box)
