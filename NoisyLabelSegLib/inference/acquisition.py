"""Whether an image was acquired as a model expects it: contrast agent, extent along the body, size of the body.

Remarks only: a radiologist decides. All is measured on a grid of 2 to 3 mm.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from NoisyLabelSegLib.bundle import ModelDescription
from NoisyLabelSegLib.bundle.expectations import AIR
from NoisyLabelSegLib.dicom_series import CONTRAST_AGENT
from NoisyLabelSegLib.part import Part
from NoisyLabelSegLib.regions import Box, Region, is_empty

COARSE = 2.5  # mm.
BLOOD = (130.0, 450.0)  # HU of enhanced blood: unenhanced it is 30 to 70, and clotted below 100.
SOFT = (0.0, 100.0)  # HU of what shows the image's noise.
EVENNESS = 1.5  # Times the noise.
NOISIEST = 16.0  # HU: in more noise, spongy bone is as even as anything.
LEAST_CM3 = 2.0
_NO_AGENT = ("", "NO", "NONE", "N")


def acquisition_remarks(part: Part, seen: Box, description: ModelDescription) -> list[str]:
    """What is unlike the acquisition that a model expects, a sentence each.

    Args:
        part: of the image. For a contrast agent all voxels at hand are looked at, since a large vessel beside a small
            region of interest says as much.
        seen: what the model sees of the image: the region of interest with its margin, or all of it. Only where it is
            not cut off at the sides is the body's cross-section measured.
        description: the model's.
    """
    expected = description.expected_acquisition
    return [
        *(_contrast_remark(part, description) if expected.contrast_agent == "none" else []),
        *(_extent_remark(part, seen, description, *expected.extent_mm) if expected.extent_mm else []),
        *(_section_remark(part, seen, description, *expected.cross_section_cm2) if expected.cross_section_cm2 else []),
    ]


def _extent_remark(part: Part, seen: Box, description: ModelDescription, low: float, high: float) -> list[str]:
    axis = _body_axis(part)
    extent = _length(seen[axis]) * part.grid.spacing[::-1][axis]
    if low <= extent <= high:
        return []
    advice = "draw a region of interest or crop the image" if extent > high else "give more of the body"
    return [
        f"What is looked at is {extent:.0f} mm long from head to foot, but {description.name} was made for {low:g} to "
        f"{high:g} mm: {advice}."
    ]


def _section_remark(part: Part, seen: Box, description: ModelDescription, low: float, high: float) -> list[str]:
    if not _whole_sections(part, seen):
        return []
    area = cross_section_cm2(part, seen, hounsfield=description.is_in_hounsfield_units(*part.value_range))
    if low <= area <= high:
        return []
    return [
        f"The body's cross-section is about {area:.0f} cm², but {description.name} was made for {low:g} to {high:g} "
        f"cm²: is this the {description.anatomy}? The result may be wrong."
    ]


def _contrast_remark(part: Part, description: ModelDescription) -> list[str]:
    expectation = f"but {description.name} was made for images without a contrast agent: use the non-contrast series"
    if description.is_in_hounsfield_units(*part.value_range):
        volume, mean = enhanced_blood(part)
        if volume >= LEAST_CM3:
            return [
                f"The image looks contrast-enhanced ({volume:.0f} cm³ of evenly {mean:.0f} HU, as enhanced blood or "
                f"filled bowel has), {expectation}."
            ]
    if part.header.get(CONTRAST_AGENT, "").strip().upper() not in _NO_AGENT:
        return [f"The image's header names a contrast agent, {expectation}, if there is one."]
    return []


def enhanced_blood(part: Part) -> tuple[float, float]:
    """The volume in cm³ and the mean in HU of the largest object that looks like enhanced blood or filled bowel.

    The rule: cubes of 3 voxels (of 2 to 3 mm, or the image's own where they are larger) whose values all lie in 130 to
    450 HU and have a standard deviation of at most 1.5 times the noise, which is the 20th percentile of that deviation
    where the mean is 0 to 100 HU. Cubes that touch are one object. Spongy bone has such values, too, but is uneven.

    Measured, on the few scans by which the bounds were chosen, so that others may do worse: two patients without an
    agent (a head, a trunk at 3 mm) and phantoms had 0, with added noise at most 0.7 cm³; two with one (a chest, an
    upper abdomen) 13 to 140 cm³. Of vessels put into the trunk and the head, those of 16 mm and more were found from
    150 HU, in the trunk those of 10 mm from 180 HU.
    Missed: smaller vessels, less than 130 HU (late phases) or more than 450 HU, less than about 8 mm of slices, and
    noise above 16 HU, in which bone would look even. May be taken for it: other evenly dense things such as silicone,
    cement or a thyroid of much iodine. Where there is none, or nothing that shows the noise, both are 0.

    Args:
        part: of an image in HU.
    """
    coarse = _coarse(part.voxels, part)
    values = sitk.GetArrayFromImage(coarse)
    mean = ndimage.uniform_filter(values, 3)
    deviation = np.sqrt(np.maximum(ndimage.uniform_filter(values * values, 3) - mean * mean, 0))
    soft = deviation[(mean > SOFT[0]) & (mean < SOFT[1])]
    noise = float(np.percentile(soft, 20)) if soft.size else np.inf
    if noise > NOISIEST:
        return 0.0, 0.0
    in_range = (values > BLOOD[0]) & (values < BLOOD[1])
    cores = ndimage.binary_erosion(in_range, np.ones((3, 3, 3)))
    cores &= deviation <= EVENNESS * noise
    labels, count = ndimage.label(ndimage.binary_dilation(cores, np.ones((3, 3, 3))))
    if not count:
        return 0.0, 0.0
    sizes = np.bincount(labels.ravel())[1:]
    largest = labels == 1 + sizes.argmax()
    return float(sizes.max() * np.prod(coarse.GetSpacing()) / 1000), float(values[largest].mean())


def cross_section_cm2(part: Part, box: Box, *, hounsfield: bool) -> float:
    """The area of the body across its long axis, the median over the slices of a box, in cm².

    In each slice the body is the largest object, its holes filled, of what is denser than air: in Hounsfield units
    above -300, otherwise above Otsu's threshold in the square root of the values up to their 99th percentile.
    """
    coarse, axis = _coarse(Region(box, part.voxels.cut(box)), part), _body_axis(part)
    values = np.moveaxis(sitk.GetArrayFromImage(coarse), axis, 0)
    areas = [_largest_area(section) for section in (values > AIR if hounsfield else _foreground(values))]
    sides = np.delete(coarse.GetSpacing()[::-1], axis)
    return float(np.median(areas) * np.prod(sides) / 100)


def _foreground(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    root = np.sqrt(np.minimum(values, np.percentile(values, 99)) - values.min())
    return sitk.GetArrayFromImage(sitk.OtsuThreshold(sitk.GetImageFromArray(root), 0, 1)) > 0


def _largest_area(section: NDArray[np.bool_]) -> int:
    labels, count = ndimage.label(section)
    if not count:
        return 0
    return int(ndimage.binary_fill_holes(labels == 1 + np.bincount(labels.ravel())[1:].argmax()).sum())


def _coarse(region: Region, part: Part) -> sitk.Image:
    """A region as float32, the mean of as many voxels along each axis as make 2 to 3 mm."""
    factors = [max(1, round(COARSE / spacing)) for spacing in part.grid.spacing]
    factors = [min(factor, n) for factor, n in zip(factors, region.values.shape[::-1], strict=True)]
    image = part.grid.crop(region.box).image(region.values)
    return sitk.Cast(sitk.BinShrink(image, factors), sitk.sitkFloat32)


def _body_axis(part: Part) -> int:
    """The array axis that is closest to head-foot."""
    return 2 - int(np.abs(np.reshape(part.grid.direction, (3, 3))[2]).argmax())


def _length(side: slice) -> int:
    return side.stop - side.start


def _whole_sections(part: Part, seen: Box) -> bool:
    axis = _body_axis(part)
    sides = enumerate(zip(seen, part.grid.size[::-1], strict=True))
    return not is_empty(seen) and all(_length(side) == size for number, (side, size) in sides if number != axis)
