"""A segmentation, its uncertainty and the suspect labels, from image and labels to `Result`, with a known network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from conftest import Ellipsoid, MakeImage, MakeModel
from torch import Tensor, nn

from NoisyLabelSegLib.bundle import Network
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import same_grid
from NoisyLabelSegLib.inference.model import Model
from NoisyLabelSegLib.inference.preprocessing import Intensity, Preprocessing, needed_box
from NoisyLabelSegLib.part import Part
from NoisyLabelSegLib.pipeline import UncertaintySettings, map_uncertainty
from NoisyLabelSegLib.progress import Step
from NoisyLabelSegLib.regions import Region, masks_of
from NoisyLabelSegLib.result import Result
from NoisyLabelSegLib.segmentations import Segment, Segmentation
from NoisyLabelSegLib.uncertainty import map_uncertainty_part

TWO = Preprocessing(2, (32, 32), 8, (), 16, Intensity("min-max", "case"))
THREE = Preprocessing(3, (16, 32, 32), 6, (), 16, Intensity("min-max", "case"))
RESAMPLED = Preprocessing(3, (16, 32, 32), 6, (1.0, 1.0, 1.0), 16, Intensity("min-max", "case"))
SHAPE = (18, 44, 52)
Scene = tuple[sitk.Image, np.ndarray, Segmentation]


class Levels(nn.Module):
    """Two branches; class k is where the image is near k / 2, the second branch a little less sure."""

    def forward(self, image: Tensor) -> Tensor:
        first = torch.cat([-40 * (image - k / 2) ** 2 for k in range(3)], dim=1)
        return torch.cat([first, 0.8 * first], dim=1)


@pytest.fixture(scope="module")
def scene(make_image: MakeImage, ellipsoid: Ellipsoid) -> Scene:
    """Two structures of different brightness, the truth, and labels of which a blob of each is wrong."""
    head, tail = ellipsoid(SHAPE, (8, 19, 33), (4, 8, 8)), ellipsoid(SHAPE, (9, 25, 18), (4, 8, 7))
    truth = np.where(head, 1, np.where(tail, 2, 0)).astype(np.uint8)
    noise = np.random.default_rng(0).normal(0, 0.03, SHAPE)
    given = truth.copy()
    given[7:11, 20:26, 16:20] = 1  # in the tail
    given[6:9, 36:40, 20:26] = 2  # in the background
    return make_image((truth + noise).astype(np.float32)), truth, labelled(make_image(given))


def labelled(image: sitk.Image) -> Segmentation:
    return Segmentation(image, (Segment("head", 1, id="H"), Segment("tail", 2, id="T")))


def uncertain(model: Model, **arguments: Any) -> Model:
    description = replace(model.description, kind="uncertainty", method="affinity_umamba", method_arguments=arguments)
    return replace(model, description=description)


@pytest.fixture(scope="module")
def model(make_model: MakeModel) -> Model:
    return uncertain(make_model(Levels(), THREE, ("head", "tail")))


def array(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image)


def labels(result: Result, stage: int = -1) -> np.ndarray:
    return array(result.stages[stage].label_map())


def test_the_segmentation_is_right_and_the_wrong_labels_are_found_first(scene: Scene, model: Model) -> None:
    image, truth, given = scene
    result = map_uncertainty(image, given, model)
    found = labels(result)
    for value in (1, 2):
        assert 2 * ((found == value) & (truth == value)).sum() > 0.9 * ((found == value).sum() + (truth == value).sum())
    assert np.array_equal(labels(result, 0), array(given.image)), "the given labels are kept"
    first, second, *_ = result.suspects
    assert {(row["given"], row["suggested"]) for row in (first, second)} == {("head", "tail"), ("tail", "background")}
    assert [row["rank"] for row in result.suspects] == list(range(1, len(result.suspects) + 1))
    for row in (first, second):
        k, j, i = row["index"][::-1]
        assert array(given.image)[k, j, i] == row["given_label"] != truth[k, j, i] == row["suggested_label"]
        left, back, up = image.TransformIndexToPhysicalPoint(row["index"])
        assert row["ras_mm"] == pytest.approx([-left, -back, up])


@pytest.mark.parametrize("preprocessing", [TWO, THREE, RESAMPLED], ids=["2D", "3D", "resampled"])
def test_maps_lie_on_the_images_grid_and_between_their_bounds(
    scene: Scene, make_model: MakeModel, preprocessing: Preprocessing
) -> None:
    image, _, given = scene
    result = map_uncertainty(image, given, uncertain(make_model(Levels(), preprocessing, ("head", "tail"))))
    assert list(result.maps) == ["entropy", "confidence", "suspect"] and list(result.probabilities) == ["H", "T"]
    for map_ in (*result.maps.values(), *result.probabilities.values(), *(s.image for s in result.stages)):
        assert same_grid(map_, image)
    for map_ in (*result.maps.values(), *result.probabilities.values()):
        assert map_.GetPixelID() == sitk.sitkFloat32 and array(map_).min() >= 0 and array(map_).max() <= 1
    p = np.stack([array(map_) for map_ in result.probabilities.values()])
    p = np.concatenate([1 - p.sum(axis=0, keepdims=True), p])
    np.testing.assert_allclose(array(result.maps["confidence"]), p.max(axis=0), atol=1e-5)
    entropy = -np.where(p > 1e-12, p * np.log(np.maximum(p, 1e-12)), 0).sum(axis=0) / np.log(3)
    np.testing.assert_allclose(array(result.maps["entropy"]), entropy, atol=1e-4)
    assert np.array_equal(labels(result), p.argmax(axis=0))
    assert len(result.suspects) >= 2


def test_outside_of_the_crop_all_is_background_and_sure(make_image: MakeImage, model: Model) -> None:
    values = np.random.default_rng(0).random((20, 60, 90)).astype(np.float32)
    given = np.zeros(values.shape, np.uint8)
    given[9:11, 10:14, 10:14] = 1
    result = map_uncertainty(make_image(values), labelled(make_image(given)), model)
    beyond = np.s_[:, :, 60:]
    for name, value in (("entropy", 0), ("confidence", 1), ("suspect", 0)):
        assert (array(result.maps[name])[beyond] == value).all()
    assert not any(array(map_)[beyond].any() for map_ in result.probabilities.values())
    assert not labels(result)[beyond].any()


@pytest.mark.parametrize("code", ["LPS", "RAS", "PIR", "SLA"])
@pytest.mark.parametrize("preprocessing", [THREE, RESAMPLED, TWO], ids=["3D", "resampled", "2D"])
def test_axes_flips_and_oblique_directions_do_not_matter(
    scene: Scene, make_model: MakeModel, preprocessing: Preprocessing, code: str
) -> None:
    image, _, given = scene
    able = uncertain(make_model(Levels(), preprocessing, ("head", "tail")))
    straight = map_uncertainty(image, given, able)
    turned = [sitk.DICOMOrient(picture, code) for picture in (image, given.image)]
    c, s = np.cos(0.2), np.sin(0.2)
    for picture in turned:
        direction = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.reshape(picture.GetDirection(), (3, 3))
        picture.SetDirection(direction.ravel().tolist())
    result = map_uncertainty(turned[0], labelled(turned[1]), able)

    def back(picture: sitk.Image) -> np.ndarray:
        assert same_grid(picture, turned[0])
        plain = sitk.Image(picture)
        plain.CopyInformation(sitk.DICOMOrient(image, code))
        return array(sitk.DICOMOrient(plain, "LPS"))

    assert np.array_equal(back(result.stages[-1].label_map()), labels(straight))
    for name, map_ in straight.maps.items():
        np.testing.assert_allclose(back(result.maps[name]), array(map_), atol=1e-5)
    assert sorted(row["voxels"] for row in result.suspects) == sorted(row["voxels"] for row in straight.suspects)


def test_a_part_gives_what_the_whole_gives(scene: Scene, model: Model) -> None:
    image, _, given = scene
    whole, masks = Part.whole(image), masks_of(given)
    box = needed_box(whole.grid, [mask.box for mask in masks], model.preprocessing)
    part = Part(whole.grid, Region(box, whole.voxels.cut(box)), whole.value_range)
    a, b = (map_uncertainty_part(p, given.segments, masks, model) for p in (whole, part))
    everything = whole.grid.whole_box()
    assert a.suspects == b.suspects and a.statistics == b.statistics and a.segments == b.segments
    for one, other in zip(a.maps, b.maps, strict=True):
        assert np.array_equal(one.region.cut(everything), other.region.cut(everything))
    for mask, same in zip(a.stages[-1], b.stages[-1], strict=True):
        assert np.array_equal(mask.cut(everything), same.cut(everything))


def test_without_labels_nothing_is_suspect_and_the_whole_image_is_seen(scene: Scene, model: Model) -> None:
    image, truth, _ = scene
    result = map_uncertainty(image, None, model)
    assert list(result.maps) == ["entropy", "confidence"] and result.suspects == ()
    assert result.stages[-1].names == ("head", "tail") and not labels(result, 0).any()
    assert (labels(result) == truth).mean() > 0.95
    assert {row["dice_to_given"] for row in result.statistics} == {None}


def test_empty_labels_count_as_none_and_that_is_said(scene: Scene, model: Model) -> None:
    image, _, given = scene
    for empty in (given.image * 0, (given.image * 0)[2:9, 3:9, 4:9]):
        result = map_uncertainty(image, labelled(empty), model)
        assert "suspect" not in result.maps
        assert any("labels are empty" in note for note in result.notes)
    nameless = map_uncertainty(image, Segmentation(given.image * 0, ()), model)
    assert sum("labels are empty" in note for note in nameless.notes) == 1, "a label map of background alone"
    assert np.array_equal(labels(result), labels(map_uncertainty(image, None, model)))


def test_labels_on_another_grid_are_brought_to_the_image_and_that_is_said(scene: Scene, model: Model) -> None:
    image, _, given = scene
    smaller = Segmentation(given.image[4:, 3:, 2:], given.segments)
    result = map_uncertainty(image, smaller, model)
    assert any("another grid" in note for note in result.notes)
    assert result.suspects == map_uncertainty(image, given, model).suspects


def test_an_image_smaller_than_the_window_is_padded(scene: Scene, model: Model) -> None:
    image, truth, given = scene
    cut = np.s_[12:40, 14:32, 5:12]
    result = map_uncertainty(image[cut], labelled(given.image[cut]), model)
    assert same_grid(result.maps["entropy"], image[cut])
    assert (labels(result) == truth[5:12, 14:32, 12:40]).mean() > 0.9
    said = "smaller than what the model looks at (7 x 18 x 28 voxels instead of 16 x 32 x 32)"
    assert any(said in note for note in result.notes)
    assert not any("smaller than" in note for note in map_uncertainty(image, given, model).notes)


def test_what_goes_on_beyond_the_surroundings_of_the_labels_is_said(make_image: MakeImage, model: Model) -> None:
    truth = np.zeros((20, 40, 120), np.uint8)
    truth[8:12, 16:24, 10:60] = 1
    given = np.where(np.arange(120) < 30, truth, 0)
    image = make_image(truth.astype(np.float32) / 1 + 0.001 * np.arange(120, dtype=np.float32) / 120)
    result = map_uncertainty(image, labelled(make_image(given)), model)
    (note,) = [note for note in result.notes if "may go on" in note and "looked at" in note]
    assert note.startswith("What was found of 'tail' reaches the edge")
    whole = map_uncertainty(image, labelled(make_image(truth)), model)
    assert not any("looked at around" in note for note in whole.notes)


def test_structures_that_are_not_chosen_are_neither_compared_nor_suggested(scene: Scene, model: Model) -> None:
    image, _, given = scene
    unnamed = Segmentation(given.image, (Segment("Label 1", 1), Segment("Label 2", 2)))
    result = map_uncertainty(image, unnamed, model, UncertaintySettings(segments=("head",)))
    assert any("'tail' were not chosen" in note for note in result.notes)
    assert not any("no voxel of" in note for note in result.notes)
    rows = {row["segment"]: row["dice_to_given"] for row in result.statistics}
    assert rows["tail"] is None and rows["head"] is not None
    assert map_uncertainty(image, unnamed, model).suspects and not result.suspects, "each is given or suggested a tail"


def test_labels_by_value_get_the_models_names_and_the_models_other_structures_come_last(
    scene: Scene, model: Model
) -> None:
    image, _, given = scene
    result = map_uncertainty(image, Segmentation(given.image, (Segment("Label 2", 2),)), model)
    assert result.stages[-1].names == ("tail", "head")
    assert any("no voxel of 'head'" in note for note in result.notes)
    assert result.suspects[0]["suggested"] == "head"


def test_in_segments_that_are_not_chosen_nothing_is_suspect(scene: Scene, model: Model) -> None:
    image, _, given = scene
    other = Segmentation(given.image, (Segment("head", 1, id="H"), Segment("vessel", 2, id="V")))
    with pytest.raises(InputError, match=r"does not know the segment 'vessel'; it knows head \(label 1\), tail"):
        map_uncertainty(image, other, model)
    result = map_uncertainty(image, other, model, UncertaintySettings(segments=("head",)))
    kept = array(given.image) == 2
    assert not array(result.maps["suspect"])[kept].any() and array(result.maps["suspect"])[~kept].max() > 0.5


class Lopsided(nn.Module):
    """Its logits lean to one side along the last axis, so that flips differ."""

    def forward(self, image: Tensor) -> Tensor:
        lean = torch.linspace(-2, 2, image.shape[-1]).expand_as(image)
        return torch.cat([torch.zeros_like(image), 3 * image - 1 + lean], dim=1)


def test_mirroring_averages_probabilities_of_all_flips(scene: Scene, make_model: MakeModel) -> None:
    image = scene[0]
    able = uncertain(make_model(Lopsided(), THREE, ("head",)), mirror=[2], temperatures=[2.0])
    steps: list[Step] = []
    result = map_uncertainty(image, None, able, UncertaintySettings(mirror=True), steps.append)
    plain = array(map_uncertainty(image, None, able).probabilities["Segment_1"])
    flipped = sitk.Image(image)
    flipped = sitk.GetImageFromArray(array(image)[:, :, ::-1])
    flipped.CopyInformation(image)
    other = array(map_uncertainty(flipped, None, able).probabilities["Segment_1"])[:, :, ::-1]
    assert np.abs(plain - other).max() > 0.1
    np.testing.assert_allclose(array(result.probabilities["Segment_1"]), (plain + other) / 2, atol=1e-5)
    shares = [step.done for step in steps]
    assert (
        shares == sorted(shares)
        and shares[-1] == 1
        and {step.text for step in steps}
        == {
            "predicting, flip 1 of 2",
            "predicting, flip 2 of 2",
        }
    )
    with pytest.raises(InputError, match="not made for mirrored images"):
        map_uncertainty(image, None, uncertain(able), UncertaintySettings(mirror=True))


def test_the_temperature_softens_and_is_said(scene: Scene, model: Model) -> None:
    image, _, given = scene
    soft = map_uncertainty(image, given, uncertain(model, temperatures=[3.0]))
    plain = map_uncertainty(image, given, model)
    assert array(soft.maps["entropy"]).mean() > 1.5 * array(plain.maps["entropy"]).mean()
    assert any("calibrated" in note and "temperature 3" in note for note in soft.notes)
    assert not any("calibrated" in note for note in plain.notes)


def test_a_step_can_cancel(scene: Scene, model: Model) -> None:
    def cancel(step: Step) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        map_uncertainty(scene[0], None, model, progress=cancel)


def test_what_cannot_be_used_is_refused(scene: Scene, model: Model, make_image: MakeImage) -> None:
    image, _, given = scene
    not_finite = sitk.Image(image)
    not_finite[3, 4, 5] = float("nan")
    layers = sitk.Compose(given.image == 1, (given.image > 0))
    overlapping = Segmentation(layers, (Segment("head", 1, 0), Segment("tail", 1, 1)))
    twice = Segmentation(given.image, (Segment("head", 1), Segment("Label 1", 2)))
    away = make_image(array(given.image), origin=(900.0, 0.0, 0.0))
    refused: list[tuple[tuple[Any, ...], str]] = [
        ((not_finite, given, model), "not a number"),
        ((image * 0, given, model), "same value everywhere"),
        ((image, overlapping, model), "overlap, but a voxel has one label"),
        ((image, twice, model), "same structure"),
        ((image, labelled(away), model), "do not overlap in space"),
        ((image, given, model, UncertaintySettings(segments=("Liver",))), "no segment 'Liver'"),
        ((image, None, model, UncertaintySettings(segments=("head",))), "give labels"),
        ((image, given, replace(model, description=replace(model.description, kind="refine"))), "noisylabelseg refine"),
        ((image, given, uncertain(model, temperatures=[0.0])), "temperatures must lie"),
    ]
    for arguments, message in refused:
        with pytest.raises(InputError, match=message):
            map_uncertainty(*arguments)


class Sum(Levels):
    """Sees the structures only where it is shown both channels, each by its own rule."""

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image.sum(dim=1, keepdim=True))


@pytest.mark.parametrize("preprocessing", [TWO, THREE, RESAMPLED], ids=["2D", "3D", "resampled"])
def test_a_model_of_two_channels_sees_both(
    scene: Scene, make_model: MakeModel, model: Model, preprocessing: Preprocessing
) -> None:
    image, _, given = scene
    values = array(image)
    first = values * (np.arange(SHAPE[2]) < 26)
    images = [sitk.GetImageFromArray(channel.astype(np.float32)) for channel in (first, 1000 * (values - first) - 50)]
    for channel in images:
        channel.CopyInformation(image)
    low, high = float(values.min()), float(values.max())
    rules = [Intensity("window", low=low, high=high), Intensity("window", low=-50, high=1000 * (high - low) - 50)]
    taught = replace(preprocessing, intensity=rules[0], channels=(rules[1],))
    two = uncertain(make_model(Sum(), taught, ("head", "tail")))
    two = replace(two, description=replace(two.description, network=Network("unet", {"in_channels": 2})))
    found = map_uncertainty(images[0], given, two, channels=images[1:])
    expected = map_uncertainty(image, given, uncertain(make_model(Levels(), preprocessing, ("head", "tail"))))
    assert (labels(found) == labels(expected)).mean() > 0.99 and set(np.unique(labels(found))) == {0, 1, 2}
    with pytest.raises(InputError, match="takes 2 channels of an image, but 1 came"):
        map_uncertainty(images[0], given, two)
    with pytest.raises(InputError, match="takes 1 channels of an image, but 2 came"):
        map_uncertainty(images[0], given, model, channels=images[1:])
    with pytest.raises(InputError, match="Channel 2 is not on the grid"):
        map_uncertainty(images[0], given, two, channels=[images[1][1:]])
    images[1][3, 4, 5] = float("nan")
    with pytest.raises(InputError, match="Channel 2 of the image"):
        map_uncertainty(images[0], given, two, channels=images[1:])


def test_memory_that_runs_out_is_said_and_changes_nothing(
    scene: Scene, make_model: MakeModel, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Large(Levels):
        def forward(self, image: Tensor) -> Tensor:
            if image.numel() > 32 * 32 * 18:
                raise RuntimeError("out of memory")
            return super().forward(image)

    monkeypatch.setattr("NoisyLabelSegLib.inference.predictor.WINDOWS", {3: (128, 24)})
    image = scene[0]
    result = map_uncertainty(image, None, uncertain(make_model(Large(), THREE, ("head", "tail"))))
    assert any("Memory ran out" in note for note in result.notes)
    assert (labels(result) == labels(map_uncertainty(image, None, model))).mean() > 0.99
