"""The folder with a segmentation, its uncertainty and suspect labels: checked first, written whole or not at all."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from NoisyLabelSegLib.dicom_series import resampling_note
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.exchange import Write, write_together
from NoisyLabelSegLib.images import save_file
from NoisyLabelSegLib.outputs import check_places, metadata, write_json
from NoisyLabelSegLib.result import Result
from NoisyLabelSegLib.segmentations import write_segmentation
from NoisyLabelSegLib.tables import harmless
from NoisyLabelSegLib.uncertainty_summary import structures_of

PROBABILITY = "probability_"
SEGMENTATION, FIGURES, REPORT, SUSPECTS = "segmentation.seg.nrrd", "figures.json", "report.html", "suspects.csv"
GIVEN, RESAMPLED = "given.seg.nrrd", "image_resampled.nrrd"
VERSION = 1
"""Of what `saved_result.read_saved_result` reads."""
MAPS = ("entropy", "confidence", "suspect")
COLUMNS = (
    *("rank", "score", "given", "suggested", "voxels", "volume_mm3"),
    *("i", "j", "k", "r_mm", "a_mm", "s_mm"),
)


@dataclass(frozen=True)
class UncertaintyOutputs:
    """The files of one result.

    Attributes:
        folder: made if it is not there.
        overwrite: replace files of an earlier result, and remove those that the new one does not have.
    """

    folder: Path
    overwrite: bool = False

    @contextmanager
    def prepared(self, inputs: Iterable[Path]) -> Iterator[None]:
        """Find out whether everything can be written, and make the folder; where it stays empty it goes again.

        Raises:
            InputError: an input would be overwritten or removed, a file exists, or the folder is no place to write to.
        """
        made = _make(self.folder)
        try:
            check_places(self._known(), inputs, overwrite=self.overwrite)
            yield
        finally:
            with suppress(OSError):  # it is not empty
                for folder in made:
                    folder.rmdir()

    def _known(self) -> list[Path]:
        """Every file that may be there from an earlier result or is always written."""
        names = [SEGMENTATION, *map(map_file, MAPS), FIGURES, REPORT, SUSPECTS, GIVEN, RESAMPLED]
        return [self.folder / name for name in [*names, *_earlier_probabilities(self.folder / FIGURES)]]

    def write(self, result: Result) -> list[Path]:
        """Write everything and return the files; if one fails, all that was there before is there unchanged.

        Raises:
            InputError: a file cannot be written.
        """
        from NoisyLabelSegLib.uncertainty_report import write_uncertainty_report

        jobs: dict[str, Write] = {SEGMENTATION: partial(_write_stage, result, 1)}
        jobs |= {map_file(name): partial(_write_map, result.maps, name) for name in result.maps}
        for name, segment in zip(_file_names(result), result.probabilities, strict=True):
            jobs[name] = partial(_write_map, result.probabilities, segment)
        if resampling_note(result.image):
            jobs[RESAMPLED] = partial(save_file, image=result.image)
        if "suspect" in result.maps:
            jobs[SUSPECTS] = partial(_write_suspects, result.suspects)
            jobs[GIVEN] = partial(_write_stage, result, 0)
        probabilities = [name for name in jobs if name.startswith(PROBABILITY)]
        jobs[FIGURES] = partial(_write_figures, result, probabilities)
        jobs[REPORT] = partial(write_uncertainty_report, result)
        files = {self.folder / name: write for name, write in jobs.items()}
        write_together(files, set(self._known()) - set(files) if self.overwrite else ())
        return list(files)


def _make(folder: Path) -> list[Path]:
    """Make a folder, and give those that were made, the innermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be made ({error.strerror}): choose another.") from error
    return missing


def map_file(name: str) -> str:
    """The file of a map."""
    return f"{name}.nii.gz"


def _file_names(result: Result) -> list[str]:
    """A file for each structure's probabilities; names may be anything, also alike."""
    names: list[str] = []
    for segment in result.stages[-1].segments:
        safe = re.sub(r"[^A-Za-z0-9]+", "_", segment.name).strip("_")[:60] or "structure"
        taken = {name.casefold() for name in names}
        tries = (safe if number == 1 else f"{safe}_{number}" for number in range(1, len(names) + 2))
        names.append(next(name for name in tries if name.casefold() not in taken))
    return [map_file(f"{PROBABILITY}{name}") for name in names]


def _earlier_probabilities(figures: Path) -> list[str]:
    """The files that an earlier result's figures name; whatever else there is belongs to somebody else."""
    try:
        named = json.loads(figures.read_text(encoding="utf-8"))["probabilities"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [name for name in named if is_probability(name)]


def is_probability(name: Any) -> bool:
    """Whether a file is called as those of probabilities are; a path is not."""
    pattern = re.escape(PROBABILITY) + r"\w+\.nii\.gz"
    return isinstance(name, str) and re.fullmatch(pattern, name, re.ASCII) is not None


def _write_stage(result: Result, number: int, path: Path) -> None:
    write_segmentation(path, result.stages[number], metadata(result.provenance, number))


def _write_map(maps: Mapping[str, sitk.Image], name: str, path: Path) -> None:
    save_file(path, maps[name])


def _write_figures(result: Result, probabilities: Sequence[str], path: Path) -> None:
    figures = {
        "version": VERSION,
        "probabilities": probabilities,
        "structures": structures_of(result),
        "suspects": result.suspects,
        "statistics": result.statistics,
        "provenance": result.provenance,
        "notes": result.notes,
        "slice_axis": result.slice_axis,
    }
    write_json(figures, path)


def _write_suspects(suspects: Sequence[Mapping[str, Any]], path: Path) -> None:
    with path.open("w", encoding="utf-8", errors="replace", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(map(suspect_cells, suspects))


def suspect_cells(row: Mapping[str, Any]) -> list[Any]:
    """A row of `result.Result.suspects` as cells of `COLUMNS`."""
    given, suggested = harmless(row["given"]), harmless(row["suggested"])
    place = (*row["index"], *(f"{value:.2f}" for value in row["ras_mm"]))
    size = (row["voxels"], f"{row['volume_mm3']:.6g}")
    return [row["rank"], row["score"], given, suggested, *size, *place]
