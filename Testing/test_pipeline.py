"""One request, from image and mask to `Result`, with networks whose behaviour is known."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from conftest import Ellipsoid, MakeImage, MakeModel
from torch import Tensor, nn
from torch.nn import functional as F

from NoisyLabelSegLib.bundle import ExpectedIntensity
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.inference import predictor
from NoisyLabelSegLib.inference.checks import mask_remarks
from NoisyLabelSegLib.inference.model import Model
from NoisyLabelSegLib.inference.preprocessing import Intensity, Preprocessing, needed_box
from NoisyLabelSegLib.networks import build
from NoisyLabelSegLib.outcome import Outcome
from NoisyLabelSegLib.part import Part
from NoisyLabelSegLib.pipeline import RefineSettings, refine
from NoisyLabelSegLib.progress import Step
from NoisyLabelSegLib.progression import doubts
from NoisyLabelSegLib.refinement import refine_part
from NoisyLabelSegLib.regions import Region, masks_of, region_of
from NoisyLabelSegLib.result import Result
from NoisyLabelSegLib.segmentations import Segment, Segmentation, identifiers

TWO = Preprocessing(2, (32, 32), 8, (), 16, Intensity("min-max", "case"))
THREE = Preprocessing(3, (16, 32, 32), 6, (), 16, Intensity("min-max", "case"))
RESAMPLED = Preprocessing(3, (16, 32, 32), 6, (1.0, 1.0, 1.0), 16, Intensity("min-max", "case"))
CODES = ["LPS", "RAS", "LAI", "PIR", "SLA", "ASL", "IRP", "PSR"]


class Bright(nn.Module):
    """Each class k is where the smoothed image lies between its bounds; the mask that is given counts for little."""

    def __init__(self, *bounds: tuple[float, float]) -> None:
        super().__init__()
        self.bounds = bounds

    def forward(self, inputs: Tensor) -> Tensor:
        image = inputs[:, :1]
        pool = F.avg_pool2d if image.ndim == 4 else F.avg_pool3d
        smooth = pool(image, 3, 1, 1, count_include_pad=False)[:, 0]
        inside = [40 * torch.minimum(smooth - low, high - smooth) for low, high in self.bounds]
        masks = [0.1 * inputs[:, 1 + k] for k in range(len(inside))]
        return torch.stack([torch.zeros_like(smooth), *(a + b for a, b in zip(inside, masks, strict=True))], dim=1)


@pytest.fixture(scope="module")
def scene(make_image: MakeImage, ellipsoid: Ellipsoid) -> tuple[sitk.Image, np.ndarray, Segmentation]:
    """A bright, lopsided structure in noise, the truth, and a shifted coarse mask."""
    shape = (18, 44, 52)
    truth = ellipsoid(shape, (8, 19, 27), (4, 8, 9)) | ellipsoid(shape, (9, 25, 20), (3, 5, 4))
    noise = np.random.default_rng(0).normal(0, 0.05, shape)
    image = make_image((truth + noise).astype(np.float32))
    coarse = np.roll(truth, (1, 4, -3), (0, 1, 2)).astype(np.uint8)
    return image, truth, Segmentation(make_image(coarse), (Segment("Nodule", 1, 0, (0, 1, 0), "N1", ""),))


@pytest.fixture(scope="module")
def model(make_model: MakeModel) -> Model:
    return make_model(Bright((0.5, 9)), TWO)


def mask(segmentation: Segmentation, place: int = 0) -> np.ndarray:
    return sitk.GetArrayFromImage(segmentation.mask(segmentation.segments[place])) > 0


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def two_segments(make_image: MakeImage, ellipsoid: Ellipsoid) -> tuple[sitk.Image, Segmentation]:
    shape = (12, 48, 64)
    first, second = ellipsoid(shape, (6, 20, 18), (3, 8, 8)), ellipsoid(shape, (6, 28, 46), (3, 9, 7))
    image = make_image((first + 2 * second + np.random.default_rng(0).normal(0, 0.05, shape)).astype(np.float32))
    coarse = np.roll(first * 1 + second * 5, (0, 3, 2), (0, 1, 2)).astype(np.int16)
    return image, Segmentation(make_image(coarse), (Segment("first", 1, id="a"), Segment("second", 5, id="b")))


def test_the_result_is_close_to_the_truth_and_the_given_mask_unchanged(
    scene: tuple[sitk.Image, np.ndarray, Segmentation], model: Model
) -> None:
    image, truth, given = scene
    before = mask(given).copy()
    result = refine(image, given, model)
    assert dice(before, truth) < 0.75 < 0.9 < dice(mask(result.stages[-1]), truth)
    assert np.array_equal(mask(given), before)
    assert np.array_equal(mask(result.stages[0]), before)
    assert result.image is image
    for stage in result.stages:
        assert stage.names == ("Nodule",)
        assert (stage.segments[0].color, stage.segments[0].id) == ((0, 1, 0), "N1")
        assert stage.image.GetOrigin() == image.GetOrigin()
        assert stage.image.GetDirection() == image.GetDirection()
    probability = sitk.GetArrayFromImage(result.probabilities["N1"])
    assert probability.dtype == np.float32
    assert 0 <= probability.min() <= probability.max() <= 1
    assert np.array_equal(probability > 0.5, mask(result.stages[-1]))


def refined_turned(
    scene: tuple[sitk.Image, np.ndarray, Segmentation], model: Model, code: str, direction: np.ndarray | None = None
) -> np.ndarray:
    """The result for the scene in another orientation, turned back."""
    image, _, given = scene
    pictures = [sitk.DICOMOrient(picture, code) for picture in (image, given.image)]
    if direction is not None:
        for picture in pictures:
            turned = direction @ np.array(picture.GetDirection()).reshape(3, 3)
            picture.SetDirection(turned.ravel().tolist())
    result = refine(pictures[0], replace(given, image=pictures[1]), model).stages[-1]
    back = result.mask(result.segments[0])
    back.SetDirection(sitk.DICOMOrient(image, code).GetDirection())
    return sitk.GetArrayFromImage(sitk.DICOMOrient(back, "LPS")) > 0


def networks(make_model: MakeModel, preprocessing: Preprocessing, kind: str) -> Model:
    if kind == "bright":
        return make_model(Bright((0.5, 9)), preprocessing)
    torch.manual_seed(3)
    network = build(
        "unet", spatial_dims=preprocessing.dimensions, in_channels=2, out_channels=2, features=[4] * 6, norm="instance"
    )
    return make_model(network, preprocessing)


@pytest.mark.parametrize("kind", ["bright", "random U-Net"])
@pytest.mark.parametrize("preprocessing", [TWO, THREE, RESAMPLED], ids=["2D", "3D", "3D resampled"])
def test_axes_flips_and_directions_do_not_matter(
    scene: tuple[sitk.Image, np.ndarray, Segmentation], make_model: MakeModel, preprocessing: Preprocessing, kind: str
) -> None:
    model = networks(make_model, preprocessing, kind)
    expected = refined_turned(scene, model, "LPS")
    assert expected.any()
    c, s = np.cos(np.deg2rad(10)), np.sin(np.deg2rad(10))
    turns = [np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]), np.array([[1, 0, 0], [0, c, -s], [0, s, c]])]
    for code in CODES[1:] if kind == "bright" else CODES[3:5]:
        assert dice(refined_turned(scene, model, code), expected) >= 0.995, code
    for direction in turns:
        for code in ("LPS", "PIR"):
            assert dice(refined_turned(scene, model, code, direction), expected) >= 0.995, code


def test_a_mask_on_another_grid_is_brought_to_the_image_and_said(
    scene: tuple[sitk.Image, np.ndarray, Segmentation], model: Model
) -> None:
    image, _, given = scene
    turned = replace(given, image=sitk.DICOMOrient(given.image, "RAI"))
    result = refine(image, turned, model)
    assert any("another grid" in note for note in result.notes)
    assert np.array_equal(mask(result.stages[-1]), mask(refine(image, given, model).stages[-1]))
    away = sitk.Image(given.image)
    away.SetOrigin((5000, 0, 0))
    with pytest.raises(InputError, match="do not overlap"):
        refine(image, replace(given, image=away), model)


def test_segments_that_are_not_selected_stay(
    make_image: MakeImage, ellipsoid: Ellipsoid, make_model: MakeModel
) -> None:
    image, given = two_segments(make_image, ellipsoid)
    model = make_model(Bright((0.2, 9)), TWO)
    result = refine(image, given, model, RefineSettings(segments=("second",)))
    assert np.array_equal(
        mask(result.stages[-1], 0) & ~mask(result.stages[-1], 1), mask(given, 0) & ~mask(result.stages[-1], 1)
    )
    assert not np.array_equal(mask(result.stages[-1], 1), mask(given, 1))
    assert list(result.probabilities) == ["b"]
    untouched = [row for row in result.statistics if row["segment"] == "first"]
    assert all(row["changed_voxels"] == 0 for row in untouched)


def test_segments_keep_their_labels_and_settle_what_both_grow_into(
    make_image: MakeImage, ellipsoid: Ellipsoid, make_model: MakeModel
) -> None:
    image, given = two_segments(make_image, ellipsoid)
    narrow = Preprocessing(2, (16, 16), 4, (), 16, Intensity("min-max", "case"))
    apart = refine(image, given, make_model(Bright((0.2, 9)), narrow)).stages[-1]
    assert [segment.label for segment in apart.segments] == [1, 5]
    # In a window as wide as the image either segment takes both structures, most surely where it was before.
    wide = make_model(Bright((0.2, 9)), Preprocessing(2, (128, 128), 8, (), 16, TWO.intensity))
    result = refine(image, given, wide)
    both = sitk.GetArrayFromImage(image) > 0.5
    for stage in result.stages[1:]:
        assert [segment.label for segment in stage.segments] == [1, 5]
        assert stage.image.GetNumberOfComponentsPerPixel() == 1
        stage.label_map()
        for place in range(2):
            kept = mask(given, place) & both
            assert (kept & mask(stage, place)).sum() > 0.95 * kept.sum()
    assert dice(mask(result.stages[-1], 0) | mask(result.stages[-1], 1), both) > 0.85
    assert result.statistics[-1]["volume_mm3"] == pytest.approx(
        mask(result.stages[-1], 1).sum() * np.prod(image.GetSpacing())
    )
    assert sum("'first' and 'second' grew into each other" in note for note in result.notes) == 1


def test_segments_that_overlapped_when_given_may_overlap_more(
    make_image: MakeImage, ellipsoid: Ellipsoid, make_model: MakeModel
) -> None:
    image, given = two_segments(make_image, ellipsoid)
    layers = np.stack([mask(given, 0), mask(given, 1)], axis=-1).astype(np.uint8)
    layers[6, 20, 18] = layers[6, 28, 46] = 1
    picture = sitk.GetImageFromArray(layers, isVector=True)
    picture.CopyInformation(image)
    given = Segmentation(picture, (Segment("first", 1, 0), Segment("second", 1, 1)))
    wide = make_model(Bright((0.2, 9)), Preprocessing(2, (128, 128), 8, (), 16, TWO.intensity))
    result = refine(image, given, wide)
    assert result.stages[-1].image.GetNumberOfComponentsPerPixel() == 2
    assert dice(mask(result.stages[-1], 0), mask(result.stages[-1], 1)) > 0.99
    assert not any("grew into" in note for note in result.notes)


@pytest.mark.parametrize("ids", [("Segment_2", ""), ("", "Segment_1"), ("x", "x"), ("", "")])
def test_every_refined_segment_has_its_own_probabilities(
    make_image: MakeImage, ellipsoid: Ellipsoid, make_model: MakeModel, ids: tuple[str, str]
) -> None:
    image, given = two_segments(make_image, ellipsoid)
    given = replace(given, segments=tuple(replace(s, id=i) for s, i in zip(given.segments, ids, strict=True)))
    narrow = Preprocessing(2, (16, 16), 4, (), 16, Intensity("min-max", "case"))
    result = refine(image, given, make_model(Bright((0.2, 9)), narrow))
    assert list(result.probabilities) == identifiers(given.segments)
    for place, probability in enumerate(result.probabilities.values()):
        assert np.array_equal(sitk.GetArrayFromImage(probability) > 0.5, mask(result.stages[-1], place))


def test_a_large_image_costs_what_the_structure_costs(make_model: MakeModel) -> None:
    """Whole arrays of the image's size must not be made again and again: 300 million bytes of voxels, in seconds."""
    image = sitk.Image((512, 512, 300), sitk.sitkUInt8)
    image[200:210, 250:260, 100:105] = 1
    given = Segmentation(image, (Segment("n", 1),))
    started = time.process_time()
    refine(image, given, make_model(Bright((0.2, 9)), TWO), RefineSettings(stages=2))
    assert time.process_time() - started < 5


def test_overlapping_segments_are_refined_each_on_its_own(
    scene: tuple[sitk.Image, np.ndarray, Segmentation], model: Model
) -> None:
    image, _, given = scene
    layer = sitk.GetArrayFromImage(given.image)
    both = np.stack([layer, np.roll(layer, 2, 1)], axis=-1)
    picture = sitk.GetImageFromArray(both, isVector=True)
    picture.CopyInformation(image)
    overlapping = Segmentation(picture, (Segment("a", 1, 0), Segment("b", 1, 1)))
    result = refine(image, overlapping, model)
    alone = refine(image, given, model)
    assert np.array_equal(mask(result.stages[0], 1), both[..., 1] > 0)
    assert np.array_equal(mask(result.stages[-1], 0), mask(alone.stages[-1]))
    assert len(result.probabilities) == 2


@pytest.mark.parametrize("names", [("one", "two"), ("TWO", "one"), ("Label 1", "Label 2")])
def test_a_model_of_several_structures_finds_them_by_name_or_value(
    make_image: MakeImage, ellipsoid: Ellipsoid, make_model: MakeModel, names: tuple[str, str]
) -> None:
    image, given = two_segments(make_image, ellipsoid)
    swapped = names[0] == "TWO"
    given = replace(given, segments=tuple(replace(s, name=n) for s, n in zip(given.segments, names, strict=True)))
    bounds = ((0.2, 0.6), (0.6, 9.0))
    result = refine(image, given, make_model(Bright(*bounds), TWO, ("one", "two")))
    final, truth = result.stages[-1], sitk.GetArrayFromImage(image)
    assert final.names == names
    brightness = [float(truth[mask(final, place)].mean()) for place in range(2)]
    assert brightness == pytest.approx([2, 1] if swapped else [1, 2], abs=0.35)


def test_where_structures_touch_resampling_leaves_neither_gaps_nor_overlaps(
    make_image: MakeImage, make_model: MakeModel
) -> None:
    """Working voxels of twice the size put the border of two structures exactly on the middle of given voxels."""
    voxels = np.zeros((21, 41, 41), np.float32)
    voxels[6:15, 8:33, 8:21], voxels[6:15, 8:33, 21:33] = 1, 2
    coarse = make_image(voxels.astype(np.uint8), (0.5, 0.5, 0.5))
    given = Segmentation(coarse, (Segment("one", 1), Segment("two", 2)))
    preprocessing = Preprocessing(3, (8, 16, 16), 4, (1.0, 1.0, 1.0), 8, Intensity("min-max", "case"))

    class Given(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return 9 * torch.cat([0.5 + 0 * inputs[:, :1], inputs[:, 1:]], dim=1)

    for shift in range(4):
        moved = replace(given, image=make_image(np.roll(voxels, shift, 2).astype(np.uint8), (0.5, 0.5, 0.5)))
        image = make_image(np.roll(voxels, shift, 2), (0.5, 0.5, 0.5))
        final = refine(image, moved, make_model(Given(), preprocessing, ("one", "two"))).stages[-1]
        one, two = mask(final, 0), mask(final, 1)
        assert final.image.GetNumberOfComponentsPerPixel() == 1
        assert not (one & two).any()
        middle = (one | two)[10, 20]
        assert np.flatnonzero(np.diff(middle.astype(int))).size == 2, "one run without a gap"


def test_from_nothing(scene: tuple[sitk.Image, np.ndarray, Segmentation], model: Model) -> None:
    image, truth, _ = scene
    result = refine(image, None, model)
    assert not mask(result.stages[0]).any()
    assert dice(mask(result.stages[-1]), truth) > 0.9
    assert result.stages[-1].names == ("lesion",)
    assert result.statistics[0]["volume_mm3"] == 0
    assert all(row["dice_to_given"] is None and row["hd95_to_given_mm"] is None for row in result.statistics)
    assert not any("is refined as" in note or "extended" in note for note in result.notes)


def test_a_result_that_barely_resembles_the_given_mask_is_the_first_note(
    scene: tuple[sitk.Image, np.ndarray, Segmentation], make_model: MakeModel
) -> None:
    image, _, given = scene
    array = np.zeros_like(sitk.GetArrayFromImage(given.image))
    array[8, 18:21, 26:29] = 1
    tiny = sitk.GetImageFromArray(array)
    tiny.CopyInformation(image)
    result = refine(image, replace(given, image=tiny), make_model(Bright((0.5, 9)), TWO))
    assert result.notes[0].startswith("The result barely resembles the given mask of 'Nodule' (Dice 0.")
    assert result.notes[0].endswith("): check it before use.")
    extended = (mask(result.stages[-1]).any(axis=(1, 2)) & ~array.any(axis=(1, 2))).sum()
    assert f"The mask of 'Nodule' was extended to {extended} slices where it was empty." in result.notes
    assert not any("barely resembles" in note for note in refine(image, given, make_model(Bright((0.5, 9)), TWO)).notes)


@pytest.mark.parametrize(
    ("volumes", "dice_to_given", "said"),
    [
        ((10.0, 170.0), 0.1, "(Dice 0.10, volume x 17)"),
        ((10.0, 21.0), 0.64, "(Dice 0.64, volume x 2.10)"),
        ((10.0, 0.0), 0.0, "(Dice 0.00, volume x 0.00)"),
        ((10.0, 20.0), 0.5, ""),
        ((0.0, 20.0), 0.0, ""),
        ((0.0, 20.0), None, ""),
    ],
)
def test_doubts(volumes: tuple[float, float], dice_to_given: float | None, said: str) -> None:
    rows = [{"segment": "a", "volume_mm3": volume, "dice_to_given": dice_to_given} for volume in volumes]
    sentences = doubts(rows, 2)
    assert len(sentences) == bool(said) and all(said in sentence for sentence in sentences)


@pytest.mark.parametrize(("name", "noted"), [("Nodule", True), ("LESION", False)])
def test_what_segments_are_taken_for_is_said(
    scene: tuple[sitk.Image, np.ndarray, Segmentation], model: Model, name: str, noted: bool
) -> None:
    image, _, given = scene
    result = refine(image, replace(given, segments=(replace(given.segments[0], name=name),)), model)
    assert (f"'{name}' is refined as lesion." in result.notes) == noted
    assert result.stages[-1].segments[0].name == name


def test_the_only_segment_of_a_label_map_gets_the_models_name_and_keeps_its_value(
    scene: tuple[sitk.Image, np.ndarray, Segmentation], model: Model
) -> None:
    image, _, given = scene
    plain = Segmentation(given.image * 7, (Segment("Label 7", 7),))
    result = refine(image, plain, model, RefineSettings(segments=("Label 7",)))
    label = model.description.labels[0]
    assert "'Label 7' is refined as lesion." in result.notes
    for stage in result.stages:
        (segment,) = stage.segments
        assert (segment.name, segment.label, segment.color) == (label.name, 7, label.color)
        assert set(np.unique(sitk.GetArrayFromImage(stage.image))) == {0, 7}


def test_statistics(scene: tuple[sitk.Image, np.ndarray, Segmentation], model: Model) -> None:
    image, _, given = scene
    result = refine(image, given, model)
    assert [(row["segment"], row["stage"]) for row in result.statistics] == [
        ("Nodule", n) for n in range(len(result.stages))
    ]
    voxel, previous = float(np.prod(image.GetSpacing())), mask(given)
    for row, stage in zip(result.statistics, result.stages, strict=True):
        found = mask(stage)
        assert row["volume_mm3"] == pytest.approx(found.sum() * voxel)
        assert row["dice_to_given"] == pytest.approx(dice(found, mask(given)))
        assert row["changed_voxels"] == (found != previous).sum()
        previous = found
    assert result.statistics[0]["hd95_to_previous_mm"] is None
    assert result.statistics[0]["dice_to_given"] == 1
    assert 0 < result.statistics[1]["hd95_to_previous_mm"] < 20
    assert result.statistics[0]["hd95_to_given_mm"] is None
    assert result.statistics[1]["hd95_to_given_mm"] == result.statistics[1]["hd95_to_previous_mm"]
    assert result.statistics[-1]["hd95_to_given_mm"] > 0


def test_provenance_is_plain_json(scene: tuple[sitk.Image, np.ndarray, Segmentation], model: Model) -> None:
    image, _, given = scene
    result = refine(image, given, model, RefineSettings(stages=2))
    assert json.loads(json.dumps(result.provenance)) == result.provenance
    assert result.provenance["settings"]["stages"] == 2
    assert (result.provenance["model"]["name"], result.provenance["device"]) == ("tiny", "cpu")
    json.dumps(result.statistics)


def stages_of(result: Result) -> int:
    return len(result.stages) - 1


@pytest.mark.parametrize("wanted", [1, 2, 9])
def test_stages_are_bounded_and_an_early_end_is_recorded(
    scene: tuple[sitk.Image, np.ndarray, Segmentation], model: Model, wanted: int
) -> None:
    image, _, given = scene
    result = refine(image, given, model, RefineSettings(stages=wanted))
    assert stages_of(result) <= wanted
    assert result.provenance["stopped_early"] == (stages_of(result) < wanted)
    for number in (0, 10):
        with pytest.raises(InputError, match="between 1 and 9"):
            RefineSettings(stages=number)


def test_progress_rises_and_its_exception_cancels(
    scene: tuple[sitk.Image, np.ndarray, Segmentation], model: Model
) -> None:
    image, _, given = scene
    seen: list[float] = []
    refine(image, given, model, progress=lambda step: seen.append(step.done))
    assert seen == sorted(seen) and seen[0] == 0 < seen[-1] <= 1

    def cancel(step: Step) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        refine(image, given, model, progress=cancel)


def test_each_slice_is_told_and_a_cancel_works_between_two(
    scene: tuple[sitk.Image, np.ndarray, Segmentation], model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, _, given = scene
    monkeypatch.setattr(predictor, "CPU_VOXELS", 1)
    steps: list[Step] = []
    refine(image, given, model, RefineSettings(stages=2), steps.append)
    first = [step for step in steps if step.stage == 1]
    slices = first[0].slices
    assert [step.slice for step in first] == list(range(slices + 1))
    assert first[3].text == f"stage 1 of at most 2, slice 3 of {slices}"
    assert first[3].done == pytest.approx(3 / slices / 2)
    assert {(step.stages, step.device) for step in steps} == {(2, "cpu")}

    def cancel(step: Step) -> None:
        if step.slice == 3:
            raise KeyboardInterrupt

    seen: list[int] = []
    watched = replace(model, network=Counted(model.network, seen))
    with pytest.raises(KeyboardInterrupt):
        refine(image, given, watched, progress=cancel)
    assert seen == [1, 1, 1]


class Counted(nn.Module):
    """Another network, and how many items it got each time."""

    def __init__(self, network: nn.Module, seen: list[int]) -> None:
        super().__init__()
        self.network, self.seen = network, seen

    def forward(self, inputs: Tensor) -> Tensor:
        self.seen.append(len(inputs))
        return self.network(inputs)


def test_the_segment_at_hand_is_told_where_there_are_several(
    make_image: MakeImage, ellipsoid: Ellipsoid, make_model: MakeModel
) -> None:
    image, given = two_segments(make_image, ellipsoid)
    steps: list[Step] = []
    refine(image, given, make_model(Bright((0.2, 9)), TWO), progress=steps.append)
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert {step.text.partition(": ")[0] for step in steps} == {"first", "second"}
    assert all(step.done >= 0.5 for step in steps if step.text.startswith("second"))


PARTS = {
    "2D": TWO,
    "2D, each slice on its own": replace(TWO, intensity=Intensity("z-score", "slice")),
    "2D, one slice": replace(TWO, margin=3),
    "2D resampled": replace(TWO, spacing=(1.1, 0.9)),
    "3D": replace(THREE, intensity=Intensity("z-score", "case")),
    "3D resampled": RESAMPLED,
}


def odd_case(make_image: MakeImage, code: str, masks: Sequence[np.ndarray]) -> tuple[sitk.Image, list[Region]]:
    """Noise over an oblique grid whose axes lie as the code says, and masks in regions of it."""
    c, s = np.cos(0.2), np.sin(0.2)
    oblique = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    rng = np.random.default_rng(4)
    structure = np.clip(sum(mask.astype(float) for mask in masks), 0, 1)
    image = sitk.DICOMOrient(make_image((structure + rng.normal(0, 0.4, structure.shape)).astype(np.float32)), code)
    turned = [sitk.DICOMOrient(make_image(mask.astype(np.uint8)), code) for mask in masks]
    image.SetDirection((oblique @ np.reshape(image.GetDirection(), (3, 3))).ravel().tolist())
    return image, [Region(r.box, r.values > 0) for r in map(region_of, turned)]


def needed(whole: Part, masks: Sequence[Region], model: Model) -> Part:
    box = needed_box(whole.grid, [mask.box for mask in masks], model.preprocessing)
    return replace(whole, voxels=Region(box, whole.voxels.values[box].copy()))


def assert_same(a: Outcome, b: Outcome, grid: Grid) -> None:
    """To the last bit, but for time."""
    assert (a.segments, a.statistics, a.notes, a.slice_axis) == (b.segments, b.statistics, b.notes, b.slice_axis)
    assert [len(stage) for stage in a.stages] == [len(stage) for stage in b.stages]
    box = grid.whole_box()
    for one, other in zip(chain(*a.stages), chain(*b.stages), strict=True):
        assert np.array_equal(one.cut(box), other.cut(box))
    for first, second in zip(a.maps, b.maps, strict=True):
        assert (first.name, first.segment) == (second.name, second.segment)
        assert np.array_equal(first.region.cut(box), second.region.cut(box))
    changing = {"seconds", "time"}
    assert {k: v for k, v in a.provenance.items() if k not in changing} == {
        k: v for k, v in b.provenance.items() if k not in changing
    }


@pytest.mark.parametrize("preprocessing", PARTS.values(), ids=PARTS)
@pytest.mark.parametrize("code", ["LPS", "RAS", "PIR", "SLA"])
def test_a_part_gives_what_the_whole_gives(
    make_image: MakeImage, ellipsoid: Ellipsoid, make_model: MakeModel, code: str, preprocessing: Preprocessing
) -> None:
    """A network of random weights changes its mind about any voxel that differs in any bit."""
    shape = (22, 70, 75)
    inner, border = ellipsoid(shape, (10, 30, 33), (2, 5, 6)), ellipsoid(shape, (21, 69, 40), (4, 6, 7))
    flat = np.zeros(shape, bool)
    flat[9, 20:29, 10:20] = True
    for masks, names in (([inner], ["lesion"]), ([inner, border, flat], ["lesion", "b", "c"]), ([flat], ["x"])):
        image, given = odd_case(make_image, code, masks)
        segments = [Segment(name, 1, id=name) for name in names]
        model = networks(make_model, preprocessing, "random U-Net")
        whole = Part.whole(image)
        part = needed(whole, given, model)
        assert part.voxels.values.size < whole.voxels.values.size
        expected = refine_part(whole, segments, given, model)
        assert_same(refine_part(part, segments, given, model), expected, whole.grid)
        assert len(expected.stages) > 1 and any(mask.values.any() for mask in expected.stages[-1])


@pytest.mark.parametrize("preprocessing", PARTS.values(), ids=PARTS)
def test_a_part_gives_what_the_whole_gives_for_several_structures(
    make_image: MakeImage, ellipsoid: Ellipsoid, make_model: MakeModel, preprocessing: Preprocessing
) -> None:
    shape = (22, 60, 75)
    masks = [ellipsoid(shape, (9, 30, 30), (3, 5, 6)), ellipsoid(shape, (11, 38, 40), (3, 6, 5))]
    image, given = odd_case(make_image, "RAS", masks)
    torch.manual_seed(1)
    arguments = {"in_channels": 3, "out_channels": 3, "features": [4] * 6, "norm": "instance"}
    network = build("unet", spatial_dims=preprocessing.dimensions, **arguments)
    model = make_model(network, preprocessing, ("one", "two"))
    whole, segments = Part.whole(image), [Segment("two", 1, id="2"), Segment("one", 1, id="1")]
    expected = refine_part(whole, segments, given, model)
    assert_same(refine_part(needed(whole, given, model), segments, given, model), expected, whole.grid)


def test_whole_images_and_parts_share_one_way(scene: tuple[sitk.Image, np.ndarray, Segmentation], model: Model) -> None:
    image, _, given = scene
    whole, masks = Part.whole(image), masks_of(given)
    result, outcome = (
        refine(image, given, model),
        refine_part(needed(whole, masks, model), given.segments, masks, model),
    )
    for stage, regions in zip(result.stages, outcome.stages, strict=True):
        assert np.array_equal(mask(stage), regions[0].cut(whole.grid.whole_box()))
    assert (result.statistics, result.notes) == (outcome.statistics, outcome.notes)
    (probability,) = outcome.maps
    assert (probability.name, probability.segment, probability.minimum, probability.maximum) == (
        "probability",
        "N1",
        0,
        1,
    )
    assert np.array_equal(
        sitk.GetArrayFromImage(result.probabilities["N1"]), probability.region.cut(whole.grid.whole_box())
    )


def test_remarks_are_those_of_the_whole_image(scene: tuple[sitk.Image, np.ndarray, Segmentation], model: Model) -> None:
    image, _, given = scene
    whole, masks = Part.whole(image), masks_of(given)
    part = needed(whole, masks, model)
    assert not any("border" in note for note in refine_part(part, given.segments, masks, model).notes)
    flat = replace(part, voxels=Region(part.voxels.box, part.voxels.values * 0))
    refine_part(flat, given.segments, masks, model)  # constant is only what is sent
    for value_range, sentence in (((0, 0), "same value everywhere"), ((0, float("nan")), "not a number")):
        with pytest.raises(InputError, match=sentence):
            refine_part(replace(part, value_range=value_range), given.segments, masks, model)
    expected = ExpectedIntensity(-1000, 3000, "CT", "HU", lowest_below=-300)
    strict = replace(model, description=replace(model.description, expected_intensity=(expected,)))
    for low, warned in ((-1000, False), (0, True)):
        notes = refine_part(replace(part, value_range=(low, 9)), given.segments, masks, strict).notes
        assert any("is this CT?" in note for note in notes) == warned
    with pytest.raises(ValueError, match="do not hold the crop"):
        refine_part(replace(part, voxels=masks[0]), given.segments, masks, model)


def test_neighbours_that_are_not_refined_do_not_matter(
    make_image: MakeImage, ellipsoid: Ellipsoid, make_model: MakeModel
) -> None:
    """Who sends the chosen segments alone gets what who sends all of them gets."""
    image, given = two_segments(make_image, ellipsoid)
    wide = make_model(Bright((0.2, 9)), Preprocessing(2, (128, 128), 8, (), 16, TWO.intensity))
    first, second = masks_of(given)
    others = [*given.segments, Segment("third", 1, id="c")]
    chosen = RefineSettings(segments=("first", "second"))
    apart = refine_part(Part.whole(image), given.segments, [first, second], wide)
    all_three = refine_part(Part.whole(image), others, [first, second, first], wide, chosen)
    assert any("grew into each other" in note for note in apart.notes)
    for alone, among in zip(apart.stages, all_three.stages, strict=True):
        assert all(np.array_equal(a.values, b.values) for a, b in zip(alone, among[:2], strict=True))
    assert np.array_equal(all_three.stages[-1][2].values, first.values)


def test_notes(scene: tuple[sitk.Image, np.ndarray, Segmentation], model: Model) -> None:
    image, _, given = scene
    assert any("Slices are axial" in note for note in refine(image, given, model).notes)
    array = sitk.GetArrayFromImage(given.image)
    array[5:12, 10:30, 0] = 1
    border = sitk.GetImageFromArray(array)
    border.CopyInformation(image)
    notes = refine(image, replace(given, image=border), model).notes
    assert any("'Nodule' touches the image's border (R): " in note for note in notes)
    assert len(set(notes)) == len(notes)
    low, high = ExpectedIntensity(-1000, 0.5, "low", "HU"), ExpectedIntensity(0.5, None, "high", "HU")
    anything = ExpectedIntensity(None, None, "anything", "")
    for expected, warned in (((low, high), True), ((low, anything), False), ((), False)):
        strange = replace(model, description=replace(model.description, expected_intensity=expected))
        notes = refine(image, given, strange).notes
        said = [note for note in notes if "is this CT?" in note]
        assert len(said) == warned
        doubt = "Taken for anything: it cannot be checked that this is CT."
        assert notes.count(doubt) == (anything in expected)
        assert all("made for low (-1000 to 0.5 HU) or high (0.5 to any HU)" in note for note in said)


@pytest.mark.parametrize(("code", "sides"), [("LPS", "R, I, S"), ("RAS", "L, I, S"), ("SLA", "I, P, A")])
def test_the_sides_at_which_a_mask_touches_the_border_are_the_patients(code: str, sides: str) -> None:
    orient = sitk.DICOMOrientImageFilter()
    image = sitk.Image((8, 8, 8), sitk.sitkUInt8)
    image.SetDirection(orient.GetDirectionCosinesFromOrientation(code))
    (note,) = mask_remarks((slice(0, 8), slice(2, 5), slice(0, 3)), Grid.of(image), "a")
    assert f"border ({sides}): " in note


def test_what_cannot_be_refined_is_refused(scene: tuple[sitk.Image, np.ndarray, Segmentation], model: Model) -> None:
    image, _, given = scene
    empty = replace(given, image=given.image * 0)
    nothing = Segmentation(given.image * 0, ())
    not_finite = sitk.Image(image)
    not_finite[3, 4, 5] = float("nan")
    other = replace(model, description=replace(model.description, kind="segment"))
    refused: list[tuple[Any, str]] = [
        ((image, empty, model), "mask is empty"),
        ((image, nothing, model), "mask is empty"),
        ((image, replace(empty, image=empty.image[:9, :9, :9]), model), "mask is empty"),
        ((not_finite, given, model), "not a number"),
        ((image * 0, given, model), "same value everywhere"),
        ((image, given, other), "does not fit here"),
        ((image, given, model, RefineSettings(segments=("Liver",))), "no segment 'Liver'"),
    ]
    for arguments, message in refused:
        with pytest.raises(InputError, match=message):
            refine(*arguments)


@pytest.mark.parametrize(
    ("names", "message"), [(("one", "three"), "does not know"), (("one", "Label 1"), "same structure")]
)
def test_names_that_do_not_fit_a_model_of_several_structures(
    make_image: MakeImage, ellipsoid: Ellipsoid, make_model: MakeModel, names: tuple[str, str], message: str
) -> None:
    image, given = two_segments(make_image, ellipsoid)
    given = replace(given, segments=tuple(replace(s, name=n) for s, n in zip(given.segments, names, strict=True)))
    with pytest.raises(InputError, match=message):
        refine(image, given, make_model(Bright((0.2, 0.6), (0.6, 9)), TWO, ("one", "two")))
