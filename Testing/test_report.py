"""The report is one safe, self-contained file that shows every stage, whatever the geometry."""

from __future__ import annotations

import base64
import re
import struct
from dataclasses import replace
from html.parser import HTMLParser
from math import cos, sin
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from NoisyLabelSegLib import report_pictures
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.report import write_report
from NoisyLabelSegLib.result import Result
from NoisyLabelSegLib.segmentations import Segment, Segmentation

HOSTILE = "<script>alert(1)</script>\"'&--><img src=http://evil.example/x onerror=alert(1)>"
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
OBLIQUE = (cos(0.3), -sin(0.3), 0.0, sin(0.3), cos(0.3), 0.0, 0.0, 0.0, 1.0)
FLIPPED = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL_SCAN = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0)


def _box(size: tuple[int, int, int], grow: int = 0) -> np.ndarray:
    """A box of ones in the middle, in K, J, I order."""
    array = np.zeros(size[::-1], np.uint8)
    array[tuple(slice(max(0, n // 2 - 2 - grow), n // 2 + 3 + grow) for n in array.shape)] = 1
    return array


def _result(
    size: tuple[int, int, int] = (20, 24, 9),
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    direction: tuple[float, ...] = IDENTITY,
    masks: list[np.ndarray] | None = None,
    names: tuple[str, ...] = ("Nodule",),
    provenance: dict[str, Any] | None = None,
    **fields: Any,
) -> Result:
    def on_grid(array: np.ndarray) -> sitk.Image:
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(spacing)
        image.SetDirection(direction)
        return image

    masks = [_box(size), _box(size, 1), _box(size, 2)] if masks is None else masks
    segments = tuple(Segment(name=name, label=label) for label, name in enumerate(names, 1))
    stages = tuple(Segmentation(on_grid(mask), segments) for mask in masks)
    rows = [
        {
            "segment": name,
            "stage": stage,
            "volume_mm3": float(mask.sum()),
            "dice_to_given": 1 / (stage + 1),
            "hd95_to_given_mm": 7.25 if stage else None,
            "hd95_to_previous_mm": float("inf") if stage else None,
            "changed_voxels": stage,
        }
        for name in names
        for stage, mask in enumerate(masks)
    ]
    noise = np.random.default_rng(0).normal(size=size[::-1]).astype(np.float32)
    return Result(on_grid(noise), stages, {}, tuple(rows), provenance or {"image": "case 1.nii.gz"}, **fields)


def _written(result: Result, folder: Path) -> str:
    path = folder / "report.html"
    write_report(result, path)
    return path.read_text(encoding="utf-8")


def _product(*numbers: int) -> str:
    return " \N{MULTIPLICATION SIGN} ".join(map(str, numbers))


def _picture_sizes(page: str) -> list[tuple[int, int]]:
    """Width and height of every picture, from its PNG header."""
    pictures = [base64.b64decode(data) for data in re.findall(r'src="data:image/png;base64,([^"]+)"', page)]
    return [struct.unpack(">II", picture[16:24]) for picture in pictures]


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_hostile_names_are_text_and_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    provenance: dict[str, Any] = dict.fromkeys(("image", "mask", "device", "time", HOSTILE), HOSTILE)
    provenance["settings"] = {HOSTILE: HOSTILE, "list": [HOSTILE], "deep": {"a": [HOSTILE]}}
    provenance["model"] = dict.fromkeys(("name", "version", "licence", "intended_use", "not_for"), HOSTILE)
    page = _written(_result(names=(HOSTILE,), provenance=provenance, notes=(HOSTILE,)), tmp_path)
    assert "&lt;script&gt;alert(1)" in page
    tags = _Tags()
    tags.feed(page)
    assert not {tag for tag, _ in tags.found} & {"script", "link", "iframe", "object", "base", "a"}
    assert not [name for _, attributes in tags.found for name in attributes if name.startswith("on")]
    sources = [attributes.get("src") or attributes.get("href") for _, attributes in tags.found]
    assert all(source.startswith("data:image/png;base64,") for source in sources if source)
    assert "url(" not in page and "@import" not in page


def test_every_stage_note_and_fact_is_in_the_page(tmp_path: Path) -> None:
    provenance = {
        "image": "case 1.nii.gz",
        "model": {"name": "nodules", "version": "1.2", "sha256": "ab" * 32, "licence": "MIT", "not_for": "MR"},
        "settings": {"threshold": 0.5},
        "software": {"torch": "2.9"},
        "time": "2025-01-02T03:04:05+00:00",
        "stopped_early": True,
    }
    page = _written(_result(provenance=provenance, notes=("The mask was resampled.",), spacing=(1, 2, 3)), tmp_path)
    for words in (
        *("Given mask", "Stage 1", "Stage 2 (result)", "Difference", "The mask was resampled.", "case 1.nii.gz"),
        *("nodules 1.2", "ab" * 32, "MIT", "Not for:", "0.5", "2.9", "2025-01-02T03:04:05+00:00", _product(20, 24, 9)),
        *(_product(1, 2, 3), "ran 2 stages and stopped before the planned number", "was 0.12 ml", "0.333", "∞"),
    ):
        assert words in page, words


def test_each_segment_has_its_pictures(tmp_path: Path) -> None:
    before = _box((20, 24, 9))
    before[:, 12:] *= 2
    page = _written(_result(masks=[before, before], names=("Anterior", "Posterior")), tmp_path)
    assert "<h3>Anterior</h3>" in page and "<h3>Posterior</h3>" in page
    assert "no voxel changed" in page
    assert len(_picture_sizes(page)) == 2 * report_pictures.SLICES_SHOWN * 4


def test_segments_with_the_same_name_have_their_own_figures(tmp_path: Path) -> None:
    small, large = _box((20, 24, 9)), _box((20, 24, 9), 1)
    result = _result(masks=[small, large], names=("Nodule", "Nodule"))
    volumes = (1000.0, 2000.0, 4000.0, 3000.0)
    rows = tuple({**row, "volume_mm3": volume} for row, volume in zip(result.statistics, volumes, strict=True))
    page = _written(replace(result, statistics=rows), tmp_path)
    assert "<b>Nodule</b> was 1.00 ml and is now 2.00 ml (+100 %): 218 voxels were added and 0 removed" in page
    assert "<b>Nodule</b> was 4.00 ml and is now 3.00 ml (-25 %): no voxel changed" in page


def test_changed_voxels_are_said_to_be_against_the_previous_stage(tmp_path: Path) -> None:
    assert '<th scope="col">Voxels changed from previous stage</th>' in _written(_result(), tmp_path)


def test_without_a_given_mask_nothing_is_compared_with_it(tmp_path: Path) -> None:
    result = _result(masks=[EMPTY, _box((20, 24, 9))], provenance={"image": "case 1.nii.gz", "mask": None})
    rows = tuple({**row, "dice_to_given": None, "hd95_to_given_mm": None} for row in result.statistics)
    page = _written(replace(result, statistics=rows), tmp_path)
    assert "<figcaption>Nothing given</figcaption>" in page and '<th scope="row">Nothing given</th>' in page
    assert "<figcaption>Given mask</figcaption>" not in page and "Dice coefficient" not in page
    assert "<dt>Given mask</dt>" not in page


@pytest.mark.parametrize(
    ("segments", "shown"),
    [([], "<td>all</td>"), (["Nodule"], "<td>Nodule</td>")],
)
def test_the_header_and_settings_are_readable(tmp_path: Path, segments: list[str], shown: str) -> None:
    provenance = {"mask": "mask.seg.nrrd", "time": "2026-11-21T02:51:07+00:00", "settings": {"segments": segments}}
    page = _written(_result(provenance=provenance), tmp_path)
    assert "<dt>Given mask</dt><dd>mask.seg.nrrd</dd>" in page
    assert "<dt>Date and time</dt><dd>2026-11-21 02:51</dd>" in page
    assert f'<th scope="row">Segments</th>{shown}' in page


def test_the_distance_to_the_given_mask_is_in_the_table(tmp_path: Path) -> None:
    page = _written(_result(), tmp_path)
    assert '<th scope="col">HD95 to given mask (mm)</th>' in page and "<td>7.25</td>" in page


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (1000.0, 2500.0, "was 1.00 ml and is now 2.50 ml"),
        (52.0, 1890.0, "was 52 mm³ and is now 1,890 mm³"),
        (0.0, 2500.0, "was empty and is now 2.50 ml"),
    ],
)
def test_both_volumes_of_a_sentence_have_one_unit(tmp_path: Path, before: float, after: float, expected: str) -> None:
    result = _result(masks=[_box((20, 24, 9)), _box((20, 24, 9), 1)])
    rows = tuple({**row, "volume_mm3": v} for row, v in zip(result.statistics, (before, after), strict=True))
    assert expected in _written(replace(result, statistics=rows), tmp_path)


EMPTY = np.zeros((9, 24, 20), np.uint8)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"size": (30, 30, 1)}, "Axial slice 1 of 1"),
        ({"masks": [_box((20, 24, 9)), EMPTY]}, "is now empty (-100 %): 0 voxels were added and 125 removed"),
        ({"masks": [EMPTY, _box((20, 24, 9))]}, "was empty and is now 0.12 ml: 125 voxels were added"),
        ({"masks": [EMPTY, EMPTY]}, "Axial slice 5 of 9"),
        ({"masks": [_box((20, 24, 9))]}, "ran 0 stages"),
        ({"direction": OBLIQUE}, "Axial slice"),
        ({"direction": SAGITTAL_SCAN}, "Sagittal slice"),
        ({"slice_axis": 0}, "Sagittal slice"),
        ({"slice_axis": 1}, "Coronal slice"),
    ],
)
def test_unusual_input_gives_a_report(tmp_path: Path, fields: dict[str, Any], expected: str) -> None:
    page = _written(_result(**fields), tmp_path)
    assert expected in page
    assert _picture_sizes(page)


@pytest.mark.parametrize(
    ("spacing", "slice_axis", "expected"),
    [
        ((1.0, 1.0, 5.0), 2, (200, 240)),
        ((2.0, 1.0, 1.0), 2, (240, 144)),
        ((1.0, 1.0, 5.0), 1, (107, 240)),
        ((1.0, 1.0, 5.0), 0, (128, 240)),
    ],
)
def test_pictures_keep_the_aspect_ratio_in_millimetres(
    tmp_path: Path, spacing: tuple[float, float, float], slice_axis: int, expected: tuple[int, int]
) -> None:
    sizes = _picture_sizes(_written(_result(spacing=spacing, slice_axis=slice_axis), tmp_path))
    assert set(sizes) == {expected}


@pytest.mark.parametrize("direction", [IDENTITY, OBLIQUE, FLIPPED, SAGITTAL_SCAN])
@pytest.mark.parametrize("slice_axis", [0, 1, 2])
def test_the_view_shows_the_patient_as_its_letters_say(direction: tuple[float, ...], slice_axis: int) -> None:
    result = _result(size=(5, 6, 7), direction=direction, slice_axis=slice_axis)
    view = report_pictures.View.of(result)
    ways = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}
    for corner in ((0, 0, 0), (1, 2, 3)):
        point = np.array(result.image.TransformIndexToPhysicalPoint(corner))
        found = np.argwhere(view.image == result.image[corner])[0]
        assert view.number(int(found[0])) == corner[slice_axis] + 1
        for moved_axis, letter in ((1, view.plane.bottom), (2, view.plane.right)):
            neighbour = found.copy()
            neighbour[moved_axis] += 1 if found[moved_axis] + 1 < view.image.shape[moved_axis] else -1
            array = sitk.GetArrayViewFromImage(result.image)
            index = np.argwhere(array == view.image[tuple(neighbour)])[0][::-1].tolist()
            step = np.array(result.image.TransformIndexToPhysicalPoint(index)) - point
            axis, sign = ways[letter]
            assert step[axis] * sign * (neighbour[moved_axis] - found[moved_axis]) > 0.9


def test_telling_slices_hold_the_largest_change_and_the_largest_area() -> None:
    before = np.zeros((40, 8, 8), bool)
    before[5:35, 2:4, 2:4] = True
    before[10] = True
    after = before.copy()
    after[30, :5] = True
    chosen = report_pictures._telling_slices([before, after])
    assert {10, 30} <= set(chosen) and len(chosen) == report_pictures.SLICES_SHOWN
    assert min(np.diff(sorted(chosen))) >= 3


def test_telling_slices_hold_that_where_most_was_given() -> None:
    """Even if the result has gone elsewhere, where everything changes more."""
    before, after = np.zeros((40, 30, 30), bool), np.zeros((40, 30, 30), bool)
    before[4, :3, :3] = before[5, :4, :4] = True
    after[10:40] = True
    assert 5 in report_pictures._telling_slices([before, after])


def test_the_crop_is_zoomed_on_the_lesion_and_stays_inside() -> None:
    footprint = np.zeros((512, 512), bool)
    footprint[500:510, 200:220] = True
    rows, columns = report_pictures.crop(footprint, (0.5, 0.5))
    assert (rows, columns) == (slice(464, 512), slice(186, 234))


def test_the_png_is_read_back_by_another_reader(tmp_path: Path) -> None:
    pixels = np.arange(report_pictures.REMOVED + 1, dtype=np.uint8).reshape(11, 23)
    (tmp_path / "picture.png").write_bytes(report_pictures.encode_png(pixels))
    colours = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "picture.png")))
    assert colours.shape == (11, 23, 3)
    assert tuple(colours[-1, -1]) == (0xE6, 0x9F, 0x00)
    assert tuple(colours[0, 0]) == (0, 0, 0)


def test_a_file_name_that_is_not_unicode_can_be_reported(tmp_path: Path) -> None:
    assert "M&#56572;ller" in _written(_result(provenance={"image": "M\udcfcller"}), tmp_path)


def test_the_report_is_small(tmp_path: Path) -> None:
    write_report(_result(size=(200, 200, 40)), tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 1_000_000


def test_an_unwritable_folder_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        write_report(_result(), tmp_path / "missing" / "report.html")
