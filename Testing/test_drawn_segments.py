"""What segments' names say, and the label maps that become of drawn segments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import MakeImage

from NoisyLabelSegLib.drawn_segments import ANNOTATOR, NOBODY, combined, drawings_of, meaning_of, structures_of
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.segmentations import Segment, Segmentation

VALUES = {"RV": 1, "LV": 2, "MYO": 3}
N = NOBODY
ME, IN, OUT = ANNOTATOR, "positive", "complementary"


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("RV", (ANNOTATOR, "positive", "RV")),
        (" left lung ", (ANNOTATOR, "positive", "left lung")),
        ("not RV", (ANNOTATOR, "complementary", "RV")),
        ("NOT  left lung", (ANNOTATOR, "complementary", "left lung")),
        ("RV @anna", ("anna", "positive", "RV")),
        ("RV@anna", ("anna", "positive", "RV")),
        ("Not RV @ Dr. Ben ", ("Dr. Ben", "complementary", "RV")),
        ("RV @anna@ward", ("anna@ward", "positive", "RV")),
        ("Background", (ANNOTATOR, "positive", "background")),
        ("background @anna", ("anna", "positive", "background")),
        ("Notochord", (ANNOTATOR, "positive", "Notochord")),
        ("knot", (ANNOTATOR, "positive", "knot")),
        ("RV not clear", (ANNOTATOR, "positive", "RV not clear")),
    ],
)
def test_a_name_says_who_drew_what(name: str, meaning: tuple[str, str, str]) -> None:
    assert tuple(meaning_of(name)) == meaning


@pytest.mark.parametrize("name", ["", " ", "not", "Not ", "@anna", "not @anna", "not@anna", "RV @", "not  not RV", "@"])
def test_a_name_that_says_nothing_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="does not say what is drawn: call it 'RV', 'not RV' or 'RV @anna'"):
        meaning_of(name)


@pytest.mark.parametrize("name", ["not background", "NOT Background @anna"])
def test_what_is_not_background_is_to_be_drawn_by_its_name(name: str) -> None:
    with pytest.raises(InputError, match="does not say which structure it is"):
        meaning_of(name)


def test_structures_are_listed_once_and_in_their_order() -> None:
    assert structures_of(["not LV", "background", "RV @anna", "LV", "not RV"]) == ["LV", "RV"]


def row(*values: int) -> Any:
    return np.array(values, np.uint8).reshape(1, 1, -1)


def segments(make_image: MakeImage, **masks: str) -> Segmentation:
    """A segment, each in a layer of its own, for every row of voxels such as ``"..##"``; _ and AT are blank and @."""
    rows = [row(*(mark == "#" for mark in mask)) for mask in masks.values()]
    layers = sitk.Compose([make_image(one) for one in rows])
    names = [name.replace("_AT_", " @").replace("_", " ") for name in masks]
    return Segmentation(layers, tuple(Segment(name, 1, layer) for layer, name in enumerate(names)))


@pytest.mark.parametrize(
    ("masks", "expected"),
    [
        ({"RV": "##..", "LV": "..#."}, [(ME, IN, [1, 1, 2, N], {})]),
        ({"LV": "#...", "background": "..##"}, [(ME, IN, [2, N, 0, 0], {})]),
        ({"RV": "##..", "RV_": ".##."}, [(ME, IN, [1, 1, 1, N], {})]),
        ({"RV": "##..", "LV_AT_anna": ".##."}, [(ME, IN, [1, 1, N, N], {}), ("anna", IN, [N, 2, 2, N], {})]),
        ({"not_LV": "##.."}, [(ME, OUT, [0, 0, N, N], {0: (2,)})]),
        (
            {"not_RV": "###.", "not_LV": ".##.", "not_MYO": "..#."},
            [(ME, OUT, [0, 1, 2, N], {0: (1,), 1: (1, 2), 2: (1, 2, 3)})],
        ),
        ({"not_RV": "#...", "Not_RV": "...#"}, [(ME, OUT, [0, N, N, 0], {0: (1,)})]),
        ({"RV": "##..", "not_RV": ".##."}, [(ME, IN, [1, 1, N, N], {}), (ME, OUT, [N, 0, 0, N], {0: (1,)})]),
    ],
)
def test_segments_become_a_label_map_for_each_annotator_and_kind(
    make_image: MakeImage, masks: dict[str, str], expected: list[Any]
) -> None:
    drawn = drawings_of(segments(make_image, **masks), VALUES)
    assert [(one.annotator, one.kind, one.labels.ravel().tolist(), one.means) for one in drawn] == expected
    assert all(one.labels.dtype == np.uint8 and one.labels.shape == (1, 1, 4) for one in drawn)


@pytest.mark.parametrize(
    ("masks", "said"),
    [
        ({}, "There are no segments"),
        ({"RV": "##..", "LV": "...."}, "The segment 'LV' has no voxel in the image"),
        ({"RV": "###.", "LV": ".###"}, "The segments 'RV' and 'LV' overlap in 2 voxels"),
        ({"RV_AT_a": "##..", "background_AT_a": ".#.."}, "'RV @a' and 'background @a' overlap in 1 voxels"),
        ({"RV": "#...", "LV": ".##.", "MYO": "#.##"}, "The segments 'RV' and 'MYO' overlap in 1 voxels"),
        ({"not": "##.."}, "does not say what is drawn"),
    ],
)
def test_segments_that_say_nothing_or_two_things_are_refused(
    make_image: MakeImage, masks: dict[str, str], said: str
) -> None:
    given = segments(make_image, **masks) if masks else Segmentation(make_image(row(0, 0)), ())
    with pytest.raises(InputError, match=said):
        drawings_of(given, VALUES)


def test_combinations_come_apart_again() -> None:
    rng = np.random.default_rng(0)
    excluded = {value: rng.random((3, 5, 7)) < 0.4 for value in (0, 2, 3, 9)}
    labels, means = combined(excluded)
    assert means.keys() | {NOBODY} == {*np.unique(labels).tolist()}
    for value, mask in excluded.items():
        numbers = [number for number, classes in means.items() if value in classes]
        assert np.array_equal(np.isin(labels, numbers), mask)


def test_more_combinations_than_numbers_are_refused() -> None:
    bits = np.arange(1, 257).reshape(1, 16, 16)
    excluded = {n: (bits >> n & 1).astype(bool) for n in range(9)}
    with pytest.raises(InputError, match="256 combinations"):
        combined(excluded)
    excluded.pop(8)
    assert len(combined(excluded)[1]) == 255
