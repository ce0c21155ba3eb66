"""A folder with a DICOM series as one image; a tilted gantry and uneven slices are straightened, and that is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.straightening import Stack, problems, straightened

RESAMPLED = "NoisyLabelSeg_resampled"
"""Key of an image's metadata: the sentence that says how the series was resampled."""
MODALITY, CONTRAST_AGENT = "0008|0060", "0018|0010"
"""Keys of what is kept of the slices' headers."""

_POSITION, _ORIENTATION = "0020|0032", "0020|0037"
_LOAD_IN_SLICER = (
    "load the series in 3D Slicer's DICOM module with acquisition geometry regularization, "
    "harden the volume's transform and save it as .nrrd"
)


def read_series(folder: Path) -> sitk.Image:
    """Read a series, with `RESAMPLED`, `MODALITY` and `CONTRAST_AGENT` in its metadata where there is such.

    Raises:
        InputError: there is no series or several of one size, or slices that belong on no common grid.
        RuntimeError: a file cannot be read.
    """
    files = largest_series(folder)
    if len(files) == 1:
        return sitk.ReadImage(files[0])
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(files)
    reader.MetaDataDictionaryArrayUpdateOn()
    image = reader.Execute()
    if image.GetNumberOfComponentsPerPixel() == 1:
        image = _on_a_plain_grid(image, _stack_of(image, reader, folder), folder)
    for key in (MODALITY, CONTRAST_AGENT):
        if reader.HasMetaDataKey(0, key):
            image.SetMetaData(key, reader.GetMetaData(0, key).strip())
    return image


def resampling_note(image: sitk.Image) -> str:
    """The sentence that says how `read_series` has resampled an image; empty when it has not."""
    return str(image.GetMetaData(RESAMPLED)) if image.HasMetaDataKey(RESAMPLED) else ""


def largest_series(folder: Path) -> tuple[str, ...]:
    """The files, in order, of the image series with the most of them: the one that `read_series` reads.

    Raises:
        InputError: there is no series, or several of one size.
    """
    series: dict[str, tuple[str, ...]] = {}
    for uid in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)):
        files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid)
        header = sitk.ImageFileReader()
        header.SetFileName(files[0])
        header.ReadImageInformation()
        if not (header.HasMetaDataKey(MODALITY) and header.GetMetaData(MODALITY).strip() == "SEG"):
            series[uid] = files
    if not series:
        raise InputError(f"{folder} holds no DICOM images: give the folder that directly contains the slices.")
    most = max(map(len, series.values()))
    largest = [uid for uid, files in series.items() if len(files) == most]
    if len(largest) > 1:
        raise InputError(
            f"{folder} holds {len(largest)} DICOM series of {most} files each ({', '.join(largest)}): "
            "put the one to use in a folder of its own."
        )
    return series[largest[0]]


def _stack_of(image: sitk.Image, reader: sitk.ImageSeriesReader, folder: Path) -> Stack:
    """InputError unless the slices are parallel and each has a place of its own."""
    count = image.GetSize()[2]
    positions = _numbers(reader, count, _POSITION, 3, folder)
    orientations = _numbers(reader, count, _ORIENTATION, 6, folder)
    if np.abs(orientations - orientations[0]).max() > 1e-3:
        raise InputError(f"{folder} mixes slices of different orientation: keep one orientation per folder.")
    axes = orientations[0].reshape(2, 3) / np.linalg.norm(orientations[0].reshape(2, 3), axis=1, keepdims=True)
    stack = Stack(sitk.GetArrayViewFromImage(image), np.array(image.GetSpacing()[:2]), positions, axes)
    if stack.steps.min() < 1e-3:
        raise InputError(f"{folder} has several slices at one position: keep one time point or phase per folder.")
    return stack


def _numbers(reader: sitk.ImageSeriesReader, count: int, tag: str, length: int, folder: Path) -> np.ndarray:
    """One row of numbers a slice: (count, length)."""
    try:
        return np.array([reader.GetMetaData(i, tag).split("\\") for i in range(count)], float).reshape(count, length)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{folder} has DICOM slices without position or orientation: {_LOAD_IN_SLICER}.") from error


def _on_a_plain_grid(image: sitk.Image, stack: Stack, folder: Path) -> sitk.Image:
    if not problems(stack):
        return image
    straight, sentence = straightened(stack, str(folder))
    straight.SetMetaData(RESAMPLED, sentence)
    return straight
