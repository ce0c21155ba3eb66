"""Images at the boundary: read, check, compare and resample `SimpleITK.Image`, and write files all-or-nothing.

Coordinates are SimpleITK's: indices are IJK, physical points are LPS in millimetres.
"""

from __future__ import annotations

import gzip
import os
import uuid
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from .dicom_series import read_series
from .errors import InputError
from .grid import Grid

SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd")


def read_image(path: str | Path) -> sitk.Image:
    """Read a 3D scalar image from a .nii, .nii.gz, .nrrd, .mha or .mhd file or from a folder with one DICOM series.

    A 2D image becomes a 3D image with one slice. Spacing, origin and direction are those of the file. Of a folder with
    several series the one with the most files is read. Slices of a tilted gantry or at uneven distances, which a
    `SimpleITK.Image` cannot express, are resampled: see `straightening`, and `dicom_series.resampling_note`, which says
    so. Series with missing slices are refused.

    Raises:
        InputError: missing, damaged or unsupported file; 4D, vector (RGB) or complex voxels; ambiguous series.
    """
    path = Path(path)
    image = _read_folder(path) if path.is_dir() else read_file(path)
    components = image.GetNumberOfComponentsPerPixel()
    if components > 1:
        raise InputError(
            f"{path} has {components} values per voxel (a colour or vector image): give an image with one value each."
        )
    return image


def read_file(path: Path) -> sitk.Image:
    """Read any real-valued 3D image file, with one or several components per voxel, as `read_image` does.

    Raises:
        InputError: missing, damaged or unsupported file, 4D image or complex voxels.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist: check the path.")
    if not path.name.lower().endswith(SUFFIXES):
        raise InputError(f"{path} is not of a supported type: give {', '.join(SUFFIXES)} or a folder of DICOM slices.")
    with _readable(path):
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        if path.name.lower().endswith((".nii", ".nii.gz")):
            _require_sound_nifti(path, reader)
        image = reader.Execute()
    return _as_real_3d(image, path)


def _read_folder(folder: Path) -> sitk.Image:
    with _readable(folder):
        return _as_real_3d(read_series(folder), folder)


def _as_real_3d(image: sitk.Image, path: Path) -> sitk.Image:
    """The image with exactly three axes: a missing third is added, a fourth of length one is dropped."""
    if "complex" in image.GetPixelIDTypeAsString():
        raise InputError(f"{path} has complex voxels: give the magnitude image.")
    if image.GetDimension() == 2:
        return with_metadata(sitk.JoinSeries(image), image)
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        return with_metadata(image[:, :, :, 0], image)
    if image.GetDimension() != 3:
        shape = " x ".join(map(str, image.GetSize()))
        raise InputError(f"{path} has {image.GetDimension()} dimensions ({shape}): give a single 3D image.")
    if "vector" in image.GetPixelIDTypeAsString() and image.GetNumberOfComponentsPerPixel() == 1:
        return with_metadata(sitk.VectorIndexSelectionCast(image, 0), image)
    return image


def with_metadata(image: sitk.Image, source: sitk.Image) -> sitk.Image:
    """`image` itself, given the metadata of `source`, which SimpleITK's filters drop."""
    for key in source.GetMetaDataKeys():
        image.SetMetaData(key, source.GetMetaData(key))
    return image


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns what reading a file may throw into one sentence and keeps ITK's own warnings off the terminal."""
    warnings = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    except (RuntimeError, OSError, EOFError, zlib.error) as error:
        if "orthonormal" in str(error):
            raise InputError(f"{path} has sheared axes, which cannot be used: resample the image first.") from error
        raise InputError(f"{path} cannot be read: it is damaged, incomplete or not what its name says.") from error
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(warnings)


def _require_sound_nifti(path: Path, reader: sitk.ImageFileReader) -> None:
    """ITK reads a NIfTI file that was cut off, or has voxels that are not a number, without a word: it leaves chance
    values in the missing voxels and zeros in the others.
    """
    dims = [int(reader.GetMetaData(f"dim[{axis}]")) for axis in range(8)]
    size = prod(dims[1 : dims[0] + 1]) * int(reader.GetMetaData("bitpix")) // 8
    start = int(float(reader.GetMetaData("vox_offset")))
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    with gzip.open(path) if zipped else path.open("rb") as stream:
        order = "<" if int.from_bytes(stream.read(4), "little") in (348, 540) else ">"
        stream.seek(start)
        kind = {"16": f"{order}f4", "64": f"{order}f8"}.get(reader.GetMetaData("datatype"), "u1")
        found = bad = 0
        while block := stream.read(min(1 << 20, size - found)):
            found += len(block)
            whole = len(block) - len(block) % np.dtype(kind).itemsize
            bad += int((~np.isfinite(np.frombuffer(block[:whole], kind))).sum())
        while stream.read(1 << 20):  # gzip's checksum is compared at the very end
            pass
    if found < size:
        raise EOFError(f"{found} of {size} bytes")
    if bad:
        raise InputError(f"{path} has {bad} voxels that are not a number or infinite: replace them before use.")


def require_finite(voxels: sitk.Image | NDArray[Any], what: str, start: Sequence[int] = (0, 0, 0)) -> None:
    """Raise InputError if a voxel is NaN or infinite.

    Args:
        voxels: an image or its array, or a part of the array.
        what: names the image in the sentence.
        start: where the part begins, in array order.
    """
    array = sitk.GetArrayViewFromImage(voxels) if isinstance(voxels, sitk.Image) else voxels
    if not np.issubdtype(array.dtype, np.floating):
        return
    bad = ~np.isfinite(array)
    if bad.any():
        first = np.add(np.unravel_index(int(bad.argmax()), bad.shape)[:3], start)[::-1]
        raise InputError(
            f"{what} has {int(bad.sum())} voxels that are not a number or infinite, the first at IJK "
            f"({', '.join(str(int(i)) for i in first)}): replace them before use."
        )


def same_grid(a: sitk.Image, b: sitk.Image, tolerance: float = 1e-3) -> bool:
    """True if voxel by voxel both images lie at the same place: see `Grid.same_as`."""
    return Grid.of(a).same_as(Grid.of(b), tolerance)


def overlap_fraction(mask_image: sitk.Image, image: sitk.Image) -> float:
    """The fraction (0 … 1) of the mask's non-zero voxels whose centres lie inside the extent of `image`.

    Voxels count as boxes, so the extent reaches half a voxel beyond the outer centres. 0 for an empty mask.
    """
    array = sitk.GetArrayViewFromImage(mask_image)
    foreground = np.argwhere(array.any(axis=3) if array.ndim == 4 else array)[:, ::-1]
    if not len(foreground):
        return 0.0
    index = Grid.of(image).to_index(Grid.of(mask_image).to_physical(foreground))
    edge = 0.5 + 1e-6
    return float(((index >= -edge) & (index <= np.array(image.GetSize()) - 1 + edge)).all(axis=1).mean())


def resample_to(
    image: sitk.Image,
    reference: sitk.Image,
    interpolator: Literal["nearest", "linear"] = "linear",
    default: float = 0.0,
) -> sitk.Image:
    """`image` on exactly the grid of `reference`, its pixel type kept; `default` fills what lies outside of it.

    Linear interpolation is for one value per voxel; nearest also serves segmentations with several layers.
    """
    if interpolator == "linear" and "integer" in image.GetPixelIDTypeAsString():
        # ITK cuts off decimals, which would darken integer images by half a grey value; whole ones it may miss by one.
        values = sitk.Resample(image, reference, sitk.Transform(), sitk.sitkLinear, default, sitk.sitkFloat32)
        return sitk.Cast(sitk.Round(values), image.GetPixelID())
    method = {"nearest": sitk.sitkNearestNeighbor, "linear": sitk.sitkLinear}[interpolator]
    return sitk.Resample(image, reference, sitk.Transform(), method, default, image.GetPixelID())


def write_image(path: str | Path, image: sitk.Image) -> None:
    """Write an image, compressed and all-or-nothing, in the format that the suffix names.

    Raises:
        InputError: unsupported suffix (.mhd too: it is two files), or the folder cannot be written to.
    """
    path = Path(path)
    if not path.name.lower().endswith(SUFFIXES[:-1]):
        raise InputError(f"{path} cannot be written: use one of the suffixes {', '.join(SUFFIXES[:-1])}.")
    write_atomically(path, lambda temporary: save_file(temporary, image))


def save_file(path: Path, image: sitk.Image) -> None:
    """Write an image, compressed, straight to `path`; OSError if that fails, as from any other way of writing."""
    try:
        sitk.WriteImage(image, str(path), True)
    except RuntimeError as error:
        raise OSError(f"SimpleITK could not write {path.suffix}") from error


def write_atomically(path: str | Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path` with the same suffixes, then move it into place.

    Whoever looks at `path` sees the old file or the whole new one; after a failure nothing is left behind.

    Raises:
        InputError: the folder is missing or cannot be written to. What else `write` raises passes through.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise InputError(f"{path} cannot be written: {path.parent} is not a folder; create it or choose another.")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"{path} cannot be written: {path.parent} is read-only; choose another folder.")
    # ITK tells formats by suffixes in lower case.
    temporary = path.with_name(f".{uuid.uuid4().hex[:8]}-{path.name.lower()}")
    try:
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{path} cannot be written ({reason}): check the place and the free space.") from error
    finally:
        temporary.unlink(missing_ok=True)
