"""Reading, checking, comparing, resampling and writing images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import (
    overlap_fraction,
    read_image,
    require_finite,
    resample_to,
    same_grid,
    write_atomically,
    write_image,
)

_COS, _SIN = np.cos(np.radians(10)), np.sin(np.radians(10))
DIRECTIONS = {
    "straight": (1, 0, 0, 0, 1, 0, 0, 0, 1),
    "flipped": (-1, 0, 0, 0, -1, 0, 0, 0, 1),
    "oblique": (_COS, -_SIN, 0, _SIN, _COS, 0, 0, 0, 1),
    "permuted": (0, 0, 1, 1, 0, 0, 0, 1, 0),
}


def make_image(direction: str = "oblique", dtype: type = np.int16) -> sitk.Image:
    array: np.ndarray = np.random.default_rng(0).integers(0, 200, (8, 9, 10)).astype(dtype)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((-12.5, 31.25, -600.1))
    image.SetDirection(DIRECTIONS[direction])
    return image


def write_dicom(folder: Path, positions: list[tuple[float, float, float]], series: str = "1.2.3.1") -> None:
    folder.mkdir(exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number, position in enumerate(positions):
        image = sitk.GetImageFromArray(np.full((1, 6, 5), number, np.int16))
        image.SetSpacing((0.5, 0.5, 1.0))
        tags = {
            "0008|0060": "CT",
            "0020|000d": "1.2.3",
            "0020|000e": series,
            "0008|0018": f"{series}.{number}",
            "0020|0013": str(number),
            "0020|0032": "\\".join(map(str, position)),
            "0020|0037": "1\\0\\0\\0\\1\\0",
        }
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{series}-{number}.dcm"))
        writer.Execute(image)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_geometry_and_voxels_survive_a_path_with_umlaut_and_space(tmp_path: Path, suffix: str, direction: str) -> None:
    image = make_image(direction)
    path = tmp_path / "Fälle 日本" / f"erster Fall.1{suffix}"
    path.parent.mkdir()
    write_image(path, image)
    result = read_image(path)
    assert np.array_equal(sitk.GetArrayFromImage(result), sitk.GetArrayFromImage(image))
    assert same_grid(result, image, 1e-4)
    precision = 1e-5 if ".nii" in suffix else 1e-12
    assert np.allclose(result.GetDirection(), image.GetDirection(), atol=precision)
    assert np.allclose(result.GetSpacing(), image.GetSpacing(), rtol=precision)
    assert np.allclose(result.GetOrigin(), image.GetOrigin(), rtol=precision)


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.6, 0.99])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"cut{suffix}"
    write_image(path, make_image())
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(InputError, match="cannot be read"):
        read_image(path)


def test_a_damaged_gzip_stream_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "flipped.nii.gz"
    write_image(path, make_image())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(InputError, match="cannot be read"):
        read_image(path)


@pytest.mark.parametrize(
    ("image", "suffix", "sentence"),
    [
        (sitk.Image([4, 4, 4, 3], sitk.sitkInt16), ".nii.gz", "4 dimensions"),
        (sitk.Image([4, 4, 4, 3], sitk.sitkInt16), ".nrrd", "4 dimensions"),
        (sitk.Image([4, 4, 4], sitk.sitkVectorUInt8, 3), ".nrrd", "3 values per voxel"),
        (sitk.Image([4, 4, 4], sitk.sitkVectorFloat32, 3), ".nii.gz", "3 values per voxel"),
        (sitk.Image([4, 4, 4], sitk.sitkComplexFloat32), ".mha", "complex|2 values"),
        (sitk.Image([4, 4, 4], sitk.sitkComplexFloat32), ".nii.gz", "complex"),
        (sitk.Image([4, 4], sitk.sitkUInt8), ".png", "not of a supported type"),
    ],
)
def test_an_unsuitable_image_is_refused(tmp_path: Path, image: sitk.Image, suffix: str, sentence: str) -> None:
    path = tmp_path / f"image{suffix}"
    sitk.WriteImage(image, str(path))
    with pytest.raises(InputError, match=sentence):
        read_image(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_image(tmp_path / "nothing.nii.gz")


def test_text_with_an_image_suffix_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "note.nrrd"
    path.write_text("not an image")
    with pytest.raises(InputError, match="cannot be read"):
        read_image(path)


def test_a_2d_image_gets_one_slice_and_a_fourth_axis_of_one_is_dropped(tmp_path: Path) -> None:
    for name, size in {"flat.mha": [5, 4], "single.nrrd": [5, 4, 1, 1]}.items():
        sitk.WriteImage(sitk.Image(size, sitk.sitkInt16), str(tmp_path / name))
        assert read_image(tmp_path / name).GetSize() == (5, 4, 1)


def test_a_dicom_folder_is_read_in_order_of_position(tmp_path: Path) -> None:
    write_dicom(tmp_path / "ct", [(1, 2, z) for z in (10, 7.5, 5)])
    image = read_image(tmp_path / "ct")
    assert image.GetSize() == (5, 6, 3)
    assert image.GetSpacing() == pytest.approx((0.5, 0.5, 2.5))
    assert image.GetOrigin() == pytest.approx((1, 2, 5))
    assert sitk.GetArrayFromImage(image)[:, 0, 0].tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    ("positions", "sentence"),
    [
        ([(0, 0, 0), (0, 0, 2), (0, 0, 4), (0, 0, 10)], "uneven slice spacing"),
        ([(0, 0, 0), (0, 3, 2), (0, 6, 4)], "tilted gantry"),
        ([(0, 0, 0), (0, 0, 0), (0, 0, 2)], "one position"),
    ],
)
def test_dicom_slices_that_form_no_regular_grid_are_refused(
    tmp_path: Path, positions: list[tuple[float, float, float]], sentence: str
) -> None:
    write_dicom(tmp_path / "ct", positions)
    with pytest.raises(InputError, match=sentence):
        read_image(tmp_path / "ct")


def test_the_larger_dicom_series_is_read_and_equal_ones_are_listed(tmp_path: Path) -> None:
    write_dicom(tmp_path / "ct", [(0, 0, z) for z in range(3)], "1.2.3.1")
    write_dicom(tmp_path / "ct", [(0, 0, z) for z in range(2)], "1.2.3.2")
    assert read_image(tmp_path / "ct").GetSize()[2] == 3
    write_dicom(tmp_path / "ct", [(0, 0, z) for z in range(3)], "1.2.3.2")
    with pytest.raises(InputError, match=r"2 DICOM series.*1\.2\.3\.1.*1\.2\.3\.2"):
        read_image(tmp_path / "ct")


def test_a_folder_without_dicom_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no DICOM"):
        read_image(tmp_path)


def test_require_finite_counts_the_voxels_and_names_the_first() -> None:
    image = make_image(dtype=np.float32)
    require_finite(image, "image")
    require_finite(make_image(), "image")
    image[3, 2, 1] = float("nan")
    image[4, 5, 6] = float("inf")
    with pytest.raises(InputError, match=r"T1 has 2 voxels .* IJK \(3, 2, 1\)"):
        require_finite(image, "T1")
    part = sitk.GetArrayViewFromImage(image)[2:, 1:, 3:]
    with pytest.raises(InputError, match=r"T1 has 1 voxels .* IJK \(4, 5, 6\)"):
        require_finite(part, "T1", (2, 1, 3))


@pytest.mark.parametrize(
    ("shift", "scale", "expected"),
    [(0, 1, True), (5e-4, 1, True), (5e-3, 1, False), (0, 1.0001, True), (0, 1.01, False)],
)
def test_same_grid_measures_in_voxels(shift: float, scale: float, expected: bool) -> None:
    a, b = make_image(), make_image()
    b.SetOrigin(a.TransformContinuousIndexToPhysicalPoint((0.0, 0.0, shift)))
    b.SetSpacing([value * scale for value in a.GetSpacing()])
    assert same_grid(a, b) is expected


def test_same_grid_sees_size_and_direction() -> None:
    assert not same_grid(make_image(), make_image()[:-1])
    assert not same_grid(make_image("straight"), make_image("oblique"))


@pytest.mark.parametrize(("shift", "expected"), [(0, 1.0), (4, 0.5), (8, 0.0), (-4, 0.5)])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_overlap_fraction_of_a_shifted_full_mask(direction: str, shift: int, expected: float) -> None:
    image = make_image(direction)
    mask = sitk.Image(image.GetSize(), sitk.sitkUInt8) + 1
    mask.CopyInformation(image)
    mask.SetOrigin(image.TransformIndexToPhysicalPoint((0, 0, shift)))
    assert overlap_fraction(mask, image) == pytest.approx(expected)


def test_overlap_fraction_of_an_empty_mask_is_zero() -> None:
    assert overlap_fraction(sitk.Image([3, 3, 3], sitk.sitkUInt8), make_image()) == 0


@pytest.mark.parametrize("interpolator", ["nearest", "linear"])
def test_resampling_to_a_part_of_the_grid_cuts_it_out(interpolator: str) -> None:
    image = make_image()
    reference = image[2:7, 3:8, 1:5]
    result = resample_to(image, reference, interpolator)  # type: ignore[arg-type]
    assert np.array_equal(sitk.GetArrayFromImage(result), sitk.GetArrayFromImage(reference))
    assert result.GetOrigin() == reference.GetOrigin() and result.GetDirection() == reference.GetDirection()
    assert result.GetPixelID() == image.GetPixelID()


def test_resampling_fills_the_outside_and_interpolates() -> None:
    image = sitk.GetImageFromArray(np.arange(4, dtype=np.float32).reshape(1, 1, 4))
    reference = sitk.Image([3, 1, 1], sitk.sitkUInt8)
    reference.SetOrigin((2.25, 0, 0))
    values = sitk.GetArrayFromImage(resample_to(image, reference, default=-1024)).ravel()
    assert values == pytest.approx([2.25, 3, -1024])


def test_write_atomically_keeps_the_suffixes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "mask.seg.nrrd"
    path.write_text("old")
    seen: list[Path] = []

    def write(temporary: Path) -> None:
        seen.append(temporary)
        assert path.read_text() == "old"
        temporary.write_text("new")

    write_atomically(path, write)
    assert path.read_text() == "new"
    assert seen[0].name.endswith(".seg.nrrd") and seen[0].parent == tmp_path
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("error", "raised"), [(OSError("disk full"), InputError), (ZeroDivisionError(), ZeroDivisionError)]
)
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: Exception, raised: type) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")

    def write(temporary: Path) -> None:
        temporary.write_text("half")
        raise error

    with pytest.raises(raised):
        write_atomically(path, write)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        write_atomically(tmp_path / "missing" / "a.json", lambda path: path.write_text(""))  # type: ignore[arg-type]
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(InputError, match="read-only"):
        write_image(tmp_path / "a.nii.gz", make_image())


@pytest.mark.parametrize("name", ["a.png", "a.mhd", "a"])
def test_write_image_refuses_other_suffixes(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="use one of the suffixes"):
        write_image(tmp_path / name, make_image())
