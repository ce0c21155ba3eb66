"""A segmentation from the image alone: the same as with an uncertainty, within a region, without what is too small."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from conftest import Ellipsoid, MakeImage, MakeModel
from numpy.typing import NDArray
from tiny_models import write_case, write_uncertainty_model
from torch import Tensor, nn

from NoisyLabelSegLib import cli, metrics
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.images import read_image, same_grid, write_image
from NoisyLabelSegLib.inference.model import Model, load_model
from NoisyLabelSegLib.inference.preprocessing import Intensity, Preprocessing
from NoisyLabelSegLib.methods.weak_to_strong import Arguments, one_object, slices_border, without_small_objects
from NoisyLabelSegLib.part import Part
from NoisyLabelSegLib.pipeline import map_uncertainty, segment
from NoisyLabelSegLib.regions import masks_of
from NoisyLabelSegLib.segmentations import Segment, Segmentation, read_segmentation
from NoisyLabelSegLib.worker.kinds import WarmModel, outcome_of
from NoisyLabelSegLib.worker.messages import Request
from training import calibrate
from training.data.cases import Case, DataSet
from training.prediction import stage_labels

TWO = Preprocessing(2, (32, 32), 8, (), 16, Intensity("min-max", "case"))
THREE = Preprocessing(3, (16, 32, 32), 6, (), 16, Intensity("min-max", "case"))
RESAMPLED = Preprocessing(3, (16, 32, 32), 6, (1.0, 1.0, 1.0), 16, Intensity("min-max", "case"))
ALL = pytest.mark.parametrize("preprocessing", [TWO, THREE, RESAMPLED], ids=["2D", "3D", "resampled"])
SHAPE = (18, 44, 52)


class Bright(nn.Module):
    """A lesion is what is brighter than half."""

    def forward(self, image: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(image), 40 * (image - 0.5)], dim=1)


def of_kind(model: Model, kind: Any, method: str, **arguments: Any) -> Model:
    description = replace(model.description, kind=kind, method=method, method_arguments=arguments)
    return replace(model, description=description)


def array(image: sitk.Image) -> NDArray[Any]:
    return sitk.GetArrayFromImage(image)


@pytest.fixture(scope="module")
def scene(make_image: MakeImage, ellipsoid: Ellipsoid) -> tuple[sitk.Image, NDArray[Any]]:
    """A large lesion, and a speck of 8 voxels."""
    truth = ellipsoid(SHAPE, (8, 19, 33), (4, 8, 8)).astype(np.uint8)
    truth[4:6, 34:36, 10:12] = 1
    return make_image(truth + np.random.default_rng(0).normal(0, 0.02, SHAPE).astype(np.float32)), truth


@ALL
def test_it_finds_what_an_uncertainty_finds(
    scene: tuple[sitk.Image, NDArray[Any]], make_model: MakeModel, preprocessing: Preprocessing
) -> None:
    image, truth = scene
    model = make_model(Bright(), preprocessing)
    found = segment(image, None, of_kind(model, "segment", "weak_to_strong"))
    other = map_uncertainty(image, None, of_kind(model, "uncertainty", "affinity_umamba"))
    labels = array(found.stages[-1].label_map())
    assert (labels == truth).mean() > 0.99 and not array(found.stages[0].label_map()).any()
    assert np.array_equal(labels, array(other.stages[-1].label_map()))
    for name in ("entropy", "confidence"):
        assert same_grid(found.maps[name], image)
        assert np.array_equal(array(found.maps[name]), array(other.maps[name]))
    assert list(found.maps) == ["entropy", "confidence"] and not found.suspects


@ALL
def test_nothing_is_found_outside_of_the_region_of_interest(
    scene: tuple[sitk.Image, NDArray[Any]], make_image: MakeImage, make_model: MakeModel, preprocessing: Preprocessing
) -> None:
    image, truth = scene
    roi = np.zeros(SHAPE, np.uint8)
    roi[3:12, 8:30, 20:33] = 1
    model = of_kind(make_model(Bright(), preprocessing), "segment", "weak_to_strong")
    found = array(segment(image, Segmentation(make_image(roi), (Segment("here", 1),)), model).stages[-1].label_map())
    assert not found[roi == 0].any()
    assert (found == truth)[roi > 0].mean() > 0.99 and found.any()
    with pytest.raises(InputError, match="region of interest is empty"):
        segment(image, Segmentation(make_image(0 * roi), ()), model)


@ALL
def test_what_the_region_of_interest_cuts_is_told(
    scene: tuple[sitk.Image, NDArray[Any]], make_image: MakeImage, make_model: MakeModel, preprocessing: Preprocessing
) -> None:
    image, _ = scene
    model = of_kind(make_model(Bright(), preprocessing), "segment", "weak_to_strong")
    for last, cut in ((44, False), (33, True)):
        roi = np.zeros(SHAPE, np.uint8)
        roi[1:17, 8:30, 20:last] = 1
        notes = segment(image, Segmentation(make_image(roi), (Segment("here", 1),)), model).notes
        assert any("was cut there" in note for note in notes) == cut


def test_what_is_too_small_is_left_out_and_counted(
    scene: tuple[sitk.Image, NDArray[Any]], make_model: MakeModel
) -> None:
    image, _ = scene
    plain = make_model(Bright(), THREE)
    volume = 8 * float(np.prod(image.GetSpacing()))
    for smallest, kept in ((0.99 * volume, True), (1.01 * volume, False)):
        result = segment(image, None, of_kind(plain, "segment", "weak_to_strong", smallest_mm3=smallest))
        assert bool(array(result.stages[-1].label_map())[4:6, 34:36, 10:12].all()) == kept
        assert any("one object too small" in note for note in result.notes) == (not kept)


def test_of_what_hangs_together_the_largest_object_is_kept_and_the_others_counted(
    scene: tuple[sitk.Image, NDArray[Any]], make_image: MakeImage, make_model: MakeModel
) -> None:
    image, truth = scene
    model = of_kind(make_model(Bright(), THREE), "segment", "weak_to_strong", one_object=True)
    result = segment(image, None, model)
    found, speck = array(result.stages[-1].label_map()), (slice(4, 6), slice(34, 36), slice(10, 12))
    assert not found[speck].any() and found.sum() > 0.99 * (truth.sum() - 8)
    assert any("One object apart from the largest one was left out" in note for note in result.notes)
    roi = np.zeros(SHAPE, np.uint8)
    roi[:, 30:, :15] = 1
    here = Segmentation(make_image(roi), (Segment("here", 1),))
    assert array(segment(image, here, model).stages[-1].label_map())[speck].all()


@pytest.mark.parametrize(
    ("least", "kept", "removed"), [(0, 10, 0), (1, 10, 0), (2, 9, 1), (2.5, 7, 2), (7, 7, 2), (8, 0, 3)]
)
def test_objects_count_over_corners(least: float, kept: int, removed: int) -> None:
    mask = np.zeros((4, 6, 9), bool)
    mask[0, 0, 0] = True  # 1
    mask[2, 0, 3] = mask[3, 1, 4] = True  # 2, over a corner
    mask[1, 3:5, 6:9] = True
    mask[2, 5, 8] = True  # 7
    left, count = without_small_objects(mask, least)
    assert (left.sum(), count) == (kept, removed) and not (left & ~mask).any()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"temperatures": [1.0, 2.0]}, "single one"),
        ({"temperatures": [0.0]}, "between 0.01 and 100"),
        ({"smallest_mm3": -1.0}, "smallest_mm3 must lie"),
        ({"least": 3}, "unknown key 'least'"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Arguments.from_json(values)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A desk with an image, a region, and models that segment and that map an uncertainty."""
    folder = tmp_path / "desk"
    write_case(folder)
    for name, kind, method in (("finder", "segment", "weak_to_strong"), ("doubter", "uncertainty", "affinity_umamba")):
        written = write_uncertainty_model(tmp_path / "models" / name, dimensions=2, network="unet", temperatures=[50.0])
        model = json.loads((written / "configs" / "model.json").read_text("utf-8"))
        model |= {"kind": kind, "method": method}
        (written / "configs" / "model.json").write_text(json.dumps(model), encoding="utf-8")
    monkeypatch.setenv("NOISYLABELSEG_MODELS", str(tmp_path / "models"))
    for variable in ("HOME", "XDG_DATA_HOME", "APPDATA"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    monkeypatch.chdir(folder)
    return folder


def test_files_python_and_the_worker_have_the_same_voxels(work: Path) -> None:
    (roi,) = work.glob("mask*")
    given = ["segment", "image.nii.gz", "--model", "finder", "-o", "out", "--device", "cpu"]
    assert cli.main([*given, "--roi", roi.name]) == 0
    names = {path.name for path in Path("out").iterdir()}
    assert names == {
        "segmentation.seg.nrrd",
        "entropy.nii.gz",
        "confidence.nii.gz",
        "probability_nodule.nii.gz",
        "figures.json",
        "report.html",
    }
    image, region = read_image("image.nii.gz"), read_segmentation(roi)
    result = segment(image, region, load_model("finder", "cpu"))
    written = array(read_segmentation(Path("out/segmentation.seg.nrrd")).label_map())
    assert np.array_equal(written, array(result.stages[-1].label_map()))
    provenance = json.loads(Path("out/figures.json").read_text("utf-8"))["provenance"]
    assert provenance["region_of_interest"] == roi.name


@pytest.mark.parametrize(
    ("command", "model", "said"),
    [
        ("segment", "doubter", "use 'noisylabelseg uncertainty'"),
        ("uncertainty", "finder", "use 'noisylabelseg segment'"),
    ],
)
def test_the_wrong_command_names_the_right_one(
    work: Path, command: str, model: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([command, "image.nii.gz", "--model", model, "-o", "out"]) == 2
    assert said in capsys.readouterr().err and not Path("out").exists()


def test_the_worker_segments_within_the_masks_of_a_request(work: Path) -> None:
    image = read_image("image.nii.gz")
    part = Part.whole(image)
    (roi,) = work.glob("mask*")
    region = read_segmentation(roi)
    request = Request(
        kind="segment",
        model="finder",
        device="cpu",
        stages=None,
        grid=part.grid,
        value_range=part.value_range,
        segments=region.segments,
        voxels=part.voxels,
        masks=tuple(masks_of(region)),
    )
    outcome = outcome_of(request, WarmModel(), lambda step: None)
    found = np.zeros(part.voxels.values.shape, bool)
    found[outcome.stages[-1][0].box] = outcome.stages[-1][0].values
    expected = array(segment(image, region, load_model("finder", "cpu")).stages[-1].label_map()) > 0
    assert np.array_equal(found, expected)


@ALL
def test_training_measures_it_in_the_window_in_which_it_measures_an_uncertainty(
    scene: tuple[sitk.Image, NDArray[Any]], make_model: MakeModel, preprocessing: Preprocessing, tmp_path: Path
) -> None:
    image, truth = scene
    coarse = sitk.GetImageFromArray((truth * (np.indices(SHAPE)[0] > 7)).astype(np.uint8))
    coarse.CopyInformation(image)
    paths = {name: tmp_path / f"{name}.nrrd" for name in ("image", "coarse")}
    for name, one in (("image", image), ("coarse", coarse)):
        write_image(paths[name], one)
    case, model = Case("a", paths["image"], coarse=paths["coarse"]), make_model(Bright(), preprocessing)
    kinds = (("segment", "weak_to_strong"), ("uncertainty", "affinity_umamba"))
    given, found = stage_labels(of_kind(model, *kinds[0]), case, 1)
    _, other = stage_labels(of_kind(model, *kinds[1]), case, 1)
    assert np.array_equal(found, other)
    assert np.array_equal(given, array(coarse))
    assert found.any() and found.sum() < truth.sum()


@pytest.mark.parametrize("preprocessing", [TWO, THREE], ids=["2D", "3D"])
def test_a_table_can_measure_in_the_window_about_the_coarse_mask(
    scene: tuple[sitk.Image, NDArray[Any]], make_model: MakeModel, preprocessing: Preprocessing, tmp_path: Path
) -> None:
    image, truth = scene
    masks = {"image": image, "label": truth, "coarse": (truth * (np.indices(SHAPE)[2] > 20)).astype(np.uint8)}
    for name, one in masks.items():
        one = one if isinstance(one, sitk.Image) else Grid.of(image).image(one)
        write_image(tmp_path / f"{name}.nrrd", one)
    files = [tmp_path / f"{name}.nrrd" for name in masks]
    dataset = DataSet("d", {1: "lesion"}, (Case("a", files[0], files[1], files[2], split="test"),))
    model = of_kind(make_model(Bright(), preprocessing), "segment", "weak_to_strong")
    whole, window = (
        calibrate.measure("m", model, dataset, "test", calibrate.Way(windows)) for windows in (False, True)
    )
    _, found = stage_labels(model, dataset.cases[0], 1)
    assert whole.rows[0]["dice"] > 0.99
    assert window.rows[0] == whole.rows[0] | metrics.evaluate(found == 1, truth == 1, image.GetSpacing()[::-1])
    assert 0 < window.rows[0]["recall"] < whole.rows[0]["recall"]
    one = calibrate.measure("m", model, dataset, "test", calibrate.Way(one_object=True))
    assert 0 < whole.rows[0]["recall"] - one.rows[0]["recall"] < 0.01  # the speck
    voxels = [one.counts["all"][0].total for one in (whole, window)]
    assert voxels[0] == voxels[1] == truth.size


def test_a_model_of_crops_asks_for_a_region(scene: tuple[sitk.Image, NDArray[Any]], make_model: MakeModel) -> None:
    image, truth = scene
    model = of_kind(make_model(Bright(), THREE), "segment", "weak_to_strong", needs_region=True)
    with pytest.raises(InputError, match="draw a region of interest around the place"):
        segment(image, None, model)
    roi = Segmentation(Grid.of(image).image(truth), (Segment("here", 1),))
    assert array(segment(image, roi, model).stages[-1].label_map()).any()


@pytest.mark.parametrize(
    ("slice_axis", "kept"),
    [(2, "middle"), (1, "middle"), (0, "low")],
    ids=["K", "J", "I"],
)
def test_the_one_object_is_the_largest_that_touches_no_border_of_the_slices(slice_axis: int, kept: str) -> None:
    mask = np.zeros((6, 12, 14), bool)
    objects = {"corner": np.s_[:, 0:5, 0:4], "low": np.s_[2:4, 4:8, 10:14], "middle": np.s_[1:5, 7:9, 5:8]}
    for place in objects.values():
        mask[place] = True
    whole = tuple(slice(0, size) for size in mask.shape)
    found, others = one_object(mask, slices_border(whole, mask.shape, slice_axis))
    assert found[objects[kept]].all() and found.sum() == mask[objects[kept]].sum() and others == 2


def test_if_every_object_touches_the_border_the_largest_is_kept() -> None:
    mask = np.zeros((3, 8, 8), bool)
    mask[:, :2, :3] = mask[:, 6:, :2] = True
    found, others = one_object(mask, slices_border(tuple(slice(0, n) for n in mask.shape), mask.shape, 2))
    assert found[:, :2].sum() == 18 == found.sum() and others == 1
    nothing, none = one_object(mask & False, mask)
    assert not nothing.any() and none == 0


def test_the_border_of_a_part_is_the_images_border_alone() -> None:
    whole = slices_border((slice(0, 3), slice(0, 6), slice(0, 7)), (3, 6, 7), 2)
    assert whole.sum() == 3 * (6 * 7 - 4 * 5) and not whole[:, 1:-1, 1:-1].any()
    part = (slice(0, 2), slice(1, 5), slice(3, 7))
    assert np.array_equal(slices_border(part, (3, 6, 7), 2), whole[part])
