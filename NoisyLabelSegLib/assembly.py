"""From each segment's mask in its region to a segmentation of the whole grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np
import SimpleITK as sitk

from NoisyLabelSegLib.regions import Region, intersection, overlap, union, within
from NoisyLabelSegLib.segmentations import Segment, Segmentation


def settle(
    masks: dict[int, Region], probabilities: Mapping[int, Callable[[], Region]], given: Sequence[Region]
) -> list[tuple[int, int]]:
    """Leave each voxel that several masks claim to the one with the higher probability.

    Equal probabilities go to the segment that had the voxel when given, else to the first.

    Args:
        masks: bool, by the place of the segment; changed.
        probabilities: of the same places, each made when asked for.
        given: every segment's mask as it was given.

    Returns:
        The pairs of places that claimed the same voxels.
    """
    if not overlap(masks.values()):
        return []
    pairs = []
    for a, b in combinations(sorted(masks), 2):
        box = intersection(masks[a].box, masks[b].box)
        both = masks[a].cut(box) & masks[b].cut(box)
        if both.any():
            pairs.append((a, b))
            first, second = probabilities[a]().cut(box), probabilities[b]().cut(box)
            had = given[b].cut(box) & ~given[a].cut(box)
            to_second = (second > first) | ((second == first) & had)
            masks[a] = _without(masks[a], Region(box, both & to_second))
            masks[b] = _without(masks[b], Region(box, both & ~to_second))
    return pairs


def _without(mask: Region, taken: Region) -> Region:
    return Region(mask.box, mask.values & ~taken.cut(mask.box))


def assemble(masks: Sequence[Region], like: Segmentation) -> Segmentation:
    """Segments over one label map where none overlap, else a layer each; names, colours and codes are kept."""
    if overlap(masks):
        picture, places = _layers(masks, like), [(1, layer) for layer in range(len(masks))]
    else:
        labels = [segment.label for segment in like.segments]
        labels = labels if len(set(labels)) == len(labels) else list(range(1, len(masks) + 1))
        picture, places = _label_map(masks, labels, like), [(label, 0) for label in labels]
    segments = tuple(
        Segment(s.name, label, layer, s.color, s.id, s.terminology, s.extra)
        for s, (label, layer) in zip(like.segments, places, strict=True)
    )
    return Segmentation(picture, segments)


def _layers(masks: Sequence[Region], like: Segmentation) -> sitk.Image:
    voxels = np.zeros((*like.image.GetSize()[::-1], len(masks)), np.uint8)
    for layer, mask in enumerate(masks):
        voxels[..., layer][mask.box] = mask.values
    picture = sitk.GetImageFromArray(voxels, isVector=True)
    picture.CopyInformation(like.image)
    return picture


def _label_map(masks: Sequence[Region], labels: Sequence[int], like: Segmentation) -> sitk.Image:
    whole = union(mask.box for mask in masks)
    wide = max(labels) > 255 or min(labels) < 0
    voxels = np.zeros([side.stop - side.start for side in whole], np.int32 if wide else np.uint8)
    for mask, label in zip(masks, labels, strict=True):
        voxels[within(mask.box, whole)][mask.values] = label
    return paste(Region(whole, voxels), like.image)


def paste(region: Region, grid: sitk.Image, outside: float = 0) -> sitk.Image:
    """The region on the whole grid, which has one value outside of it."""
    part = sitk.GetImageFromArray(region.values)
    whole = sitk.Image(grid.GetSize(), part.GetPixelID())
    if outside:
        whole = whole + outside
    if region.values.size:
        whole = sitk.Paste(whole, part, part.GetSize(), (0, 0, 0), [side.start for side in region.box[::-1]])
    whole.CopyInformation(grid)
    return whole
