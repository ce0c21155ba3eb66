"""Label noise to be planted, so that the flipped voxels are known; whole data sets of it are `noisy_sets`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.data.coarse import border_field

Labels = NDArray[np.uint8]
RADII = (1.5, 3.0)  # Of blobs, voxels.
MOST_SHIFTED = 0.4


def plant(labels: Labels, share: float, rng: np.random.Generator, radii: tuple[float, float] = RADII) -> Labels:
    """Flip blobs until ``share`` of the border's voxels have another label.

    A blob is a ball about a border voxel; all of it that has one of the border's two labels gets the
    other one, so that a structure grows there or is eaten into.

    Args:
        labels: label map of 2 or 3 dimensions.
        share: 0 to 1, of the voxels with a neighbour (over a face) of another label.
        rng: every random number comes from it.
        radii: the least and the largest one of a blob, voxels.
    """
    noisy = labels.copy()
    border = borders(labels)
    places = rng.permutation(np.argwhere(border))
    wanted = share * border.sum()
    for place in places:
        if np.count_nonzero((noisy != labels) & border) >= wanted:
            break
        _flip(noisy, labels, place, rng, radii)
    return noisy


def borders(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Voxels with a face neighbour of another label."""
    return (ndimage.maximum_filter(labels, footprint=_cross(labels)) != labels) | (
        ndimage.minimum_filter(labels, footprint=_cross(labels)) != labels
    )


def near_borders(labels: Labels, reach: int = 3) -> NDArray[np.bool_]:
    """Voxels that lie at most ``reach`` steps from a border's."""
    return ndimage.binary_dilation(borders(labels), _cross(labels), iterations=reach)


def _cross(labels: NDArray[Any]) -> NDArray[np.bool_]:
    return ndimage.generate_binary_structure(labels.ndim, 1)


def _flip(
    noisy: Labels, labels: Labels, place: NDArray[np.intp], rng: np.random.Generator, radii: tuple[float, float]
) -> None:
    """Flip one ball, in place."""
    around = tuple(slice(max(p - 1, 0), p + 2) for p in place)
    own = labels[tuple(place)]
    other = rng.choice(np.setdiff1d(labels[around], own))
    old, new = (own, other) if rng.random() < 0.5 else (other, own)
    radius = rng.uniform(*radii)
    reach = int(np.ceil(radius))
    box = tuple(slice(max(p - reach, 0), p + reach + 1) for p in place)
    offsets = np.ogrid[
        tuple(slice(s.start - p, min(s.stop, n) - p) for s, p, n in zip(box, place, labels.shape, strict=True))
    ]
    ball = sum(offset.astype(float) ** 2 for offset in offsets) <= radius**2
    noisy[box][ball & (labels[box] == old)] = new


def shift(labels: Labels, share: float, rng: np.random.Generator) -> Labels:
    """Shift the outer border by a smooth random field until about ``share`` of its voxels have another label.

    In some places structures grow, and what they gain has the nearest one's label; in others they shrink.

    Args:
        labels: label map of 2 or 3 dimensions.
        share: 0 to `MOST_SHIFTED`, of the outer border's voxels: half of them lie where it moves away from them.
        rng: every random number comes from it.
    """
    if not labels.any() or labels.all():
        return labels.copy()
    field = border_field(labels, rng)
    needed = np.sort(field.flips_at[borders(labels > 0)])
    wanted = round(share * len(needed))
    return field.shifted(float(needed[wanted - 1])) if wanted else labels.copy()
