"""Drawings as segments: a segment's name says what was drawn and, after an @, who drew it.

``RV`` is drawn as the structure RV, ``background`` as no structure at all, and ``not RV`` as anything but RV. With a
name, ``RV @anna`` and ``not RV @ben``. What one annotator drew in one way becomes one label map.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.regions import Region, is_empty, masks_of, union
from NoisyLabelSegLib.segmentations import Segmentation

BACKGROUND = "background"
ANNOTATOR = "annotator"
"""Who drew the segments that name nobody."""
MOST_CLASSES = 24
"""So many classes, the background among them, can be trained on: the training's codes are whole numbers of float32."""
NOBODY = 255
"""The value of voxels that nobody drew on."""

Kind = Literal["positive", "complementary"]
LabelMap = NDArray[np.uint8]
Means = dict[int, tuple[int, ...]]
"""The classes that a value of a label map stands for."""

_NAME = re.compile(
    r"""\s* (?P<excluded>not\s+)? (?!not(\s|@|$))
    (?P<structure>[^@\s]([^@]*[^@\s])?) \s*
    (@\s*(?P<annotator>\S(.*\S)?)\s*)?""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)


class Meaning(NamedTuple):
    """What a segment's name says; `structure` is `BACKGROUND` for what is none."""

    annotator: str
    kind: Kind
    structure: str


@dataclass(frozen=True, eq=False)
class Drawn:
    """All that one annotator drew of an image in one way.

    Attributes:
        annotator: who drew it.
        kind: of a "positive" one a voxel's value is its class, of a "complementary" one a number for the classes that
            it is not.
        labels: (slices, rows, columns), `NOBODY` where nothing was drawn.
        means: the classes of each number of a complementary one.
    """

    annotator: str
    kind: Kind
    labels: LabelMap
    means: Means = field(default_factory=dict)


class _Stroke(NamedTuple):
    name: str
    value: int
    mask: Region


def meaning_of(name: str) -> Meaning:
    """What a segment's name says; one that names nobody was drawn by `ANNOTATOR`.

    Raises:
        InputError: it names no structure, or nobody after an @, or what is not background.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise InputError(f"The segment '{name}' does not say what is drawn: call it 'RV', 'not RV' or 'RV @anna', say.")
    structure, excluded = found["structure"], found["excluded"]
    if structure.casefold() == BACKGROUND:
        if excluded:
            raise InputError(f"The segment '{name}' does not say which structure it is: draw each one by its name.")
        structure = BACKGROUND
    return Meaning(found["annotator"] or ANNOTATOR, "complementary" if excluded else "positive", structure)


def structures_of(names: Iterable[str]) -> list[str]:
    """The structures that segments' names speak of, each once, without the background."""
    found = dict.fromkeys(meaning_of(name).structure for name in names)
    return [structure for structure in found if structure != BACKGROUND]


def drawings_of(segmentation: Segmentation, values: Mapping[str, int]) -> list[Drawn]:
    """What segments on an image's grid say, as a label map for each annotator and kind, in the order of the segments.

    Args:
        segmentation: segments that are named as the module's text says; may overlap.
        values: a class, 1 to 254, for each structure that they speak of.

    Raises:
        InputError: no segment or an empty one, a name that says nothing, or voxels that one annotator drew as two
            classes.
    """
    shape = segmentation.image.GetSize()[::-1]
    strokes: dict[tuple[str, Kind], list[_Stroke]] = {}
    for name, mask in zip(segmentation.names, masks_of(segmentation), strict=True):
        who, kind, structure = meaning_of(name)
        if is_empty(mask.box):
            raise InputError(f"The segment '{name}' has no voxel in the image: draw it there, or remove the segment.")
        value = 0 if structure == BACKGROUND else values[structure]
        strokes.setdefault((who, kind), []).append(_Stroke(name, value, mask))
    if not strokes:
        raise InputError("There are no segments: draw at least one, and name it after its structure.")
    return [
        Drawn(who, kind, *(_complementary if kind == "complementary" else _positive)(found, shape))
        for (who, kind), found in strokes.items()
    ]


def combined(excluded: Mapping[int, NDArray[np.bool_]]) -> tuple[LabelMap, Means]:
    """One map of what voxels are said not to be: a number for each combination of classes, and what numbers mean.

    Args:
        excluded: for each class, where the voxels are not of it; masks of one shape.

    Raises:
        InputError: more combinations than a label map has numbers.
    """
    drawn = np.logical_or.reduce(list(excluded.values()))
    numbers = np.zeros(np.count_nonzero(drawn), np.int64)
    classes: list[tuple[int, ...]] = [()]
    for value, mask in excluded.items():
        found, numbers = np.unique(2 * numbers + mask[drawn], return_inverse=True)
        classes = [classes[code // 2] + (value,) * (code % 2) for code in found.tolist()]
    if len(classes) > NOBODY:
        raise InputError(f"There are {len(classes)} combinations of complements, and {NOBODY} at most can be written.")
    labels = np.full(drawn.shape, NOBODY, np.uint8)
    labels[drawn] = numbers
    return labels, dict(enumerate(classes))


def _positive(strokes: list[_Stroke], shape: tuple[int, ...]) -> tuple[LabelMap, Means]:
    labels = np.full(shape, NOBODY, np.uint8)
    for name, value, mask in strokes:
        part = labels[mask.box]
        taken = part[mask.values & (part != NOBODY) & (part != value)]
        if taken.size:
            other = next(stroke.name for stroke in strokes if stroke.value == taken[0])
            raise InputError(
                f"The segments '{other}' and '{name}' overlap in {np.count_nonzero(taken == taken[0])} voxels: a voxel "
                "is one or the other, so erase it in one of them."
            )
        part[mask.values] = value
    return labels, {}


def _complementary(strokes: list[_Stroke], shape: tuple[int, ...]) -> tuple[LabelMap, Means]:
    box = union(stroke.mask.box for stroke in strokes)
    excluded: dict[int, NDArray[np.bool_]] = {}
    for _, value, mask in strokes:
        excluded[value] = excluded.get(value, False) | mask.cut(box)
    labels = np.full(shape, NOBODY, np.uint8)
    labels[box], means = combined(excluded)
    return labels, means
