"""Whether an image's values are those of its modality, and its unit: mix-ups that no training would notice.

CT: Hounsfield units. Beyond -1100 to 4000 are allowed padding (one value below, as -1024, -2000 or -3024 around the
field of view) and a few voxels of metal. PET: SUV. ADC: µm²/s (10⁻⁶ mm²/s); maps in mm²/s or 10⁻³ mm²/s are converted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import require_finite

Modality = Literal["CT", "PET", "ADC", "MR"]
LOWEST, HIGHEST = -1100, 4000  # HU.
METAL = 1e-3  # Of a CT's voxels, those that may lie above.
LARGEST_SUV = 200  # Of the 99.9th percentile; Bq/ml are thousands.
ADC_UNITS = {1.0: "10⁻⁶ mm²/s", 1e3: "10⁻³ mm²/s", 1e6: "mm²/s"}
LARGEST_ADC = (300.0, 10_000.0)  # Range of the 99th percentile of positive values, fluid: 3000 µm²/s.


def checked(image: sitk.Image, modality: Modality, what: str) -> sitk.Image:
    """The image itself, or in its modality's unit where it has another.

    Args:
        image: the image.
        modality: what it should be of.
        what: names the image in the sentence.

    Raises:
        InputError: values that are not a number, or that an image of this modality cannot have.
    """
    require_finite(image, what)
    return _CHECKS[modality](image, sitk.GetArrayViewFromImage(image), what)


def _ct(image: sitk.Image, values: NDArray[Any], what: str) -> sitk.Image:
    below = values < LOWEST
    if below.any() and np.mean(values[below] == values.min()) < 0.9:
        raise InputError(f"{what} has values down to {values.min():g}, which no CT has and which are not padding.")
    if np.mean(values > HIGHEST) > METAL:
        raise InputError(f"{what} has too many values above {HIGHEST} HU for a CT: are they in Hounsfield units?")
    if not (values[~below] < 0).any():
        raise InputError(
            f"{what} has no negative values and cannot be a CT in Hounsfield units: is it swapped with the strong "
            "image, or was the rescale intercept not applied?"
        )
    return image


def _pet(image: sitk.Image, values: NDArray[Any], what: str) -> sitk.Image:
    if values.min() < -100:
        raise InputError(f"{what} has values down to {values.min():g}, as a CT has: are PET and CT swapped?")
    if values.max() <= 0:
        raise InputError(f"{what} has no positive value: it is an empty PET.")
    if (large := np.percentile(values, 99.9)) > LARGEST_SUV:
        raise InputError(f"{what} reaches {large:.0f}, which is no SUV: convert it from Bq/ml first.")
    return image


def _adc(image: sitk.Image, values: NDArray[Any], what: str) -> sitk.Image:
    if values.min() < -500 and values.max() < 10 * HIGHEST and np.mean(values < -500) > 0.05:
        raise InputError(f"{what} has values down to {values.min():g}, as a CT has: are ADC and CT swapped?")
    positive = values[values > 0]
    high = float(np.percentile(positive, 99)) if positive.size else 0.0
    for factor, unit in ADC_UNITS.items():
        if LARGEST_ADC[0] <= factor * high <= LARGEST_ADC[1]:
            if factor == 1:
                return image
            print(f"warning: {what} is in {unit} and is converted to 10⁻⁶ mm²/s", file=sys.stderr)
            return sitk.Cast(image, sitk.sitkFloat32) * factor
    raise InputError(f"{what} reaches {high:g}, which is no ADC: 0 to 4000 in 10⁻⁶ mm²/s is expected.")


def _mr(image: sitk.Image, values: NDArray[Any], what: str) -> sitk.Image:
    if values.min() == values.max():
        raise InputError(f"{what} has the same value everywhere.")
    return image


_CHECKS: dict[Modality, Callable[[sitk.Image, NDArray[Any], str], sitk.Image]] = {
    "CT": _ct,
    "PET": _pet,
    "ADC": _adc,
    "MR": _mr,
}
