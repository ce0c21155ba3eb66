"""What a bundle records of how a network's input is made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from NoisyLabelSegLib.bundle.strict_json import convert
from NoisyLabelSegLib.errors import InputError


@dataclass(frozen=True)
class Intensity:
    """How intensities are brought to the network's range.

    Attributes:
        rule: "min-max" maps the region's minimum and maximum to 0 and 1; "z-score" subtracts the mean and divides by
            the standard deviation; "window" maps `low` ... `high` to 0 ... 1 and clips.
        scope: the region that is measured: each "slice" of the crop, or the whole crop ("case").
        low, high: the window, in the image's unit (HU for CT).
        mean, std: a training set's statistics for "z-score", used instead of measuring (the paper's way).
    """

    rule: Literal["min-max", "z-score", "window"] = "z-score"
    scope: Literal["slice", "case"] = "case"
    low: float | None = None
    high: float | None = None
    mean: float | None = None
    std: float | None = None

    def __post_init__(self) -> None:
        if self.rule not in ("min-max", "z-score", "window") or self.scope not in ("slice", "case"):
            raise InputError(f"There is no intensity rule '{self.rule}' over a '{self.scope}'.")
        given = [value for value in (self.low, self.high, self.mean, self.std) if value is not None]
        if not all(isinstance(value, (int, float)) and math.isfinite(value) for value in given):
            raise InputError("The intensity rule's low, high, mean and std must be finite numbers.")
        if self.rule == "window" and (self.low is None or self.high is None or not self.low < self.high):
            raise InputError("The intensity rule 'window' needs low < high.")
        if (self.mean is None) != (self.std is None) or (self.std is not None and self.std <= 0):
            raise InputError("The intensity rule 'z-score' takes mean and a positive std together.")

    def __call__(self, voxels: NDArray[Any]) -> NDArray[np.float32]:
        """Map an array (slices first) of any numeric type; a constant region becomes zeros."""
        voxels = voxels.astype(np.float32)
        if self.rule == "window":
            assert self.low is not None and self.high is not None
            return np.clip((voxels - self.low) / (self.high - self.low), 0, 1)
        axes = tuple(range(1, voxels.ndim)) if self.scope == "slice" else tuple(range(voxels.ndim))
        if self.rule == "min-max":
            shift = voxels.min(axis=axes, keepdims=True)
            scale = voxels.max(axis=axes, keepdims=True) - shift
        elif self.mean is not None and self.std is not None:
            return np.asarray((voxels - self.mean) / self.std, np.float32)
        else:
            shift, scale = voxels.mean(axis=axes, keepdims=True), voxels.std(axis=axes, keepdims=True)
        # The mean of equal values may be rounded: their standard deviation is then not quite zero.
        constant = voxels.min(axis=axes, keepdims=True) == voxels.max(axis=axes, keepdims=True)
        return np.where(constant, np.float32(0), (voxels - shift) / np.where(constant, np.float32(1), scale))


@dataclass(frozen=True)
class Preprocessing:
    """A model's preprocessing, as its bundle records it.

    Attributes:
        dimensions: 2 for a slice-wise network, 3 for a volumetric one.
        window: smallest crop in working voxels: (rows, columns) in 2D, (slices, rows, columns) in 3D.
        margin: working voxels kept around the mask on each side; across the slices of a 2D model a quarter of it
            (``margin // 4``) of the image's own slices.
        spacing: working spacing in mm along the axes of `window`; empty keeps the image's own.
        multiple: crop sizes are rounded up to this, unless windows slide.
        intensity: the rule of the image, see `Intensity`.
        channels: of an image of several channels the rules of the further ones; empty takes `intensity` for all.
        sliding: the network sees windows of exactly `window`, as in training, laid over the crop with overlap: its
            norms and borders are then those that it has learned from. False shows it the whole crop at once.
    """

    dimensions: Literal[2, 3]
    window: tuple[int, ...]
    margin: int = 8
    spacing: tuple[float, ...] = ()
    multiple: int = 16
    intensity: Intensity = field(default_factory=Intensity)
    sliding: bool = False
    channels: tuple[Intensity, ...] = ()

    def __post_init__(self) -> None:
        if self.dimensions not in (2, 3):
            raise InputError(f"Preprocessing has 2 or 3 dimensions, not {self.dimensions}.")
        if len(self.window) != self.dimensions or not all(1 <= size <= 1024 for size in self.window):
            raise InputError(f"The window {list(self.window)} does not fit {self.dimensions} dimensions.")
        if self.spacing and (len(self.spacing) != self.dimensions or not all(0.01 <= s <= 100 for s in self.spacing)):
            raise InputError(f"The spacing {list(self.spacing)} mm does not fit {self.dimensions} dimensions.")
        if not (0 <= self.margin <= 512 and 1 <= self.multiple <= 256):
            raise InputError(f"A margin of {self.margin} and sizes in multiples of {self.multiple} are out of range.")

    def intensities(self, count: int) -> tuple[Intensity, ...]:
        """The rule of each of an image's channels; an `InputError` when there are rules for another number."""
        rules = (self.intensity, *(self.channels or (self.intensity,) * (count - 1)))
        if len(rules) != count:
            raise InputError(f"The preprocessing has intensity rules for {len(rules)} channels, not for {count}.")
        return rules

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Preprocessing:
        """Read a bundle's mapping; an unknown, missing or wrong key is an `InputError`."""
        return convert(cls, dict(values), "The preprocessing")
