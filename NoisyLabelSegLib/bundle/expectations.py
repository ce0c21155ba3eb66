"""What a model expects of an image, and the sentences about one that is unlike it: warnings, never a refusal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from NoisyLabelSegLib.errors import InputError

AIR = -300.0
"""In HU, air and lung are below it."""


def require(condition: bool, message: str) -> None:
    """Raise InputError with the message unless the condition holds."""
    if not condition:
        raise InputError(message)


@dataclass(frozen=True)
class ExpectedIntensity:
    """One kind of image values that the model was made for, for a warning about another modality; None: no bound.

    Attributes:
        minimum, maximum: all values lie between them.
        description: such as "CT in Hounsfield units"; ``unit`` such as "HU", or empty.
        lowest_below: the image's smallest value lies below it, such as air in CT.
    """

    minimum: float | None
    maximum: float | None
    description: str
    unit: str
    lowest_below: float | None = None

    def __post_init__(self) -> None:
        known = self.minimum is not None and self.maximum is not None
        require(not known or self.minimum < self.maximum, "minimum must be below maximum.")  # type: ignore[operator]

    def fits(self, low: float, high: float) -> bool:
        """Whether an image whose values run from ``low`` to ``high`` is of this kind."""
        above = self.minimum is None or low >= self.minimum
        below = self.maximum is None or high <= self.maximum
        return above and below and (self.lowest_below is None or low < self.lowest_below)

    def __str__(self) -> str:
        bounds = " to ".join("any" if bound is None else f"{bound:g}" for bound in (self.minimum, self.maximum))
        unit = f" {self.unit}" if self.unit else ""
        lowest = "" if self.lowest_below is None else f", the lowest below {self.lowest_below:g}"
        return f"{self.description} ({bounds}{unit}{lowest})"


@dataclass(frozen=True)
class ExpectedAcquisition:
    """How the images that a model was made for were acquired, for warnings; whatever is left out is not expected.

    Attributes:
        contrast_agent: "none" when images with one are unlike those it was made for.
        extent_mm: least and largest length, from head to foot, of what the model looks at: the region of interest with
            its margin, or the image.
        cross_section_cm2: least and largest area of the body across that direction.
    """

    contrast_agent: Literal["none", "any"] = "any"
    extent_mm: tuple[float, float] | None = None
    cross_section_cm2: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for key in ("extent_mm", "cross_section_cm2"):
            low, high = getattr(self, key) or (0, 1)
            require(0 <= low < high, f"{key} must be a least and a larger, largest number, not {low:g} and {high:g}.")

    def __str__(self) -> str:
        parts = ["no contrast agent"] if self.contrast_agent == "none" else []
        if self.extent_mm:
            parts.append(f"{self.extent_mm[0]:g} to {self.extent_mm[1]:g} mm from head to foot")
        if self.cross_section_cm2:
            parts.append(f"a cross-section of {self.cross_section_cm2[0]:g} to {self.cross_section_cm2[1]:g} cm²")
        return ", ".join(parts) or "any"


EVERYTHING = ExpectedAcquisition()


def remark_on_image(kinds: Sequence[ExpectedIntensity], low: float, high: float, name: str, modality: str) -> str:
    """What is to be said about an image whose values run from ``low`` to ``high``; empty when they are as expected.

    Only the first expected kind of values is beyond doubt: the others are conversions that lost their unit.

    Args:
        kinds: what the model was made for.
        low, high: the image's values.
        name, modality: the model's.
    """
    fitting = [kind for kind in kinds if kind.fits(low, high)]
    if not kinds or kinds[0] in fitting:
        return ""
    if fitting:
        return f"Taken for {fitting[0].description}: it cannot be checked that this is {modality}."
    return (
        f"The image's values run from {low:g} to {high:g}, but {name} was made for {' or '.join(map(str, kinds))}: "
        f"is this {modality}?{_guess(kinds, low)} The result may be wrong."
    )


def remark_on_channel(number: int, kind: ExpectedIntensity, low: float, high: float, name: str) -> str:
    """The same about a further channel, the second or a later one."""
    if kind.fits(low, high):
        return ""
    return (
        f"The values of channel {number} run from {low:g} to {high:g}, but {name} was made for {kind} there."
        f"{_guess([kind], low)} The result may be wrong."
    )


def remark_on_order(kinds: Sequence[ExpectedIntensity], ranges: Sequence[tuple[float, float]], name: str) -> str:
    """That two channels look swapped: each has the values that are expected of the other, and not both have their own.

    Args:
        kinds: of each channel, in the model's order.
        ranges: lowest and highest value of each channel as given.
        name: the model's.
    """
    if len(kinds) != len(ranges):
        return ""
    for a, b in combinations(range(len(kinds)), 2):
        crossed = kinds[a].fits(*ranges[b]) and kinds[b].fits(*ranges[a])
        if crossed and not (kinds[a].fits(*ranges[a]) and kinds[b].fits(*ranges[b])):
            return (
                f"The channels {a + 1} and {b + 1} look swapped: {name} takes {kinds[a].description} as channel "
                f"{a + 1} and {kinds[b].description} as channel {b + 1}; give them in that order."
            )
    return ""


def _guess(kinds: Sequence[ExpectedIntensity], low: float) -> str:
    """What the lowest value gives away."""
    if all(kind.unit != "HU" for kind in kinds):
        return " Values so far below zero are those of a CT in Hounsfield units." if low < AIR else ""
    if low < 0:
        return ""
    return " A CT has negative values: this may be a PET or an MR, or a CT without its rescale intercept."
