"""DICOM series: regular ones as they are, tilted and uneven ones straightened with a word, incomplete ones refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_phantom import AIR, BALL, CENTRE, PIXEL, RADIUS, ball, places, write_slices
from numpy.typing import NDArray

from NoisyLabelSegLib.dicom_series import CONTRAST_AGENT, MODALITY, resampling_note
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.images import read_image
from NoisyLabelSegLib.straightening import Stack, straightened

STRAIGHT = np.eye(3)
_C, _S = np.cos(0.4), np.sin(0.4)
TURNED = np.array([[_C, -_S, 0], [_S, _C, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])
EVEN = np.arange(-24, 25, 3.0)
UNEVEN = np.cumsum([-26, *[2.0] * 9, 0.7, *[3.5] * 10])
SHAPES = pytest.mark.parametrize("turn", [STRAIGHT, TURNED], ids=["axial", "turned"])
ODD = pytest.mark.parametrize(
    ("heights", "tilt", "said"),
    [
        (EVEN, 18.5, "tilted gantry .*18.5 degrees"),
        (EVEN, -12.0, "tilted gantry .*12.0 degrees"),
        (UNEVEN, 0.0, r"uneven slice spacing \(0.7 to 3.5 mm\)"),
        (UNEVEN, 18.5, r"18.5 degrees.* and uneven slice spacing"),
    ],
)


def read(folder: Path, heights: NDArray[np.float64], tilt: float, turn: NDArray[np.float64]) -> sitk.Image:
    positions, axes = places(heights, tilt, turn)
    return read_image(write_slices(folder, ball(positions, axes), positions, axes))


@ODD
@SHAPES
def test_a_ball_keeps_its_centre_and_volume(
    tmp_path: Path, heights: NDArray[np.float64], tilt: float, said: str, turn: NDArray[np.float64]
) -> None:
    image = read(tmp_path / "ct", heights, tilt, turn)
    grid = Grid.of(image)
    share = (sitk.GetArrayFromImage(image) - float(AIR)) / (BALL - AIR)
    inside = np.argwhere(share > 0)
    weights = share[tuple(inside.T)]
    centre = np.average(grid.to_physical(inside[:, ::-1]), axis=0, weights=weights)
    off = grid.to_index(centre) - grid.to_index(CENTRE)
    assert np.abs(off).max() < 0.5
    assert share.sum() * grid.voxel_mm3 == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.02)
    assert image.GetPixelID() == sitk.sitkInt16 and share.min() == 0


@ODD
@SHAPES
def test_the_grid_is_orthogonal_covers_all_slices_and_is_told(
    tmp_path: Path, heights: NDArray[np.float64], tilt: float, said: str, turn: NDArray[np.float64]
) -> None:
    image = read(tmp_path / "ct", heights, tilt, turn)
    grid = Grid.of(image)
    direction = np.reshape(grid.direction, (3, 3))
    assert direction.T @ direction == pytest.approx(np.eye(3), abs=1e-6)
    assert grid.spacing[:2] == pytest.approx(PIXEL)
    positions, axes = places(heights, tilt, turn)
    far = positions + 63 * PIXEL[0] * axes[0] + 69 * PIXEL[1] * axes[1]
    for corners in (positions, far):
        index = grid.to_index(corners)
        assert (index > -1e-3).all() and (index < np.array(grid.size) - 1 + 1e-3).all()
    note = resampling_note(image)
    assert " x ".join(map(str, grid.size)) in note and "the result lies on that grid" in note
    assert re.search(said, note)


def test_a_tilt_alone_changes_no_slice_but_by_its_shift(tmp_path: Path) -> None:
    positions, axes = places(EVEN, np.degrees(np.arctan(PIXEL[1] / 3)), STRAIGHT)  # one pixel a slice
    voxels = ball(positions, axes)
    array = sitk.GetArrayFromImage(read_image(write_slices(tmp_path / "ct", voxels, positions, axes)))
    assert array.shape == (17, 70 + 16, 64)
    for number, (slice_, given) in enumerate(zip(array, voxels, strict=True)):
        assert np.array_equal(slice_[number : number + 70], given)


@SHAPES
def test_a_regular_series_is_returned_bit_for_bit(tmp_path: Path, turn: NDArray[np.float64]) -> None:
    image = read(tmp_path / "ct", EVEN, 0, turn)
    files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / "ct"))
    plain = sitk.ReadImage(files)
    assert np.array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(plain))
    assert Grid.of(image) == Grid.of(plain) and image.GetPixelID() == plain.GetPixelID()
    assert resampling_note(image) == ""


@pytest.mark.parametrize(
    ("steps", "spacing"),
    [
        ([2.5] * 8 + [5.0] * 12, 2.5),  # the finely sliced part is not thinned out
        ([4.0] * 13 + [1.1] + [7.0] * 13, 4.0),
        ([0.2] * 3 + [3.0] * 6, 1.5),  # half the median
    ],
)
def test_slices_lie_as_close_as_the_closest_quarter(steps: list[float], spacing: float) -> None:
    heights = np.cumsum([0.0, *steps])
    positions, axes = places(heights, 0, STRAIGHT)
    stack = Stack(np.zeros((len(heights), 4, 4), np.int16), np.ones(2), positions, axes)
    image, _ = straightened(stack, "it")
    assert image.GetSpacing()[2] == pytest.approx(spacing, rel=0.05)


@pytest.mark.parametrize(
    ("heights", "tilt", "said"),
    [
        (np.array([0, 2, 4, 10.0]), 0, r"uneven slice spacing \(2 to 6 mm\): slices are missing"),
        (np.delete(EVEN, [5, 6]), 18.5, "tilted gantry.*slices are missing"),
        (EVEN, 60, "which no scanner makes"),
        (np.array([0, 0, 2.0]), 0, "several slices at one position"),
    ],
)
def test_what_is_missing_is_not_made_up(tmp_path: Path, heights: NDArray[np.float64], tilt: float, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(tmp_path / "ct", heights, tilt, STRAIGHT)


def test_fractions_of_a_voxel_value_survive() -> None:
    positions, axes = places(np.array([0, 1, 2, 4.0]), 0, STRAIGHT)
    voxels = np.arange(4, dtype=np.float32)[:, None, None] + np.zeros((4, 3, 3), np.float32)
    image, _ = straightened(Stack(voxels, np.ones(2), positions, axes), "it")
    assert sitk.GetArrayFromImage(image)[:, 1, 1] == pytest.approx([0, 1, 2, 2.5, 3])


@pytest.mark.parametrize("tilt", [0, 15])
def test_modality_and_contrast_agent_are_kept(tmp_path: Path, tilt: float) -> None:
    positions, axes = places(EVEN, tilt, STRAIGHT)
    folder = write_slices(tmp_path / "ct", ball(positions, axes), positions, axes, ContrastBolusAgent="Iodine ")
    image = read_image(folder)
    assert (image.GetMetaData(MODALITY), image.GetMetaData(CONTRAST_AGENT)) == ("CT", "Iodine")
