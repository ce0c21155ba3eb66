"""What the adapters share: finding published files and writing label maps beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import write_atomically


def published_images(source: Path, pattern: str = "*.nii.gz") -> list[Path]:
    """The images of ``source/imagesTr``, sorted; an `InputError` when there are none."""
    images = sorted((source / "imagesTr").glob(pattern))
    if not images:
        raise InputError(f"There are no '{pattern}' files in '{source / 'imagesTr'}': is this the data set's folder?")
    return images


def require(path: Path) -> Path:
    """The path, if the file is there."""
    if not path.is_file():
        raise InputError(f"The file '{path}' is missing from the data set.")
    return path


def write_labels(path: Path, labels: NDArray[np.uint8], like: sitk.Image) -> Path:
    """Write a label map on ``like``'s grid."""
    image = sitk.GetImageFromArray(labels)
    image.CopyInformation(like)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda temporary: sitk.WriteImage(image, str(temporary), useCompression=True))
    return path
