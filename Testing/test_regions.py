"""Regions: whatever the boxes, the arrays are those of the whole grid."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from NoisyLabelSegLib.assembly import assemble, paste, settle
from NoisyLabelSegLib.regions import Region, box_of, intersection, is_empty, masks_of, overlap, region_of, union
from NoisyLabelSegLib.segmentations import Segment, Segmentation

SHAPE = (5, 6, 7)
GRID = sitk.Image(SHAPE[::-1], sitk.sitkUInt8)


def whole(region: Region) -> np.ndarray:
    return region.cut(tuple(slice(0, n) for n in SHAPE))


def random_mask(seed: int) -> np.ndarray:
    """A box of noise, at times empty."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(SHAPE, bool)
    low = [int(rng.integers(0, n)) for n in SHAPE]
    box = tuple(slice(a, int(rng.integers(a, n + 1))) for a, n in zip(low, SHAPE, strict=True))
    mask[box] = rng.random(mask[box].shape) < 0.5
    return mask


@pytest.mark.parametrize("seed", range(20))
def test_boxes_and_cuts_agree_with_whole_arrays(seed: int) -> None:
    first, second = random_mask(seed), random_mask(100 + seed)
    a, b = (region_of(sitk.GetImageFromArray(mask.astype(np.uint8))) for mask in (first, second))
    assert np.array_equal(whole(a), first) and np.array_equal(whole(b), second)
    assert is_empty(box_of(first)) == (not first.any())
    both = union([a.box, b.box])
    assert np.array_equal(a.cut(both), first[both]) and np.array_equal(b.cut(both), second[both])
    shared = intersection(a.box, b.box)
    assert np.array_equal(a.cut(shared), first[shared])
    assert np.array_equal(whole(Region(both, a.cut(both)).trimmed()), first)
    assert np.array_equal(sitk.GetArrayFromImage(paste(a, GRID)), first)
    regions = [Region(r.box, r.values > 0) for r in (a, b)]
    assert overlap(regions) == bool((first & second).any())


@pytest.mark.parametrize("seed", range(10))
def test_masks_come_back_from_what_they_are_assembled_to(seed: int) -> None:
    masks = [random_mask(3 * seed + n) for n in range(3)]
    like = Segmentation(GRID, tuple(Segment(f"s{n}", n + 1) for n in range(3)))
    assembled = assemble([Region(box_of(m), m[box_of(m)]) for m in masks], like)
    for mask, found in zip(masks, masks_of(assembled), strict=True):
        assert np.array_equal(whole(found), mask)


@pytest.mark.parametrize(
    ("probabilities", "had", "winner"),
    [
        ((0.6, 0.9), (False, False), 1),
        ((0.9, 0.6), (False, True), 0),
        ((0.9, 0.9), (False, True), 1),
        ((0.9, 0.9), (True, False), 0),
        ((0.9, 0.9), (False, False), 0),
        ((0.6, 0.9, 0.7), (False, False, False), 1),
        ((0.8, 0.6, 0.9), (True, False, False), 2),
        ((0.9, 0.9, 0.9), (False, False, True), 2),
    ],
)
def test_contested_voxels_go_to_the_surer_one(
    probabilities: tuple[float, ...], had: tuple[bool, ...], winner: int
) -> None:
    """One contested voxel, and one that each has to itself."""
    boxes = [(slice(0, 1), slice(0, 1), slice(n, 9)) for n in range(len(had))]
    arrays = [np.zeros((1, 1, 9 - n)) for n in range(len(had))]
    for n, array in enumerate(arrays):
        array[0, 0, 5 - n] = array[0, 0, 0] = 1
    masks = {n: Region(box, array > 0) for n, (box, array) in enumerate(zip(boxes, arrays, strict=True))}
    maps = {n: (lambda n=n: Region(boxes[n], np.full(arrays[n].shape, probabilities[n]))) for n in masks}
    given = [Region(boxes[n], masks[n].values & had[n]) for n in masks]
    assert settle(masks, maps, given)
    claimed = [masks[n].cut((slice(0, 1), slice(0, 1), slice(5, 6))).item() for n in masks]
    assert claimed == [n == winner for n in masks]
    assert all(masks[n].values[0, 0, 0] for n in masks)
    assert not overlap(masks.values())
