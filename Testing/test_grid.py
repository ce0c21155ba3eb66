"""A grid is where SimpleITK says the voxels are, and what a model needs of it is what the model sees."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.inference.preprocessing import Preprocessing, needed_box, prepare
from NoisyLabelSegLib.regions import Box, Region, intersection, union

SIZE = (30, 21, 12)
CODES = ["LPS", "RAS", "LAI", "PIR", "SLA", "ASL"]
MODELS = {
    "2D": Preprocessing(2, (16, 16), 4, (), 8),
    "2D, one slice": Preprocessing(2, (4, 4), 3, (), 1),
    "3D": Preprocessing(3, (6, 10, 10), 3, (), 2),
    "resampled": Preprocessing(3, (6, 10, 10), 3, (1.1, 0.9, 1.3), 2),
}


def grid(seed: int = 0, code: str = "LPS", size: tuple[int, int, int] = SIZE) -> Grid:
    """A grid at an odd place; the axes are turned by a few degrees from those of the code."""
    rng = np.random.default_rng(seed)
    straight = np.reshape(sitk.DICOMOrientImageFilter().GetDirectionCosinesFromOrientation(code), (3, 3))
    turned, _ = np.linalg.qr(np.eye(3) + 0.1 * rng.normal(size=(3, 3)))
    turned *= np.sign(np.diag(turned))
    spacing, origin = rng.uniform(0.3, 3, 3).tolist(), rng.normal(0, 100, 3).tolist()
    return Grid(size, tuple(spacing), tuple(origin), tuple((turned @ straight).ravel().tolist()))


def boxes(seed: int, count: int) -> list[Box]:
    """Random boxes, some of which touch the border."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        ends = [sorted(rng.choice(n + 1, 2, replace=False).tolist()) for n in SIZE[::-1]]
        found.append(tuple(slice(low, high) for low, high in ends))
    return found


@pytest.mark.parametrize("seed", range(20))
def test_it_is_where_itk_says(seed: int) -> None:
    there = grid(seed)
    image = there.empty_image(sitk.sitkInt16)
    assert Grid.of(image) == there
    (box,) = boxes(seed, 1)
    start, stop = ([getattr(side, end) for side in box[::-1]] for end in ("start", "stop"))
    assert there.crop(box) == Grid.of(sitk.RegionOfInterest(image, np.subtract(stop, start).tolist(), start))
    assert there.crop(there.whole_box()) == there
    for ijk in ([0, 0, 0], [29, 20, 11], [1.5, -2.25, 100]):
        point = image.TransformContinuousIndexToPhysicalPoint([float(i) for i in ijk])
        assert there.to_physical(ijk) == pytest.approx(np.array(point), abs=1e-9)
        assert there.to_index(point) == pytest.approx(np.array(ijk), abs=1e-9)
    assert there.voxel_mm3 == pytest.approx(np.prod(image.GetSpacing()))


def test_many_points_at_once() -> None:
    there, ijk = grid(), np.random.default_rng(0).normal(size=(4, 5, 3))
    points = there.to_physical(ijk)
    assert points.shape == ijk.shape
    assert np.array_equal(points[2, 3], there.to_physical(ijk[2, 3]))
    assert there.to_index(points) == pytest.approx(ijk)


def test_an_array_becomes_an_image_there() -> None:
    there, values = grid(), np.arange(np.prod(SIZE), dtype=np.int16).reshape(SIZE[::-1])
    part = grid().crop((slice(1, 12, 1), slice(2, 20), slice(0, 29)))
    assert Grid.of(there.image(values)) == there
    image = part.image(values[1:, 2:20, :29])
    assert Grid.of(image) == part
    assert np.array_equal(sitk.GetArrayFromImage(image), values[1:, 2:20, :29])


def test_json_keeps_every_bit() -> None:
    for seed in range(5):
        assert Grid.from_json(json.loads(json.dumps(grid(seed).to_json()))) == grid(seed)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"size": [0, 1, 1]}, "has no extent"),
        ({"size": [1.5, 1, 1]}, "must be a whole number"),
        ({"size": [1, 1]}, "3 entries"),
        ({"spacing": [1, -1, 1]}, "has no extent"),
        ({"spacing": [1, float("nan"), 1]}, "not made of finite numbers"),
        ({"origin": [1, float("inf"), 1]}, "not made of finite numbers"),
        ({"direction": [1, 0, 0, 0, 1, 0]}, "not made of finite numbers"),
        ({"direction": [1, 0, 0, 0, 1, 0, 0, 0, 0]}, "do not span space"),
        ({"surprise": 1}, "unknown key"),
    ],
)
def test_what_is_no_grid_is_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Grid.from_json(grid().to_json() | change)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("code", CODES)
def test_what_is_needed_is_what_is_seen(model: Preprocessing, code: str) -> None:
    there = grid(3, code)
    image = there.image(np.zeros(SIZE[::-1], np.int16))
    masks = boxes(7, 12)
    for box in masks:
        mask = Region(box, np.ones([side.stop - side.start for side in box], np.uint8))
        assert needed_box(there, [box], model) == prepare(image, mask, model).frame.box


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_of_several_masks_each_and_all_together_are_needed(model: Preprocessing) -> None:
    there, empty = grid(1, "RAS"), (slice(0, 0),) * 3
    for a, b in itertools.combinations(boxes(5, 6), 2):
        needed = needed_box(there, [a, empty, b], model)
        for box in (a, b, union([a, b])):
            seen = needed_box(there, [box], model)
            assert intersection(seen, needed) == seen
    for nothing in ([], [empty], [empty, empty]):
        assert needed_box(there, nothing, model) == there.whole_box()
