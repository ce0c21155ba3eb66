"""What is looked at before a prediction: unusable input is refused in one sentence, odd input is remarked on."""

from __future__ import annotations

from math import isfinite

import SimpleITK as sitk

from NoisyLabelSegLib.bundle import ModelDescription
from NoisyLabelSegLib.dicom_series import MODALITY
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.images import overlap_fraction, require_finite, resample_to, same_grid
from NoisyLabelSegLib.part import Part
from NoisyLabelSegLib.regions import Box, is_empty
from NoisyLabelSegLib.segmentations import Segmentation

KINDS = {
    "refine": "refines a given mask: use 'noisylabelseg refine'",
    "uncertainty": "maps the uncertainty of a segmentation: use 'noisylabelseg uncertainty'",
    "segment": "segments without a mask: use 'noisylabelseg segment'",
}
MODALITIES = {"CT": "CT", "PT": "PET", "MR": "MR"}
"""What DICOM calls them, and what a model does."""
EMPTY_MASK = "The mask is empty: draw something first, or ask for a start from nothing."
_OPPOSITE = dict(zip("LRAPSI", "RLPAIS", strict=True))


def require_kind(description: ModelDescription, kind: str) -> None:
    """Refuse a model that was made for something else, and say what it is for."""
    if description.kind != kind:
        raise InputError(f"The model '{description.name}' does not fit here, it {KINDS[description.kind]}.")


def check_part(part: Part, description: ModelDescription) -> list[str]:
    """Refuse NaN, infinite and constant images, and another number of them than the model takes.

    Returns:
        Remarks on values and on a modality that the model was not made for.
    """
    low, high = part.value_range
    given, wanted = 1 + len(part.channels), description.channels
    if given != wanted:
        raise InputError(
            f"The model '{description.name}' takes {wanted} channels of an image, but {given} came: give "
            f"{'the further ones in its order by --channel' if wanted > given else 'no more than it takes'}."
        )
    names = ["The image", *(f"Channel {number} of the image" for number in range(2, given + 1))]
    for name, region in zip(names, (part.voxels, *part.channels), strict=True):
        require_finite(region.values, name, [side.start for side in region.box])
    if not (isfinite(low) and isfinite(high)):
        raise InputError("The image has voxels that are not a number or infinite: replace them before use.")
    if low == high:
        raise InputError(
            "The image has the same value everywhere: there is nothing to see in it; choose another image."
        )
    further = [(float(region.values.min()), float(region.values.max())) for region in part.channels]
    return [*_modality_remark(part, description), *description.remarks_on_channels([(low, high), *further])]


def _modality_remark(part: Part, description: ModelDescription) -> list[str]:
    found = MODALITIES.get(part.header.get(MODALITY, "").strip())
    if found is None or found in description.modality:
        return []
    return [f"By its header the image is a {found}, but {description.name} was made for {description.modality}."]


def on_grid(
    segmentation: Segmentation, image: sitk.Image, *, empty_allowed: bool = False
) -> tuple[Segmentation, list[str]]:
    """The given segmentation on the image's grid, with a remark when it had to be resampled.

    Raises:
        InputError: when mask and image do not overlap in space, or, on another grid, the mask is empty and must not be.
    """
    if same_grid(segmentation.image, image):
        return segmentation, []
    if not sitk.GetArrayViewFromImage(segmentation.image).any():
        if not empty_allowed:
            raise InputError(EMPTY_MASK)
        return Segmentation(resample_to(segmentation.image, image, "nearest"), segmentation.segments), []
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


def mask_remarks(box: Box, grid: Grid, name: str) -> list[str]:
    """Remark on a mask that touches the image's border, where its structure may go on unseen, and say on which sides.

    The sides are the patient's: L(eft), R(ight), A(nterior), P(osterior), S(uperior), I(nferior).
    """
    if is_empty(box):
        return []
    ends = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(grid.direction)
    touched = [
        letter
        for side, size, end in zip(box[::-1], grid.size, ends, strict=True)
        for letter, touches in ((_OPPOSITE[end], side.start == 0), (end, side.stop == size))
        if touches and size > 1
    ]
    if not touched:
        return []
    return [
        f"The mask of '{name}' touches the image's border ({', '.join(touched)}): the structure may go on beyond it."
    ]
