"""A folder that `uncertainty_outputs.UncertaintyOutputs` has written, read again: checked, and never changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from NoisyLabelSegLib.bundle.strict_json import convert, read_json
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.images import SUFFIXES, read_image
from NoisyLabelSegLib.outcome import Map, MapName, Outcome
from NoisyLabelSegLib.outputs import plain_json
from NoisyLabelSegLib.regions import NOTHING, Region, box_of, masks_of, union, within
from NoisyLabelSegLib.segmentations import read_segmentation
from NoisyLabelSegLib.uncertainty_outputs import (
    FIGURES,
    GIVEN,
    RESAMPLED,
    SEGMENTATION,
    VERSION,
    is_probability,
    map_file,
)

_ROUNDING = 0.01
"""Of a voxel: NIfTI keeps a grid in single precision, .seg.nrrd in double."""


@dataclass(frozen=True)
class SavedResult:
    """What a folder holds.

    Attributes:
        folder: where it was read.
        grid: of the image, on which all lies.
        outcome: as it was written, with identifiers for all segments, and maps in one box around all that they say;
            the voxels of the suspect regions are not in the folder.
    """

    folder: Path
    grid: Grid
    outcome: Outcome

    @property
    def image_name(self) -> str:
        """The file's that the result was made of; empty where it is not known."""
        name = self.outcome.provenance.get("image")
        return name if isinstance(name, str) else ""

    @property
    def image(self) -> Path | None:
        """The image's file, in the folder or beside it; None where it is not there."""
        places = [self.folder / RESAMPLED]
        # A name from a stranger's file, not a path.
        if Path(self.image_name).name == self.image_name and self.image_name.lower().endswith(SUFFIXES):
            places += [self.folder / self.image_name, self.folder.absolute().parent / self.image_name]
        return next((path for path in places if path.is_file()), None)


@dataclass(frozen=True)
class _Row:
    """Of `result.Result.statistics`."""

    segment: str
    stage: int
    volume_mm3: float
    dice_to_given: float | None
    hd95_to_given_mm: float | None
    hd95_to_previous_mm: float | None
    changed_voxels: int


@dataclass(frozen=True)
class _Suspect:
    """Of `result.Result.suspects`."""

    rank: int
    score: float
    given: str
    suggested: str
    given_label: int
    suggested_label: int
    voxels: int
    volume_mm3: float
    index: tuple[int, int, int]
    ras_mm: tuple[float, float, float]


@dataclass(frozen=True)
class _Figures:
    version: int
    probabilities: tuple[str, ...]
    structures: tuple[Mapping[str, Any], ...]
    suspects: tuple[_Suspect, ...]
    statistics: tuple[_Row, ...]
    provenance: Mapping[str, Any]
    notes: tuple[str, ...]
    slice_axis: int

    def __post_init__(self) -> None:
        if self.slice_axis not in range(3):
            raise InputError(f"its slices lie along axis {self.slice_axis} of 0 to 2.")
        if not all(map(is_probability, self.probabilities)):
            raise InputError("its probabilities are not files of this folder.")


@dataclass(frozen=True)
class _File:
    """Of a map; see `outcome.Map`."""

    path: Path
    name: MapName
    segment: str = ""
    outside: float = 0


def read_saved_result(folder: Path) -> SavedResult:
    """Read what ``noisylabelseg uncertainty`` or ``segment`` wrote into a folder; the image itself is not read.

    Raises:
        InputError: the folder holds no such result or that of another version, a file is missing or damaged, or lies on
            another grid than the segmentation.
    """
    figures = _figures(folder)
    found = read_segmentation(folder / SEGMENTATION)
    grid, ids = Grid.of(found.image), [segment.id for segment in found.segments]
    if not all(ids) or not 0 < len(set(ids)) == len(ids) == len(figures.probabilities) == len(figures.statistics) / 2:
        raise InputError(f"The files in '{folder}' do not belong together: let them be written again.")
    labelled = any((folder / name).exists() for name in (GIVEN, map_file("suspect")))
    given = _given(folder / GIVEN, ids, grid) if labelled else [NOTHING] * len(ids)
    stages = tuple(given), tuple(masks_of(found))
    files = _files(folder, dict(zip(ids, figures.probabilities, strict=True)), labelled=labelled)
    outcome = Outcome(
        segments=found.segments,
        stages=stages,
        maps=_maps(files, grid, [mask for stage in stages for mask in stage]),
        statistics=tuple(plain_json(asdict(row)) for row in figures.statistics),
        provenance=figures.provenance,
        notes=figures.notes,
        slice_axis=figures.slice_axis,
        suspects=tuple(plain_json(asdict(row)) for row in figures.suspects),
    )
    return SavedResult(folder, grid, outcome)


def _figures(folder: Path) -> _Figures:
    if not ((folder / FIGURES).is_file() and (folder / SEGMENTATION).is_file()):
        raise InputError(
            f"'{folder}' is no result of 'noisylabelseg uncertainty': choose the folder with a case's {SEGMENTATION}."
        )
    content = read_json(folder / FIGURES)
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise InputError(f"'{folder}' was written by another version of NoisyLabelSeg: let it be written again.")
    return convert(_Figures, content, f"'{folder / FIGURES}'")


def _given(path: Path, ids: Sequence[str], grid: Grid) -> list[Region]:
    given = read_segmentation(path)
    _require_on(grid, given.image, path)
    if [segment.id for segment in given.segments] != ids:
        raise InputError(f"'{path}' has other segments than {SEGMENTATION}: let both be written again.")
    return masks_of(given)


def _require_on(grid: Grid, image: sitk.Image, path: Path) -> None:
    if not grid.same_as(Grid.of(image), _ROUNDING):
        raise InputError(f"'{path}' does not lie on the grid of {SEGMENTATION} beside it: they are not of one result.")


def _files(folder: Path, probabilities: Mapping[str, str], *, labelled: bool) -> list[_File]:
    """The maps in the order in which they are found; ``probabilities`` are names of files by segments' identifiers."""
    return [
        _File(folder / map_file("entropy"), "entropy"),
        _File(folder / map_file("confidence"), "confidence", outside=1),
        *(_File(folder / name, "probability", segment) for segment, name in probabilities.items()),
        *([_File(folder / map_file("suspect"), "suspect")] if labelled else []),
    ]


def _maps(files: Sequence[_File], grid: Grid, masks: Sequence[Region]) -> tuple[Map, ...]:
    """The maps in one box around all that they and the masks say, however large the grid is."""
    regions = [_region(file, grid) for file in files]
    box = union(region.box for region in (*regions, *masks))
    made = []
    for file, region in zip(files, regions, strict=True):
        values = np.full([side.stop - side.start for side in box], file.outside, np.float32)
        values[within(region.box, box)] = region.values
        made.append(Map(file.name, file.segment, Region(box, values), 0, 1, file.outside))
    return tuple(made)


def _region(file: _File, grid: Grid) -> Region:
    """Where a map says something."""
    image = read_image(file.path)
    _require_on(grid, image, file.path)
    values = sitk.GetArrayViewFromImage(image)
    box = box_of(values != file.outside)
    return Region(box, values[box].astype(np.float32))
