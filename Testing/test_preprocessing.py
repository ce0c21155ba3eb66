"""Preprocessing: however an image lies on disk, the network sees it the same way up and the result goes back."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import Ellipsoid, MakeImage

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.inference.preprocessing import Intensity, Preprocessing, prepare
from NoisyLabelSegLib.regions import region_of

CODES = [
    "".join(letters) for axes in itertools.permutations(("RL", "AP", "IS")) for letters in itertools.product(*axes)
]
TWO = Preprocessing(2, (16, 16), margin=4, multiple=8)
THREE = Preprocessing(3, (8, 16, 16), margin=4, multiple=8)


def rotation(axis: int, degrees: float) -> np.ndarray:
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    matrix = np.eye(3)
    first, second = (a for a in range(3) if a != axis)
    matrix[[first, first, second, second], [first, second, first, second]] = c, -s, s, c
    return matrix


DIRECTIONS = {
    "straight": np.eye(3),
    "oblique": rotation(2, 20) @ rotation(0, 15),
    "45 degrees about z": rotation(2, 45),
    "45 degrees about x": rotation(0, 45),
    "45 degrees about y, then z": rotation(2, 45) @ rotation(1, 45),
}


@pytest.fixture
def phantom(make_image: MakeImage, ellipsoid: Ellipsoid) -> tuple[sitk.Image, sitk.Image]:
    """An image of noise and a label map of two touching structures, neither symmetrical nor centred."""
    rng = np.random.default_rng(1)
    labels = ellipsoid((9, 21, 30), (4, 8, 17), (2, 5, 6)).astype(np.uint8)
    labels[:, 9:, :] *= 2
    return make_image(rng.normal(size=labels.shape).astype(np.float32)), make_image(labels)


def same_place(a: sitk.Image, b: sitk.Image) -> bool:
    """Not approximately but exactly."""
    return (a.GetSize(), a.GetSpacing(), a.GetOrigin(), a.GetDirection()) == (
        b.GetSize(),
        b.GetSpacing(),
        b.GetOrigin(),
        b.GetDirection(),
    )


def array(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image)


@pytest.mark.parametrize("preprocessing", [TWO, THREE], ids=["2D", "3D"])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_restore_undoes_prepare_in_all_orientations(
    phantom: tuple[sitk.Image, sitk.Image], preprocessing: Preprocessing, direction: str
) -> None:
    for code in CODES if direction == "straight" else CODES[::5]:
        image, labels = (sitk.DICOMOrient(picture, code) for picture in phantom)
        turned = DIRECTIONS[direction] @ np.array(image.GetDirection()).reshape(3, 3)
        for picture in (image, labels):
            picture.SetDirection(turned.ravel().tolist())
        prepared = prepare(image, labels, preprocessing)
        restored = prepared.restore(prepared.labels)
        assert same_place(restored, labels), code
        assert np.array_equal(array(restored), array(labels)), code
        inside = array(prepared.restore(np.ones(prepared.labels.shape, np.uint8))) == 1
        assert np.array_equal(array(prepared.restore(prepared.voxels))[inside], array(image)[inside]), code


@pytest.mark.parametrize(
    "preprocessing",
    [TWO, THREE, Preprocessing(3, (8, 16, 16), 4, (1.0, 1.4, 0.35), 8), Preprocessing(2, (16, 16), 4, (1.4, 1.0), 8)],
    ids=["2D", "3D", "3D resampled", "2D resampled"],
)
def test_the_network_sees_the_same_voxels_in_all_48_orientations(
    phantom: tuple[sitk.Image, sitk.Image], preprocessing: Preprocessing
) -> None:
    expected = prepare(*phantom, preprocessing)
    for code in CODES:
        image, labels = (sitk.DICOMOrient(picture, code) for picture in phantom)
        found = prepare(image, labels, preprocessing)
        np.testing.assert_allclose(found.image, expected.image, atol=1e-4, err_msg=code)
        assert np.array_equal(found.labels, expected.labels), code


@pytest.mark.parametrize(
    ("spacing", "axis", "note"),
    [
        ((0.7, 0.7, 2.5), 2, "Slices are axial: the spacing is largest (2.5 mm) across them."),
        ((0.7, 2.5, 0.7), 1, "Slices are coronal"),
        ((2.5, 0.7, 0.7), 0, "Slices are sagittal"),
        ((0.4, 0.6, 3.0), 2, "Slices are axial"),
        ((1.0, 1.0, 1.0), 2, "shows no acquisition plane: axial slices were used."),
        ((1.0, 1.0, 1.2), 2, "shows no acquisition plane"),
        ((1.2, 1.0, 1.0), 2, "shows no acquisition plane"),
        ((0.5, 1.0, 1.0), 2, "shows no acquisition plane"),
    ],
)
def test_slices_lie_along_the_acquisition_axis(
    make_image: MakeImage, spacing: tuple[float, ...], axis: int, note: str
) -> None:
    labels = np.zeros((10, 11, 12), np.uint8)
    labels[4:6, 5, 6:9] = 1
    picture = make_image(labels, spacing)
    prepared = prepare(picture, picture, TWO)
    assert prepared.slice_axis == axis
    assert note in prepared.notes[0]
    across = np.ptp(np.argwhere(prepared.labels)[:, 0]) + 1
    assert across == (3, 1, 2)[axis]
    for code in ("RAS", "PIR", "SLA", "IRP"):
        turned = sitk.DICOMOrient(picture, code)
        letter = ("RL", "AP", "IS")[axis]
        assert prepare(turned, turned, TWO).slice_axis == next(i for i, c in enumerate(code) if c in letter)


@pytest.mark.parametrize(
    ("shape", "spacing", "axis"),
    [
        ((40, 41, 1), (1.0, 1.0, 1.0), 0),
        ((40, 1, 41), (1.0, 1.0, 1.0), 1),
        ((1, 40, 41), (1.0, 1.0, 1.0), 2),
        ((40, 41, 1), (0.7, 0.7, 2.5), 0),
        ((1, 41, 1), (1.0, 1.0, 1.0), 2),
        ((1, 41, 1), (3.0, 1.0, 1.0), 0),
    ],
)
def test_a_single_slice_is_one_slice_whatever_its_plane_and_spacing(
    make_image: MakeImage, shape: tuple[int, ...], spacing: tuple[float, ...], axis: int
) -> None:
    voxels = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    labels = np.zeros(shape, np.uint8)
    labels[tuple(slice(size // 3, size // 3 + 5) for size in shape)] = 1
    for code in ("LPS", "PIR", "SLA"):
        image, mask = (sitk.DICOMOrient(make_image(a, spacing), code) for a in (voxels, labels))
        prepared = prepare(image, mask, TWO)
        assert len(prepared.voxels) == 1
        assert image.GetSize()[prepared.slice_axis] == 1
        assert prepared.notes == (f"The image is a single {('sagittal', 'coronal', 'axial')[axis]} slice.",)
        assert np.array_equal(array(prepared.restore(prepared.labels)), array(mask))


def test_a_region_of_labels_is_as_good_as_a_label_map(phantom: tuple[sitk.Image, sitk.Image]) -> None:
    image, labels = phantom
    for code in ("LPS", "SAR"):
        picture, mask = sitk.DICOMOrient(image, code), sitk.DICOMOrient(labels, code)
        for preprocessing in (TWO, Preprocessing(3, (8, 16, 16), 4, (1.0, 1.4, 0.35), 8)):
            a, b = prepare(picture, mask, preprocessing), prepare(picture, region_of(mask), preprocessing)
            assert np.array_equal(a.labels, b.labels) and np.array_equal(a.voxels, b.voxels)
            values = a.voxels.astype(np.float32)
            assert np.array_equal(a.frame.restore_region(values).values, array(a.restore(values))[a.frame.box])


def test_a_volumetric_model_has_no_slices(phantom: tuple[sitk.Image, sitk.Image]) -> None:
    prepared = prepare(*phantom, THREE)
    assert (prepared.slice_axis, prepared.notes) == (2, ())


@pytest.mark.parametrize(
    ("preprocessing", "image_shape", "box", "expected"),
    [
        (
            Preprocessing(2, (32, 48), 8, (), 16),
            (20, 60, 70),
            (slice(8, 12), slice(25, 35), slice(30, 40)),
            (8, 32, 48),
        ),
        (
            Preprocessing(2, (16, 16), 8, (), 16),
            (20, 60, 70),
            (slice(8, 12), slice(25, 35), slice(30, 40)),
            (8, 32, 32),
        ),
        (Preprocessing(2, (16, 16), 3, (), 1), (20, 60, 70), (slice(8, 12), slice(25, 35), slice(30, 40)), (4, 16, 16)),
        (Preprocessing(2, (32, 48), 8, (), 16), (3, 20, 20), (slice(1, 2), slice(5, 9), slice(5, 9)), (3, 32, 48)),
        (Preprocessing(2, (16, 16), 8, (), 16), (20, 60, 70), (slice(0, 2), slice(0, 4), slice(60, 70)), (4, 16, 32)),
        (
            Preprocessing(3, (8, 16, 16), 4, (), 8),
            (20, 60, 70),
            (slice(8, 12), slice(25, 35), slice(30, 40)),
            (16, 24, 24),
        ),
        (
            Preprocessing(3, (40, 16, 16), 0, (), 1),
            (20, 60, 70),
            (slice(8, 12), slice(25, 35), slice(30, 60)),
            (40, 16, 30),
        ),
    ],
    ids=["window", "margin", "no padding", "image smaller", "at the corner", "3D", "3D short image"],
)
def test_crops_hold_mask_margin_and_window(
    make_image: MakeImage,
    preprocessing: Preprocessing,
    image_shape: tuple[int, ...],
    box: tuple[slice, ...],
    expected: tuple[int, ...],
) -> None:
    labels = np.zeros(image_shape, np.uint8)
    labels[box] = 3
    voxels = np.random.default_rng(0).normal(size=image_shape).astype(np.float32)
    prepared = prepare(make_image(voxels), make_image(labels), preprocessing)
    assert prepared.voxels.shape == prepared.labels.shape == prepared.image.shape[1:] == expected
    assert np.array_equal(array(prepared.restore(prepared.labels)), labels)
    assert np.isfinite(prepared.image).all()
    assert voxels.min() <= prepared.voxels.min() <= prepared.voxels.max() <= voxels.max()


@pytest.mark.parametrize("preprocessing", [TWO, THREE], ids=["2D", "3D"])
def test_without_a_mask_the_whole_image_is_taken(make_image: MakeImage, preprocessing: Preprocessing) -> None:
    voxels = np.random.default_rng(0).normal(size=(8, 40, 48)).astype(np.float32)
    empty = make_image(np.zeros(voxels.shape, np.uint8))
    prepared = prepare(make_image(voxels), empty, preprocessing)
    assert np.array_equal(prepared.voxels, voxels)
    assert not prepared.labels.any()


@pytest.mark.parametrize(
    ("dimensions", "spacing", "image_spacing"),
    [
        (3, (1.0, 1.0, 1.0), (0.6, 0.8, 2.0)),
        (3, (1.5, 1.0, 1.0), (0.7, 0.7, 0.7)),
        (3, (1.5, 0.8, 0.6), (1.0, 1.0, 1.0)),
        (2, (1.0, 1.0), (0.6, 0.8, 3.0)),
        (2, (0.5, 0.5), (0.8, 0.6, 2.5)),
    ],
)
@pytest.mark.parametrize("code", ["LPS", "SAR"])
def test_a_resampled_mask_comes_back_on_the_exact_grid(
    make_image: MakeImage,
    ellipsoid: Ellipsoid,
    dimensions: Any,
    spacing: tuple[float, ...],
    image_spacing: tuple[float, ...],
    code: str,
) -> None:
    radii = [10 / s for s in image_spacing[::-1]]
    mask = ellipsoid((36, 50, 55), (16, 24, 29), radii).astype(np.uint8)
    labels = sitk.DICOMOrient(make_image(mask, image_spacing, DIRECTIONS["oblique"]), code)
    preprocessing = Preprocessing(dimensions, (32,) * dimensions, 4, spacing, 8)
    prepared = prepare(labels, labels, preprocessing)
    assert any("Worked at a spacing" in note for note in prepared.notes)
    for values in (prepared.labels, prepared.labels.astype(np.float32)):
        restored = prepared.restore(values)
        assert same_place(restored, labels)
        found, truth = array(restored) >= 0.5, array(labels) > 0
        # Each way rounds the border to voxels of up to 3 mm, on a ball of 20 mm.
        assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.95


def test_two_dimensional_models_keep_the_slices(make_image: MakeImage) -> None:
    labels = np.zeros((12, 40, 40), np.uint8)
    labels[3:9, 10:30, 10:30] = np.arange(1, 7)[:, None, None]
    picture = make_image(labels, (0.5, 0.5, 3.0))
    prepared = prepare(picture, picture, Preprocessing(2, (16, 16), 0, (1.0, 1.0), 1))
    assert [int(s.max()) for s in prepared.labels] == [1, 2, 3, 4, 5, 6]
    assert prepared.labels.shape == (6, 16, 16)


RAMP = np.array([[[0, 10], [20, 30]], [[100, 100], [300, 300]]], np.int16)


@pytest.mark.parametrize(
    ("intensity", "expected"),
    [
        (Intensity("min-max", "slice"), [[[0, 1 / 3], [2 / 3, 1]], [[0, 0], [1, 1]]]),
        (Intensity("min-max", "case"), RAMP / 300),
        (Intensity("z-score", "case"), (RAMP - RAMP.mean()) / RAMP.std()),
        (Intensity("z-score", "slice"), [(RAMP[0] - 15) / np.sqrt(125), [[-1, -1], [1, 1]]]),
        (Intensity("z-score", "case", mean=10, std=5), (RAMP - 10) / 5),
        (Intensity("window", low=10, high=110), [[[0, 0], [0.1, 0.2]], [[0.9, 0.9], [1, 1]]]),
    ],
)
def test_intensity_rules(intensity: Intensity, expected: Any) -> None:
    found = intensity(RAMP)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.array(expected), atol=1e-6)


@pytest.mark.parametrize("rule", ["min-max", "z-score"])
@pytest.mark.parametrize("scope", ["slice", "case"])
@pytest.mark.parametrize("value", [0, 0.1, -1000.0, 3e7])
def test_a_constant_region_becomes_zeros(rule: Any, scope: Any, value: float) -> None:
    assert not Intensity(rule, scope)(np.full((3, 17, 13), value)).any()


@pytest.mark.parametrize(
    "arguments",
    [
        {"rule": "histogram"},
        {"scope": "patient"},
        {"rule": "window"},
        {"rule": "window", "low": 3, "high": 3},
        {"mean": 1.0},
        {"mean": 1.0, "std": 0.0},
    ],
)
def test_an_intensity_rule_that_makes_no_sense_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Intensity(**arguments)


GOOD = {
    "dimensions": 2,
    "window": [64, 64],
    "margin": 8,
    "spacing": [],
    "multiple": 16,
    "intensity": {"rule": "min-max", "scope": "slice"},
}


def test_from_json_reads_what_a_bundle_holds() -> None:
    expected = Preprocessing(2, (64, 64), 8, (), 16, Intensity("min-max", "slice"))
    assert Preprocessing.from_json(GOOD) == expected


@pytest.mark.parametrize(
    "change",
    [
        {"colour": 1},
        {"dimensions": 4},
        {"dimensions": "2"},
        {"window": [64]},
        {"window": [64, 0]},
        {"window": [64, 4096]},
        {"window": 64},
        {"window": ["a", "b"]},
        {"margin": -1},
        {"margin": None},
        {"multiple": 0},
        {"spacing": [1.0]},
        {"spacing": [0.0, 1.0]},
        {"spacing": [float("nan"), 1.0]},
        {"intensity": {"rule": "min-max", "code": "x"}},
        {"intensity": "min-max"},
        {"intensity": {"rule": "window", "low": "a", "high": "b"}},
        {"intensity": {"rule": ["min-max"]}},
        {"intensity": {"mean": float("nan"), "std": float("nan")}},
    ],
    ids=str,
)
def test_from_json_refuses_what_is_wrong(change: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Preprocessing.from_json({**GOOD, **change})


@pytest.mark.parametrize("key", ["dimensions", "window", "intensity"])
def test_from_json_refuses_what_is_missing(key: str) -> None:
    with pytest.raises(InputError):
        Preprocessing.from_json({k: v for k, v in GOOD.items() if k != key})
