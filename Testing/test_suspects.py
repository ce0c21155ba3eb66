"""Regions of given labels that look wrong: which voxels belong together, their figures and their order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from NoisyLabelSegLib.suspects import suspect_regions

SHAPE = (5, 6, 8)
SPACING = (0.5, 1.0, 2.0)


def arrays(*marks: tuple[tuple[Any, ...], float, int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score, given and suggested labels: background everywhere but in the marked places."""
    score, given, suggested = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.int64)
    for place, value, label, other in marks:
        score[place], given[place], suggested[place] = value, label, other
    return score, given, suggested


def test_a_region_is_told_as_it_is() -> None:
    found = suspect_regions(*arrays((np.s_[2, 3, 1:4], 0.75, 2, 1)), spacing=SPACING, start=(10, 20, 30))
    assert len(found) == 1
    (one,) = found
    assert (one.given, one.suggested, one.voxels) == (2, 1, 3)
    assert (one.score, one.volume_mm3) == (0.75, 3.0)
    assert one.centre == (32, 23, 12), "I, J, K of the middle voxel"
    assert one.region.box == (slice(12, 13), slice(23, 24), slice(31, 34)) and one.region.values.all()


@pytest.mark.parametrize(
    ("marks", "count"),
    [
        ([], 0),
        ([(np.s_[0, 0, 0], 0.5, 1, 0)], 1),
        ([(np.s_[0, 0, 0], 0.49, 1, 0)], 0),
        ([(np.s_[0, 0, 0], 0.9, 1, 1)], 0),
        ([(np.s_[0, 0, 0], 0.9, 1, 0), (np.s_[1, 1, 1], 0.9, 1, 0)], 1),
        ([(np.s_[0, 0, 0], 0.9, 1, 0), (np.s_[0, 0, 2], 0.9, 1, 0)], 2),
        ([(np.s_[0, 0, 0], 0.9, 1, 0), (np.s_[0, 0, 1], 0.9, 2, 0)], 2),
        ([(np.s_[0, 0, 0], 0.9, 0, 1), (np.s_[0, 0, 1], 0.9, 0, 2)], 2),
        ([(np.s_[0, 0, 0], 0.9, 0, 1), (np.s_[0, 0, 1], 0.9, 1, 0)], 2),
    ],
    ids=["none", "at the threshold", "below it", "same label", "corner", "apart", "given", "suggested", "exchanged"],
)
def test_voxels_of_one_pair_of_labels_that_touch_belong_together(marks: Any, count: int) -> None:
    assert len(suspect_regions(*arrays(*marks))) == count


def test_the_most_doubtful_voxels_come_first_and_of_equal_ones_the_larger_region() -> None:
    found = suspect_regions(
        *arrays((np.s_[0, 0, 0:6], 0.5, 1, 0), (np.s_[2, 0, 0:2], 0.75, 1, 0), (np.s_[4, 5, 5:8], 0.75, 1, 0))
    )
    assert [(one.voxels, one.score) for one in found] == [(3, 0.75), (2, 0.75), (6, 0.5)]


def test_many_regions_are_those_of_a_search_one_by_one() -> None:
    random = np.random.default_rng(0)
    score, given, suggested = random.random((12, 14, 16)), *random.integers(0, 3, (2, 12, 14, 16))
    found = suspect_regions(score, given, suggested, 0.7, SPACING)
    suspect = (score >= 0.7) & (given != suggested)
    assert sum(one.voxels for one in found) == suspect.sum() and len(found) > 50
    seen = np.zeros(score.shape, int)
    for one in found:
        inside, box = one.region.values, one.region.box
        seen[box] += inside
        assert (given[box][inside] == one.given).all() and (suggested[box][inside] == one.suggested).all()
        assert one.score == pytest.approx(score[box][inside].mean())
        centre = tuple(c - side.start for c, side in zip(one.centre[::-1], box, strict=True))
        assert inside[centre], "the centre is a voxel of the region"
    assert np.array_equal(seen, suspect), "no voxel twice"
