"""Non-expert masks made from expert ones.

Perspective warps are the thesis's way (section 3.4.1, SegRap2023: mean DSC 60.6 %); erosion and dilation, blobs at the
border and missed slices are what hurried people do. All work on label maps of 2 or 3 dimensions; every random number
comes from the generator given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Labels = NDArray[np.uint8]


@dataclass(frozen=True)
class CoarseSettings:
    """How strongly an expert mask is damaged.

    Attributes:
        warp: standard deviation of the projective matrix's entries, relative to the mask's own size.
        grow: largest radius in voxels by which the mask is eroded or dilated (uniform in -grow ... grow).
        blobs: amplitude in voxels of a smooth random shift of the border.
        drop: probability that a slice along the first axis is missed (3D only).
    """

    warp: float = 0.15
    grow: int = 0
    blobs: float = 0.0
    drop: float = 0.0


def simulate(labels: Labels, settings: CoarseSettings, rng: np.random.Generator) -> Labels:
    """Make a coarse label map from an expert's; an empty one stays empty."""
    coarse = labels.astype(np.uint8)
    if not coarse.any():
        return coarse
    if settings.warp > 0:
        coarse = perspective_warp(coarse, settings.warp, rng)
    if settings.grow > 0:
        coarse = grow(coarse, int(rng.integers(-settings.grow, settings.grow + 1)))
    if settings.blobs > 0:
        coarse = blobs(coarse, settings.blobs, rng)
    if settings.drop > 0 and coarse.ndim == 3:
        coarse = drop_slices(coarse, settings.drop, rng)
    return coarse


def perspective_warp(labels: Labels, strength: float, rng: np.random.Generator) -> Labels:
    """Warp by a random projective map about the mask's centre, in units of the mask's half extents."""
    points = np.argwhere(labels)
    if len(points) == 0:
        return labels
    low, high = points.min(axis=0), points.max(axis=0)
    centre, radius = (low + high) / 2, np.maximum((high - low + 1) / 2, 1)
    dimensions = labels.ndim
    matrix = np.eye(dimensions) + rng.normal(0, strength, (dimensions, dimensions))
    shift = rng.normal(0, strength, dimensions)
    tilt = rng.normal(0, strength / 2, dimensions)
    grid = np.indices(labels.shape, dtype=np.float32).reshape(dimensions, -1)
    unit = (grid - centre[:, None]) / radius[:, None]
    # The denominator is bounded away from zero, where a projective map would fold space over.
    scale = np.clip(1 + tilt @ unit, 0.4, 2.5)
    source = ((matrix @ unit + shift[:, None]) / scale) * radius[:, None] + centre[:, None]
    return ndimage.map_coordinates(labels, source, order=0, mode="constant").reshape(labels.shape)


def grow(labels: Labels, radius: int) -> Labels:
    """Dilate (positive radius) or erode (negative) the foreground; what is added has its nearest label."""
    if radius == 0:
        return labels
    foreground = labels > 0
    if radius < 0:
        eroded = ndimage.binary_erosion(foreground, iterations=-radius)
        return np.where(eroded, labels, 0).astype(np.uint8)
    distance, nearest = ndimage.distance_transform_edt(~foreground, return_indices=True)
    return np.where(distance <= radius, labels[tuple(nearest)], 0).astype(np.uint8)


def blobs(labels: Labels, amplitude: float, rng: np.random.Generator) -> Labels:
    """Shift the border by a smooth random field of about ``amplitude`` voxels: blobs are added here, missed there."""
    return border_field(labels, rng).shifted(amplitude)


@dataclass(frozen=True)
class BorderField:
    """A smooth random field about a label map's outer border.

    Attributes:
        labels: of each voxel, its own or, in the background, the nearest structure's.
        signed: distance to the border, voxels, negative inside.
        noise: the field, of standard deviation 1.
    """

    labels: Labels
    signed: NDArray[np.float64]
    noise: NDArray[np.float64]

    def shifted(self, amplitude: float) -> Labels:
        """The label map whose border is shifted by the field, ``amplitude`` voxels where that is 1."""
        return np.where(self.signed < amplitude * self.noise, self.labels, 0).astype(np.uint8)

    @property
    def flips_at(self) -> NDArray[np.float64]:
        """The amplitude from which on a voxel is on the border's other side; infinity where it never is."""
        towards = self.signed * self.noise > 0
        return np.where(towards, np.nextafter(self.signed / np.where(towards, self.noise, 1), np.inf), np.inf)


def border_field(labels: Labels, rng: np.random.Generator) -> BorderField:
    """Make one."""
    foreground = labels > 0
    outside, nearest = ndimage.distance_transform_edt(~foreground, return_indices=True)
    signed = outside - ndimage.distance_transform_edt(foreground)
    noise = ndimage.gaussian_filter(rng.normal(size=labels.shape), sigma=3)
    return BorderField(labels[tuple(nearest)], signed, noise / (noise.std() + 1e-8))


def drop_slices(labels: Labels, probability: float, rng: np.random.Generator) -> Labels:
    """Miss whole slices along the first axis."""
    missed = rng.random(labels.shape[0]) < probability
    coarse = labels.copy()
    coarse[missed] = 0
    return coarse


def mean_dice(labels: Labels, coarse: Labels) -> float:
    """Mean Dice over the foreground labels that either map holds."""
    scores = []
    for value in range(1, int(max(labels.max(), coarse.max())) + 1):
        a, b = labels == value, coarse == value
        if a.any() or b.any():
            scores.append(2 * float((a & b).sum()) / float(a.sum() + b.sum()))
    return float(np.mean(scores)) if scores else 1.0


def calibrate_warp(expert: Sequence[Labels], target: float, seed: int = 0, steps: int = 12) -> float:
    """Find by bisection the warp strength whose mean DSC over ``expert`` is ``target``."""
    low, high = 0.0, 1.0
    for _ in range(steps):
        strength = (low + high) / 2
        settings = CoarseSettings(warp=strength)
        scores = [mean_dice(m, simulate(m, settings, np.random.default_rng((seed, i)))) for i, m in enumerate(expert)]
        low, high = (strength, high) if np.mean(scores) > target else (low, strength)
    return (low + high) / 2
