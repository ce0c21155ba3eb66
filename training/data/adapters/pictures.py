"""What the adapters of photographs share: each colour becomes a channel, a picture a slice of 1 mm pixels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import write_image
from training.data.adapters.files import require, write_labels
from training.data.cases import Case, Split

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif")
LARGEST = 512
"""Larger pictures are halved until they are not."""


@dataclass(frozen=True)
class Picture:
    """A picture's files, its part of the data set and, where pictures have one, the patient."""

    id: str
    image: Path
    mask: Path
    split: Split
    patient: str = ""


def adapt_pictures(name: str, pictures: Iterable[Picture], target: Path) -> tuple[Case, ...]:
    """Write channels and lesions of all pictures.

    Raises:
        InputError: no pictures, a file that is missing, or a mask of another size than its picture.
    """
    cases = tuple(_case(picture, target) for picture in pictures)
    if not cases:
        raise InputError(f"There are no pictures of {name} here: is this the data set's folder?")
    return cases


def pictures_of(folder: Path) -> list[Path]:
    """The pictures of a folder, sorted by name; none of one that is not there."""
    return sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES)


def same_name(folder: Path, name: str) -> Path:
    """The picture of a name in a folder, of whatever format; an `InputError` when there is none."""
    found = [path for suffix in SUFFIXES if (path := folder / f"{name}{suffix}").is_file()]
    return found[0] if found else require(folder / f"{name}.png")


def _case(picture: Picture, target: Path) -> Case:
    image, mask = sitk.ReadImage(str(picture.image)), sitk.ReadImage(str(picture.mask))
    if image.GetSize()[:2] != mask.GetSize()[:2]:
        raise InputError(f"'{picture.mask}' is not as large as '{picture.image}': is it of the same picture?")
    paths = []
    for number in range(image.GetNumberOfComponentsPerPixel()):
        path = target / "imagesTr" / f"{picture.id}_{number:04}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, _volume(_component(image, number)))
        paths.append(path)
    lesion = _volume(sitk.Cast(_drawn(_component(mask, 0)), sitk.sitkFloat32))
    labels = (sitk.GetArrayFromImage(lesion) >= 0.5).astype(np.uint8)
    label = write_labels(target / "labelsTr" / f"{picture.id}.nii.gz", labels, lesion)
    patient = picture.patient or picture.id
    return Case(picture.id, paths[0], label, patient=patient, split=picture.split, channels=tuple(paths[1:]))


def _component(image: sitk.Image, number: int) -> sitk.Image:
    several = image.GetNumberOfComponentsPerPixel() > 1
    return sitk.VectorIndexSelectionCast(image, number) if several else image


def _drawn(mask: sitk.Image) -> sitk.Image:
    """Where a mask is nearer to its largest value than to 0: that is 1 or 255, and JPEG leaves others between them."""
    largest = float(sitk.GetArrayViewFromImage(mask).max())
    return mask > max(largest / 2, 0.5)


def _volume(image: sitk.Image) -> sitk.Image:
    """A picture as a volume of one slice; a large one is halved by means of four pixels."""
    while max(image.GetSize()) > LARGEST:
        image = sitk.BinShrink(image, [2, 2])
    volume: sitk.Image = sitk.JoinSeries(sitk.GetImageFromArray(sitk.GetArrayFromImage(image)))
    return volume
