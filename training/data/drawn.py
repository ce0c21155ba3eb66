"""Coarse drawings made of experts' masks, as RefineSeg has them (Du et al., MICCAI 2025): eroded, slice by slice.

A structure, and the background, is drawn as what is left of it after an erosion; where nothing would be left, as the
voxels farthest from its border: somebody who draws at all puts a dot. Likewise what a voxel is not: the complement of
each class, eroded. Both are one drawing each, in which a value stands for what is said at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from NoisyLabelSegLib.drawn_segments import NOBODY, combined
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import read_image
from training.data.adapters.files import write_labels
from training.data.cases import Case, DataSet, Drawing, write_dataset
from training.data.masks import expert_labels

Mask = NDArray[np.bool_]


def draw_dataset(dataset: DataSet, folder: Path, inside: float, outside: float) -> DataSet:
    """Write a copy of a data set with a positive and a complementary drawing of each case, and no others.

    Args:
        dataset: cases with experts' labels, which stay for measuring.
        folder: of the copy.
        inside, outside: radius of the erosion of structures and background, and of complements, voxels in the plane.
    """
    if inside < 0 or outside < 0:
        raise InputError("Drawings are eroded by 0 voxels or more.")
    classes = [0, *dataset.labels]
    cases = tuple(_drawn(case, folder, classes, inside, outside) for case in dataset.cases)
    told = {**dataset.simulation, "eroded": inside, "complements_eroded": outside}
    drawn = replace(dataset, name=f"{dataset.name}, drawn coarsely", cases=cases, simulation=told)
    write_dataset(folder, drawn)
    return drawn


def _drawn(case: Case, folder: Path, classes: list[int], inside: float, outside: float) -> Case:
    expert = expert_labels(case, read_image(case.image))
    labels = sitk.GetArrayFromImage(expert)
    positive = np.full(labels.shape, NOBODY, np.uint8)
    for value in classes:
        positive[eroded(labels == value, inside)] = value
    codes, means = complements(labels, classes, outside)
    paths = [folder / "drawnTr" / f"{case.id}_{kind}.nii.gz" for kind in ("positive", "complementary")]
    write_labels(paths[0], positive, expert)
    write_labels(paths[1], codes, expert)
    drawings = (
        Drawing(paths[0], "eroded", "positive", NOBODY),
        Drawing(paths[1], "eroded", "complementary", NOBODY, means),
    )
    return replace(case, drawings=drawings)


def eroded(mask: Mask, radius: float) -> Mask:
    """A mask (slices, rows, columns) without what is nearer than ``radius`` to its border, slice by slice.

    Of a part that would vanish its inmost voxels stay. What the slice's edge cuts is not border.
    """
    kept = np.zeros_like(mask)
    for target, section in zip(kept, mask, strict=True):
        if section.all():
            target[:] = True
        elif section.any():
            depth = ndimage.distance_transform_edt(section)
            parts, count = ndimage.label(section)
            deepest = np.concatenate([[np.inf], ndimage.maximum(depth, parts, np.arange(1, count + 1))])
            target[:] = section & (depth >= np.minimum(radius + 1, deepest)[parts])
    return kept


def complements(
    labels: NDArray[np.integer], classes: list[int], radius: float
) -> tuple[NDArray[np.uint8], Mapping[int, tuple[int, ...]]]:
    """What voxels are said not to be: a map of numbers, and the classes that each number excludes."""
    return combined({value: eroded(labels != value, radius) for value in classes})
