"""What annotators drew, as arrays: for each annotation strategy of a data set a map of codes, 0 where nobody drew.

A positive code is the class plus one; a complementary one has the bits of all classes that the voxel is said not to be.
Where one drawing says a class and another one that it is not that class, somebody is wrong and nothing says who: the
class is then taken out of what is excluded there, and the number of such voxels is told.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from NoisyLabelSegLib.drawn_segments import MOST_CLASSES
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import overlap_fraction, read_image, resample_to, same_grid
from training.data.cases import Case, Drawing

BEYOND = -1.0
"""The value of voxels that a drawing's grid does not reach: nobody drew there, whatever kind it is of."""
NEARLY_ALL = 0.99
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
        InputError: a drawing lies beside the image or has a value that can be no class, or two positive ones of an
            annotator say different classes of a voxel.
    """
    codes = np.zeros((len(strategies), *image.GetSize()[::-1]), np.int32)
    for drawing in (one for one in case.drawings if strategy_of(one) in strategies):
        number = strategies.index(strategy_of(drawing))
        found = _codes(drawing, image)
        if drawing.kind != "complementary":
            _require_one_class(codes[number], found, drawing)
        codes[number] |= found
    return codes


def _require_one_class(before: Codes, found: Codes, drawing: Drawing) -> None:
    if wrong := np.count_nonzero((before > 0) & (found > 0) & (before != found)):
        raise InputError(
            f"The drawing '{drawing.path}' and another one of '{drawing.annotator}' say that {wrong} voxels are of two "
            "classes: correct one of them, or name two annotators."
        )


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
        if value in (drawing.ignore, BEYOND):
            continue
        meant = drawing.means.get(int(value), (int(value),))
        if value != int(value) or any(not 0 <= one < MOST_CLASSES for one in meant):
            raise InputError(
                f"The drawing '{drawing.path}' has the value {value:g}, which is no class of 0 to {MOST_CLASSES - 1}: "
                "say by 'means' what it stands for, or by 'ignore' that it is nothing."
            )
        bits = sum(1 << one for one in meant)
        codes[values == value] = bits if drawing.kind == "complementary" else bits.bit_length()
    return codes


def _on_grid(drawing: Drawing, image: sitk.Image) -> NDArray[np.float64]:
    """A drawing's values on the image's grid, `BEYOND` where it does not reach."""
    drawn = sitk.Cast(read_image(drawing.path), sitk.sitkFloat64)
    if not same_grid(drawn, image):
        somewhere = drawn != (BEYOND if drawing.ignore is None else drawing.ignore)
        anything = bool(sitk.GetArrayViewFromImage(somewhere).any())
        inside = overlap_fraction(somewhere, image) if anything else 1.0
        if inside == 0:
            raise InputError(f"The drawing '{drawing.path}' lies beside its image: is it of the same scan?")
        if inside < NEARLY_ALL:
            print(f"{1 - inside:.0%} of the drawing '{drawing.path}' lies outside its image.", file=sys.stderr)
        drawn = resample_to(drawn, image, "nearest", BEYOND)
    return sitk.GetArrayFromImage(drawn)
