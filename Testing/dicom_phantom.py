"""DICOM slices of a ball, at any places and in any orientation, for the tests of reading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Array = NDArray[np.float64]
AIR, BALL = -1000, 200
CENTRE, RADIUS, PIXEL = np.array([4.0, -7.5, 31.0]), 20.0, (1.0, 0.8)  # LPS in mm; I, J


def places(heights: Array, tilt: float, turn: Array) -> tuple[Array, Array]:
    """Where slices begin, (K, 3), and the axes I and J, (2, 3), for a gantry tilted by so many degrees about I.

    Args:
        heights: of the slices along their normal, mm; the middle one of the series is about the ball's centre.
        tilt: the table moves so many degrees off the normal.
        turn: a rotation of everything about the ball's centre.
    """
    slope = np.tan(np.radians(tilt))
    local = np.column_stack([np.full_like(heights, -31), slope * heights - 27, heights])
    return local @ turn.T + CENTRE, turn[:, :2].T


def ball(positions: Array, axes: Array, shape: tuple[int, int] = (70, 64)) -> NDArray[np.int16]:
    """(K, J, I): the ball with an edge of a pixel, in air."""
    j, i = np.mgrid[: shape[0], : shape[1]][..., None]
    plane = i * PIXEL[0] * axes[0] + j * PIXEL[1] * axes[1]
    distance = np.linalg.norm(positions[:, None, None] + plane - CENTRE, axis=-1)
    return np.rint(AIR + (BALL - AIR) * np.clip(RADIUS - distance + 0.5, 0, 1)).astype(np.int16)


def write_slices(folder: Path, voxels: NDArray[np.int16], positions: Array, axes: Array, **tags: Any) -> Path:
    """Each slice in a file of its own, in no order of names; ``tags`` by DICOM keyword."""
    pydicom = pytest.importorskip("pydicom")
    folder.mkdir(parents=True)
    series = pydicom.uid.generate_uid()
    for number, (pixels, position) in enumerate(zip(voxels, positions, strict=True)):
        meta = pydicom.dataset.FileMetaDataset()
        meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
        meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        header: Any = pydicom.dataset.FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        header.SOPClassUID, header.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        header.SeriesInstanceUID = header.StudyInstanceUID = header.FrameOfReferenceUID = series
        header.Modality = "CT"
        header.ImagePositionPatient = [f"{value:.9g}" for value in position]
        header.ImageOrientationPatient = [f"{value:.9g}" for value in axes.ravel()]
        header.PixelSpacing, header.InstanceNumber = [PIXEL[1], PIXEL[0]], number + 1
        header.Rows, header.Columns = pixels.shape
        header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
        header.BitsAllocated = header.BitsStored = 16
        header.HighBit, header.PixelRepresentation = 15, 1
        header.RescaleSlope, header.RescaleIntercept = "1", "0"
        header.PixelData = pixels.tobytes()
        for key, value in tags.items():
            setattr(header, key, value)
        header.save_as(folder / f"{(7 * number) % len(voxels)}-{number}.dcm")
    return folder
