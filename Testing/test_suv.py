"""SUV by body weight from a PET header, against values computed by hand; what is missing is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from NoisyLabelSegLib.errors import InputError
from training.data.pairing import read_strong
from training.data.suv import suv_factor

HALF_LIFE = "6586.2"
HEADER = {
    "Units": "BQML",
    "DecayCorrection": "START",
    "PatientWeight": "70",
    "RadionuclideTotalDose": "350000000",
    "RadionuclideHalfLife": "6586.2",
    "RadiopharmaceuticalStartTime": "100000.00",
    "SeriesDate": "20200102",
    "SeriesTime": "114946.20",
    "AcquisitionTime": "115000",
}


# 70 kg, 350 MBq: 70000 g / 350e6 Bq = 2e-4; the series starts 6586 s, one half-life, after the injection: 4e-4.
@pytest.mark.parametrize(
    ("changes", "factor"),
    [
        ({}, 4e-4),
        ({"DecayCorrection": "ADMIN"}, 2e-4),
        ({"PatientWeight": "35"}, 2e-4),
        ({"RadionuclideTotalDose": "700e6"}, 2e-4),
        ({"SeriesTime": "133932", "AcquisitionTime": "134000"}, 8e-4),
        ({"SeriesTime": "200000", "AcquisitionTime": "114946"}, 4e-4),
        ({"RadiopharmaceuticalStartDateTime": "20200102100000.000000+0100", "RadiopharmaceuticalStartTime": "0"}, 4e-4),
        ({"RadiopharmaceuticalStartTime": "232923", "SeriesTime": "011909", "AcquisitionTime": "011909"}, 4e-4),
        ({"Units": "GML"}, 1),
        ({"Units": "GML", "SUVType": "BW", "PatientWeight": ""}, 1),
    ],
)
def test_factor(changes: dict[str, str], factor: float) -> None:
    assert suv_factor({**HEADER, **changes}) == pytest.approx(factor, rel=1e-3)


@pytest.mark.parametrize("key", sorted(HEADER))
def test_a_missing_tag_is_named(key: str) -> None:
    with pytest.raises(InputError, match=f"no {key}, which SUV needs"):
        suv_factor({name: value for name, value in HEADER.items() if name != key})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"Units": "CNTS"}, "Units of 'CNTS'"),
        ({"Units": "GML", "SUVType": "LBM"}, "Units of 'GML'"),
        ({"DecayCorrection": "NONE"}, "DecayCorrection of 'NONE'"),
        ({"PatientWeight": "0"}, "PatientWeight is '0'"),
        ({"PatientWeight": "nan"}, "PatientWeight is 'nan'"),
        ({"RadionuclideTotalDose": "much"}, "RadionuclideTotalDose is 'much'"),
        ({"SeriesTime": "noon"}, "SeriesTime is"),
    ],
)
def test_a_wrong_tag_is_named(changes: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        suv_factor({**HEADER, **changes})


def write_series(folder: Path, **changes: Any) -> Path:
    """Three PET slices of 5, 10 and 15 kBq/ml."""
    pydicom = pytest.importorskip("pydicom")
    folder.mkdir()
    series = pydicom.uid.generate_uid()
    for number in range(3):
        meta = pydicom.dataset.FileMetaDataset()
        meta.MediaStorageSOPClassUID = pydicom.uid.PositronEmissionTomographyImageStorage
        meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        header: Any = pydicom.dataset.FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        header.SOPClassUID, header.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        header.SeriesInstanceUID = header.StudyInstanceUID = header.FrameOfReferenceUID = series
        injection = pydicom.dataset.Dataset()
        for key, value in {**HEADER, "Modality": "PT", **changes}.items():
            setattr(injection if key.startswith("Radio") else header, key, value)
        header.RadiopharmaceuticalInformationSequence = [injection]
        header.ImagePositionPatient, header.ImageOrientationPatient = [0, 0, 4 * number], [1, 0, 0, 0, 1, 0]
        header.PixelSpacing, header.SliceThickness, header.InstanceNumber = [4, 4], 4, number + 1
        header.Rows = header.Columns = 8
        header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
        header.BitsAllocated = header.BitsStored = 16
        header.HighBit, header.PixelRepresentation = 15, 1
        header.RescaleSlope, header.RescaleIntercept = "2.5", "0"
        header.PixelData = np.full((8, 8), 2000 * (number + 1), np.int16).tobytes()
        header.save_as(folder / f"{number}.dcm")
    return folder


def test_a_pet_series_is_read_as_suv(tmp_path: Path) -> None:
    import SimpleITK as sitk

    image = read_strong(write_series(tmp_path / "pet"))
    assert sitk.GetArrayFromImage(image)[:, 0, 0] == pytest.approx([2, 4, 6], rel=1e-3)


def test_a_pet_series_without_a_dose_names_it_and_the_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"pet'.*no PatientWeight"):
        read_strong(write_series(tmp_path / "pet", PatientWeight=None))


def test_another_series_is_read_as_it_is(tmp_path: Path) -> None:
    import SimpleITK as sitk

    image = read_strong(write_series(tmp_path / "mr", Modality="MR"))
    assert sitk.GetArrayFromImage(image)[:, 0, 0] == pytest.approx([5000, 10000, 15000])
