"""What is looked at before a prediction: unusable input is refused in one sentence, odd input is remarked on."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from NoisyLabelSegLib.bundle import ModelDescription
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import is_constant, overlap_fraction, require_finite, resample_to, same_grid
from NoisyLabelSegLib.segmentations import Segmentation


def check_image(image: sitk.Image, description: ModelDescription) -> list[str]:
    """Refuse NaN, infinite and constant images; remark on values that the model was not made for."""
    require_finite(image, "The image")
    if is_constant(image):
        raise InputError(
            "The image has the same value everywhere: there is nothing to see in it; choose another image."
        )
    expected = description.expected_intensity
    voxels = sitk.GetArrayViewFromImage(image)
    low, high = float(voxels.min()), float(voxels.max())
    below = expected.minimum is not None and low < expected.minimum
    above = expected.maximum is not None and high > expected.maximum
    if not (below or above):
        return []
    wanted = " to ".join("any" if v is None else f"{v:g}" for v in (expected.minimum, expected.maximum))
    unit = f" {expected.unit}" if expected.unit else ""
    return [
        f"The image's values run from {low:g} to {high:g}, but {description.name} was made for {wanted}{unit} "
        f"({expected.description}): is this {description.modality}? The result may be wrong."
    ]


def on_grid(segmentation: Segmentation, image: sitk.Image) -> tuple[Segmentation, list[str]]:
    """The given segmentation on the image's grid, with a remark when it had to be resampled.

    Raises:
        InputError: when mask and image do not overlap in space.
    """
    if same_grid(segmentation.image, image):
        return segmentation, []
    inside = overlap_fraction(segmentation.image, image)
    if inside == 0:
        raise InputError(
            "The mask lies outside of the image: they do not overlap in space. Are they of the same patient and scan?"
        )
    note = "The mask was on another grid than the image and was resampled to it (nearest neighbour)."
    if inside < 0.999:
        note += f" {100 * (1 - inside):.0f} % of it lies outside of the image and is not in the result."
    resampled = resample_to(segmentation.image, image, "nearest")
    return Segmentation(resampled, segmentation.segments), [note]


def mask_remarks(mask: np.ndarray, name: str) -> list[str]:
    """Remark on a mask that touches the image's border, where its structure may go on unseen."""
    planes = [np.take(mask, index, axis) for axis in range(mask.ndim) if mask.shape[axis] > 1 for index in (0, -1)]
    if any(plane.any() for plane in planes):
        return [f"The mask of '{name}' touches the image's border: the structure may go on beyond it."]
    return []
