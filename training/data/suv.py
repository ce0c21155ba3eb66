"""PET as standardised uptake values by body weight (SUVbw), from a DICOM series whose header allows it.

SUVbw = activity concentration (Bq/ml) · body weight (g) / injected dose (Bq), the dose decayed to the time to which the
images are corrected (DICOM PS3.3 C.8.9.1; the QIBA profile of FDG-PET): with Decay Correction START the series' start,
with ADMIN the injection. The start of a series that was made anew after its images were acquired is that of the first
acquisition. Units of GML are SUVbw already. `read_image` has applied slope and intercept.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from NoisyLabelSegLib.dicom_series import largest_series
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import read_image

_INJECTION = (
    "RadionuclideTotalDose",
    "RadionuclideHalfLife",
    "RadiopharmaceuticalStartDateTime",
    "RadiopharmaceuticalStartTime",
)
_TOP = ("Units", "SUVType", "DecayCorrection", "PatientWeight", "SeriesDate", "SeriesTime")


def suv_factor(tags: Mapping[str, str]) -> float:
    """What voxels are multiplied by to become SUVbw.

    Args:
        tags: values by DICOM keyword, those of the radiopharmaceutical's item among them; ``AcquisitionTime`` is that
            of the slice acquired first.

    Raises:
        InputError: names the tag that is missing or has a value that is not supported.
    """
    units = _needed(tags, "Units")
    if units == "GML" and tags.get("SUVType", "BW") == "BW":
        return 1.0
    if units != "BQML":
        raise InputError(f"PET in Units of '{units}' cannot be made SUV: BQML is needed.")
    weight, dose = (_positive(tags, key) for key in ("PatientWeight", "RadionuclideTotalDose"))
    correction = _needed(tags, "DecayCorrection")
    if correction == "ADMIN":
        return 1000 * weight / dose
    if correction != "START":
        raise InputError(f"PET with a DecayCorrection of '{correction}' cannot be made SUV: START or ADMIN is needed.")
    waited = (_scan_start(tags) - _injection(tags)).total_seconds()
    return 1000 * weight / (dose * 2 ** (-waited / _positive(tags, "RadionuclideHalfLife")))


def is_pet_series(folder: Path) -> bool:
    """Whether the DICOM series that is read from a folder is of a PET."""
    try:
        files = largest_series(folder)
    except InputError:
        return False
    reader = sitk.ImageFileReader()
    reader.SetFileName(files[0])
    reader.ReadImageInformation()
    return bool(reader.HasMetaDataKey("0008|0060") and reader.GetMetaData("0008|0060").strip() == "PT")


def read_suv(folder: Path) -> sitk.Image:
    """Read a folder with one PET series as SUVbw, float32.

    Raises:
        InputError: it cannot be read, see `suv_factor`, or pydicom is missing: the injection lies in a sequence, which
            SimpleITK does not read.
    """
    try:
        return sitk.Cast(read_image(folder), sitk.sitkFloat32) * suv_factor(_tags(folder))
    except InputError as error:
        raise InputError(f"The PET series in '{folder}' cannot be read as SUV. {error}") from error


def _tags(folder: Path) -> dict[str, str]:
    try:
        pydicom = import_module("pydicom")
    except ImportError as error:
        raise InputError("PET in DICOM needs pydicom: install it, or give the PET as SUV in NIfTI.") from error
    headers = [pydicom.dcmread(name, stop_before_pixels=True) for name in largest_series(folder)]
    first: Any = min(headers, key=lambda header: str(header.get("AcquisitionTime", "")))
    injection: Any = next(iter(first.get("RadiopharmaceuticalInformationSequence") or []), {})
    found = {key: first.get(key) for key in (*_TOP, "AcquisitionDate", "AcquisitionTime")}
    found |= {key: injection.get(key) for key in _INJECTION}
    return {key: str(value) for key, value in found.items() if value not in (None, "")}


def _scan_start(tags: Mapping[str, str]) -> datetime:
    series = _moment(_needed(tags, "SeriesDate") + _needed(tags, "SeriesTime"), "SeriesTime")
    acquired = _needed(tags, "AcquisitionTime")
    first = _moment(tags.get("AcquisitionDate", tags["SeriesDate"]) + acquired, "AcquisitionTime")
    return min(series, first)


def _injection(tags: Mapping[str, str]) -> datetime:
    """When it was; of a time without a date the last one before the scan."""
    if "RadiopharmaceuticalStartDateTime" in tags:
        return _moment(tags["RadiopharmaceuticalStartDateTime"], "RadiopharmaceuticalStartDateTime")
    key, scan = "RadiopharmaceuticalStartTime", _scan_start(tags)
    injected = _moment(f"{scan:%Y%m%d}" + _needed(tags, key), key)
    return injected if injected <= scan else injected - timedelta(days=1)


def _moment(text: str, key: str) -> datetime:
    try:
        return datetime.strptime(text[:14], "%Y%m%d%H%M%S")
    except ValueError as error:
        raise InputError(f"The PET header's {key} is '{text}', which is not a date and time.") from error


def _positive(tags: Mapping[str, str], key: str) -> float:
    text = _needed(tags, key)
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < float("inf"):
        raise InputError(f"The PET header's {key} is '{text}': a positive number is needed for SUV.")
    return value


def _needed(tags: Mapping[str, str], key: str) -> str:
    if key not in tags:
        raise InputError(
            f"The PET header has no {key}, which SUV needs: give the PET as SUV in NIfTI, or leave it out."
        )
    return tags[key].strip()
