"""What annotators drew, as arrays: for each annotation strategy of a data set a map of codes, 0 where nobody drew.

A positive code is the class plus one; a complementary one has the bits of all classes that the voxel is said not to be.
Where one drawing says a class and another one that it is not that class, somebody is wrong and nothing says who: the
class is then taken out of what is excluded there, and the number of such voxels is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import overlap_fraction, read_image, resample_to, same_grid
from training.data.cases import Case, Drawing

MOST_CLASSES = 24
"""Codes pass through interpolation in float32, which holds whole numbers up to 2 ** 24."""
Codes = NDArray[np.int32]


class Strategy(NamedTuple):
    """All drawings of one annotator in one way."""

    annotator: str
    complementary: bool

    def __str__(self) -> str:
        return f"{self.annotator} ({'complementary' if self.complementary else 'positive'})"


def strategies_of(cases: Sequence[Case]) -> list[Strategy]:
    """The strategies of some cases, in the order in which they appear."""
    return list(dict.fromkeys(strategy_of(drawing) for case in cases for drawing in case.drawings))


def strategy_of(drawing: Drawing) -> Strategy:
    return Strategy(drawing.annotator, drawing.kind == "complementary")


def read_drawings(case: Case, image: sitk.Image, strategies: Sequence[Strategy]) -> Codes:
    """A case's codes ``(strategies, slices, rows, columns)``; of a strategy that did not draw here, zeros.

    Args:
        case, image: the case and its image.
        strategies: those that are wanted, see `strategies_of`.

    Raises:
        InputError: a drawing lies beside the image, or has a value that can be no class.
    """
    codes = np.zeros((len(strategies), *image.GetSize()[::-1]), np.int32)
    for drawing in (one for one in case.drawings if strategy_of(one) in strategies):
        number = strategies.index(strategy_of(drawing))
        found = _codes(drawing, image)
        # Of two positive drawings of one annotator the later one counts; complements add up.
        if drawing.kind == "complementary":
            codes[number] |= found
        else:
            codes[number] = np.where(found, found, codes[number])
    return codes


def contradictions(codes: Codes, strategies: Sequence[Strategy]) -> int:
    """How many voxels are drawn as a class by one drawing and said not to be that class by another."""
    positive, excluded = np.zeros_like(codes[0]), np.zeros_like(codes[0])
    for found, strategy in zip(codes, strategies, strict=True):
        if strategy.complementary:
            excluded |= found
        else:
            positive |= np.where(found > 0, 1 << np.maximum(found - 1, 0), 0).astype(np.int32)
    return int(np.count_nonzero(positive & excluded))


def drawn_foreground(codes: Codes, strategies: Sequence[Strategy]) -> NDArray[np.uint8]:
    """The label map of what was drawn as a structure; of several the last strategy's."""
    labels = np.zeros(codes.shape[1:], np.uint8)
    for found, strategy in zip(codes, strategies, strict=True):
        if not strategy.complementary:
            labels = np.where(found > 1, found - 1, labels).astype(np.uint8)
    return labels


def drawn_voxels(codes: Codes, strategies: Sequence[Strategy], classes: int) -> NDArray[np.int64]:
    """Of each class how many voxels are drawn as it."""
    counts = np.zeros(classes, np.int64)
    for found, strategy in zip(codes, strategies, strict=True):
        if not strategy.complementary:
            counts += np.bincount(found.ravel(), minlength=classes + 1)[1 : classes + 1]
    return counts


def _codes(drawing: Drawing, image: sitk.Image) -> Codes:
    values = _on_grid(drawing, image)
    codes = np.zeros(values.shape, np.int32)
    for value in np.unique(values):
        if value == drawing.ignore:
            continue
        meant = drawing.means.get(int(value), (int(value),))
        if any(not 0 <= one < MOST_CLASSES for one in meant):
            raise InputError(
                f"The drawing '{drawing.path}' has the value {value}, which is no class of 0 to {MOST_CLASSES - 1}: "
                "say by 'means' what it stands for, or by 'ignore' that it is nothing."
            )
        bits = sum(1 << one for one in meant)
        codes[values == value] = bits if drawing.kind == "complementary" else bits.bit_length()
    return codes


def _on_grid(drawing: Drawing, image: sitk.Image) -> NDArray[np.int64]:
    drawn = read_image(drawing.path)
    if not same_grid(drawn, image):
        if overlap_fraction(drawn + 1, image) == 0:
            raise InputError(f"The drawing '{drawing.path}' lies beside its image: is it of the same scan?")
        drawn = resample_to(drawn, image, "nearest", drawing.ignore or 0)
    return sitk.GetArrayFromImage(drawn).astype(np.int64)
