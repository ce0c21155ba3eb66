"""A result's folder read again: the same as what was written, and one sentence about whatever is no such folder."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from tiny_models import ball, picture, voxels, write_uncertainty_model

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.inference.model import Model, load_model
from NoisyLabelSegLib.outcome import Outcome
from NoisyLabelSegLib.pipeline import map_uncertainty
from NoisyLabelSegLib.regions import Region, union
from NoisyLabelSegLib.result import Maps, Result
from NoisyLabelSegLib.saved_result import SavedResult, read_saved_result
from NoisyLabelSegLib.segmentations import Segment, Segmentation, identifiers
from NoisyLabelSegLib.turning import turned, turned_axes
from NoisyLabelSegLib.uncertainty_outputs import FIGURES, GIVEN, UncertaintyOutputs

# An odd grid, whose numbers NIfTI rounds, with left-handed axes.
TURN = sitk.VersorTransform((0.6, 0.64, 0.48), 0.3).GetMatrix()


def oblique(image: sitk.Image) -> sitk.Image:
    image.SetSpacing((0.7, 0.91, 2.3))
    image.SetOrigin((-131.517, 17.251, 1204.125))
    image.SetDirection((np.reshape(TURN, (3, 3)) * (1, 1, -1)).ravel().tolist())
    return image


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Soft, so that it is unsure; it doubts a lot."""
    folder = write_uncertainty_model(
        tmp_path_factory.mktemp("models") / "tiny",
        ("head", "tail"),
        2,
        "unet",
        temperatures=[50.0, 20.0],
        threshold=0.2,
    )
    return load_model(str(folder), "cpu")


@pytest.fixture(scope="module")
def image() -> sitk.Image:
    return oblique(picture(voxels()))


@pytest.fixture(scope="module")
def labels(image: sitk.Image) -> Segmentation:
    drawn = oblique(picture(2 * ball(shift=2)))
    return Segmentation(drawn, (Segment("tail", 2, color=(0.25, 0.5, 1), id="mine", terminology="a~b~c"),))


@pytest.fixture(scope="module")
def results(image: sitk.Image, labels: Segmentation, model: Model) -> dict[str, Result]:
    with_labels, without = map_uncertainty(image, labels, model), map_uncertainty(image, None, model)
    assert with_labels.suspects and not without.suspects
    return {"labels": with_labels, "no labels": without}


@pytest.fixture(scope="module")
def written(results: dict[str, Result], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    for name, result in results.items():
        named = replace(result, provenance={"image": "scan.nii.gz", **result.provenance})
        with UncertaintyOutputs(folder / name).prepared([]):
            UncertaintyOutputs(folder / name).write(named)
    return folder


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written / "labels", tmp_path / "labels"))


def whole(region: Region, grid: Grid) -> np.ndarray[Any, Any]:
    return region.cut(grid.whole_box())


@pytest.mark.parametrize("kind", ["labels", "no labels"])
def test_what_was_written_is_read(written: Path, results: dict[str, Result], kind: str) -> None:
    result, saved = results[kind], read_saved_result(written / kind)
    grid, found = saved.grid, saved.outcome
    assert grid.same_as(Grid.of(result.image), 1e-9)
    own = result.stages[-1].segments
    assert [(s.name, s.id, s.terminology) for s in found.segments] == [
        (s.name, id_, s.terminology) for s, id_ in zip(own, identifiers(own), strict=True)
    ]
    np.testing.assert_allclose([s.color for s in found.segments], [s.color for s in own], atol=1e-6)
    for masks, stage in zip(found.stages, result.stages, strict=True):
        for mask, segment in zip(masks, stage.segments, strict=True):
            np.testing.assert_array_equal(whole(mask, grid), sitk.GetArrayFromImage(stage.mask(segment)) > 0)
    maps = {one.segment or one.name: one for one in found.maps}
    assert list(maps) == [*("entropy", "confidence"), *result.probabilities, *(["suspect"] if kind == "labels" else [])]
    like = grid.empty_image()
    for name, image in {**result.maps, **result.probabilities}.items():
        np.testing.assert_array_equal(
            sitk.GetArrayFromImage(Maps(like, maps)[name]), sitk.GetArrayFromImage(image), err_msg=name
        )
    assert all(one.region.box == found.maps[0].region.box for one in found.maps)
    assert found.statistics == result.statistics and found.suspects == result.suspects
    assert (found.notes, found.slice_axis) == (result.notes, result.slice_axis)
    provenance = json.loads(json.dumps(result.provenance))
    assert found.provenance == {"image": "scan.nii.gz", **provenance}


def test_maps_take_the_room_that_they_and_the_masks_need(copy: Path) -> None:
    for path in copy.glob("*.nii.gz"):
        image = 0 * sitk.ReadImage(str(path)) + (path.name == "confidence.nii.gz")
        image[3, 4, 5] = 0.5
        sitk.WriteImage(image, str(path))
    outcome = read_saved_result(copy).outcome
    needed = union([*(mask.box for stage in outcome.stages for mask in stage), (slice(5, 6), slice(4, 5), slice(3, 4))])
    assert all(one.region.box == needed for one in outcome.maps)
    assert {float(one.region.values.max()) for one in outcome.maps} == {0.5, 1}


def test_nothing_is_written(written: Path) -> None:
    def times() -> list[tuple[str, int]]:
        return sorted((path.name, path.stat().st_mtime_ns) for path in (written / "labels").iterdir())

    before = times()
    read_saved_result(written / "labels")
    assert times() == before


@pytest.mark.parametrize(
    ("name", "at", "found"),
    [
        ("scan.nii.gz", "scan.nii.gz", True),
        ("scan.nii.gz", "out/scan.nii.gz", True),
        ("scan.nii.gz", "out/image_resampled.nrrd", True),
        ("scan.nii.gz", "elsewhere/scan.nii.gz", False),
        ("../scan.nii.gz", "scan.nii.gz", False),
        ("out/scan.nii.gz", "out/scan.nii.gz", False),
        ("notes.txt", "notes.txt", False),
        (3, "scan.nii.gz", False),
        (None, "scan.nii.gz", False),
    ],
)
def test_the_image_is_found_in_the_folder_or_beside_it(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: Any, at: str, found: bool
) -> None:
    saved = read_saved_result(written / "labels")
    outcome = replace(saved.outcome, provenance={"image": name})
    for place in ("out", "elsewhere"):
        (tmp_path / place).mkdir()
    (tmp_path / at).touch()
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path / "out", Path("out")):
        own = SavedResult(folder, saved.grid, outcome).image
        assert (own is not None and own.samefile(tmp_path / at)) == found


def changed(**values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        figures = json.loads((folder / FIGURES).read_text("utf-8"))
        (folder / FIGURES).write_text(json.dumps({**figures, **values}), "utf-8")

    return change


def moved(name: str) -> Callable[[Path], None]:
    def move(folder: Path) -> None:
        image = sitk.ReadImage(str(folder / name))
        image.SetOrigin((0, 0, 0))
        sitk.WriteImage(image, str(folder / name))

    return move


def of_an_earlier_version(folder: Path) -> None:
    figures = json.loads((folder / FIGURES).read_text("utf-8"))
    del figures["version"]
    (folder / FIGURES).write_text(json.dumps(figures), "utf-8")


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def cut_off(folder: Path) -> None:
    path = folder / "suspect.nii.gz"
    path.write_bytes(path.read_bytes()[:200])


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, "is no result of"),
    "no figures": (without(FIGURES), "is no result of"),
    "no segmentation": (without("segmentation.seg.nrrd"), "is no result of"),
    "earlier": (of_an_earlier_version, "another version"),
    "later": (changed(version=2), "another version"),
    "a list": (lambda folder: folder.joinpath(FIGURES).write_text("[]"), "another version"),
    "no JSON": (lambda folder: folder.joinpath(FIGURES).write_text("{"), "cannot be used"),
    "too large": (lambda folder: folder.joinpath(FIGURES).write_text(" " * 2_000_000), "larger than"),
    "a path": (changed(probabilities=["probability_head.nii.gz", "../probability_x.nii.gz"]), "not files of this"),
    "too few": (changed(probabilities=["probability_head.nii.gz"]), "do not belong together"),
    "no statistics": (changed(statistics=[]), "do not belong together"),
    "other suspects": (changed(suspects=[{"rank": 1}]), "lacks the key"),
    "axis": (changed(slice_axis=3), "axis 3 of 0 to 2"),
    "no given labels": (without(GIVEN), "does not exist"),
    "no suspects": (without("suspect.nii.gz"), "does not exist"),
    "no map": (without("entropy.nii.gz"), "does not exist"),
    "cut off": (cut_off, "cannot be read"),
    "moved map": (moved("probability_tail.nii.gz"), "does not lie on the grid"),
    "moved labels": (moved(GIVEN), "does not lie on the grid"),
}


@pytest.mark.parametrize(("spoil", "sentence"), BAD.values(), ids=BAD.keys())
def test_what_is_no_such_folder_is_told(copy: Path, spoil: Callable[[Path], None], sentence: str) -> None:
    spoil(copy)
    with pytest.raises(InputError, match=re.escape(sentence)) as caught:
        read_saved_result(copy)
    assert "labels" in str(caught.value) and "\n" not in str(caught.value)


def _regions(outcome: Outcome) -> list[Region]:
    return [*(mask for stage in outcome.stages for mask in stage), *(one.region for one in outcome.maps)]


@pytest.mark.parametrize("axes", [(), (2,), (0, 1), (0, 1, 2)])
def test_a_turned_grid_has_the_same_voxels(written: Path, axes: tuple[int, ...]) -> None:
    saved = read_saved_result(written / "labels")
    image = sitk.Flip(saved.grid.empty_image(), [axis in axes for axis in range(3)])
    other = Grid.of(image)
    assert turned_axes(saved.grid, other) == axes
    found = turned(saved.outcome, saved.grid.size, axes)
    for one, own in zip(_regions(found), _regions(saved.outcome), strict=True):
        expected = np.flip(whole(own, saved.grid), tuple(2 - axis for axis in axes))
        np.testing.assert_array_equal(whole(one, other), expected)
    for row in found.suspects:
        left, back, up = other.to_physical(row["index"])
        assert row["ras_mm"] == pytest.approx([-left, -back, up])


def test_other_grids_are_not_the_same_voxels(image: sitk.Image) -> None:
    grid = Grid.of(image)
    others = [
        Grid.of(sitk.PermuteAxes(image, [1, 0, 2])),
        replace(grid, spacing=(0.7, 0.91, 2.31)),
        replace(grid, origin=(0.0, 0.0, 0.0)),
        replace(grid, size=(grid.size[0], grid.size[1], grid.size[2] + 1)),
    ]
    assert [turned_axes(grid, other) for other in others] == [None] * 4
    assert turned_axes(grid, replace(grid, origin=tuple(np.add(grid.origin, 1e-4).tolist()))) == ()
