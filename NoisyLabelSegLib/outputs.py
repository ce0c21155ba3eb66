"""Where a result goes: checked before the computation, written all together or not at all."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from NoisyLabelSegLib.dicom_series import resampling_note
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.exchange import Write, write_together
from NoisyLabelSegLib.images import SUFFIXES, save_file
from NoisyLabelSegLib.result import Result
from NoisyLabelSegLib.segmentations import write_segmentation

SEGMENTATION_SUFFIXES = (".seg.nrrd", *(suffix for suffix in SUFFIXES if suffix != ".mhd"))
MOST_STAGES = 9


@dataclass(frozen=True)
class Outputs:
    """The files of one refinement.

    Attributes:
        segmentation: the result, a .seg.nrrd (which also holds the provenance) or a label map.
        report: an .html file for a person.
        figures: a .json file with statistics, provenance and notes.
        all_stages: write every stage too, as NAME_stage1 … beside `segmentation`.
        overwrite: replace files that exist, and remove stages that an earlier, longer run has left.
        leftovers: files that belong to an earlier result, if there is one; with `overwrite` they go as soon as the new
            result is there.
    """

    segmentation: Path
    report: Path | None = None
    figures: Path | None = None
    all_stages: bool = False
    overwrite: bool = False
    leftovers: tuple[Path, ...] = ()

    @property
    def keeps_overlaps(self) -> bool:
        """Whether segments that overlap can be written."""
        return self.segmentation.name.lower().endswith(".seg.nrrd")

    def paths(self) -> list[Path]:
        """Every file that may be written or removed, the result first."""
        stages = self.stages() if self.all_stages else ()
        others = (*stages, self.resampled, self.report, self.figures, *self.leftovers)
        return list(dict.fromkeys([self.segmentation, *(path for path in others if path)]))

    def stages(self) -> list[Path]:
        """The files of all stages that there may be."""
        return [self.stage(number) for number in range(1, MOST_STAGES + 1)]

    def stage(self, number: int) -> Path:
        """The file of one stage."""
        stem, suffix = self._stem_and_suffix()
        return self.segmentation.with_name(f"{stem}_stage{number}{suffix}")

    @property
    def resampled(self) -> Path:
        """The file of the image itself, where it had to be resampled: the result lies on no other image's grid."""
        return self.segmentation.with_name(f"{self._stem_and_suffix()[0]}_resampled.nrrd")

    def _stem_and_suffix(self) -> tuple[str, str]:
        name = self.segmentation.name
        length = len(name) - len(_suffix(name, SEGMENTATION_SUFFIXES))
        return name[:length], name[length:]

    def check(self, inputs: Iterable[Path]) -> None:
        """Find out before the computation whether everything can be written.

        Raises:
            InputError: unsupported suffix, an input would be overwritten or removed, a file exists, or the folder is no
                place to write to.
        """
        _require_suffix(self.segmentation, SEGMENTATION_SUFFIXES)
        if self.report:
            _require_suffix(self.report, (".html", ".htm"))
        if self.figures:
            _require_suffix(self.figures, (".json",))
        check_places(self.paths(), inputs, overwrite=self.overwrite)

    def write(self, result: Result) -> list[Path]:
        """Write everything and return the files; if one fails, all that was there before is there unchanged.

        Raises:
            InputError: a file cannot be written, or segments overlap and the file is a label map.
        """
        from NoisyLabelSegLib.report import write_report

        wanted = [(self.segmentation, len(result.stages) - 1)]
        if self.all_stages:
            wanted += [(self.stage(number), number) for number in range(1, len(result.stages))]
        jobs: dict[Path, Write] = {path: partial(_write_stage, result, number) for path, number in wanted}
        if resampling_note(result.image):
            jobs[self.resampled] = partial(save_file, image=result.image)
        if self.report:
            jobs[self.report] = partial(write_report, result)
        if self.figures:
            jobs[self.figures] = partial(_write_figures, result)
        write_together(jobs, set(self.paths()) - set(jobs) if self.overwrite else ())
        return list(jobs)


def _suffix(name: str, allowed: Sequence[str]) -> str:
    """The first, longest suffix of `allowed` that the name has; empty when it has none."""
    return next((suffix for suffix in allowed if name.lower().endswith(suffix)), "")


def _require_suffix(path: Path, allowed: Sequence[str]) -> None:
    if not _suffix(path.name, allowed):
        raise InputError(f"{path} cannot be written: use a name that ends in {' or '.join(allowed)}.")


def check_places(paths: Sequence[Path], inputs: Iterable[Path], *, overwrite: bool) -> None:
    """Raise InputError if one of the files is an input, exists without leave to replace it, or cannot be written."""
    refuse_inputs(paths, inputs)
    for path in paths:
        try:
            _check_place(path, overwrite)
        except OSError as error:
            raise InputError(f"{path} cannot be written ({error.strerror or error}): choose another.") from error


def refuse_inputs(paths: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Raise InputError if one of the files to be written or removed is an input."""
    given = {key for path in inputs for key in _keys(path)}
    for path in paths:
        if given & _keys(path):
            raise InputError(f"{path} is an input of this run, which is never overwritten: choose another output.")


def _keys(path: Path) -> set[str]:
    """What a file is known by: its place, where its links lead, and its number on the disk.

    Upper and lower case may be the same file.
    """
    keys = {os.path.realpath(path).casefold(), os.path.join(os.path.realpath(path.parent), path.name).casefold()}
    with suppress(OSError):
        status = path.stat()
        keys.add(f"{status.st_dev}:{status.st_ino}")
    return keys


def _check_place(path: Path, overwrite: bool) -> None:
    if path.is_dir():
        raise InputError(f"{path} cannot be written: it is a folder; give a file's name.")
    if os.path.lexists(path) and not overwrite:
        raise InputError(f"{path} exists already: choose another name, or allow replacing it with --overwrite.")
    if not path.parent.is_dir():
        raise InputError(f"{path} cannot be written: {path.parent} is not a folder; create it or choose another.")
    # Trying it is the only test that knows about rights, read-only disks and quotas alike.
    with tempfile.TemporaryFile(dir=path.parent):
        pass


def _write_stage(result: Result, number: int, path: Path) -> None:
    write_segmentation(path, result.stages[number], metadata(result.provenance, number))


def metadata(provenance: Mapping[str, Any], stage: int) -> dict[str, str]:
    """The provenance as keys of a .seg.nrrd: text as it is, everything else as JSON."""
    model = provenance["model"]
    values = {
        "model": model["name"],
        "model_version": model["version"],
        "model_sha256": model["sha256"],
        "model_licence": model["licence"],
        "stage": stage,
        **{key: value for key, value in provenance.items() if key != "model"},
    }
    # A line break in a value would begin a new header line.
    return {
        f"NoisyLabelSeg_{key}": " ".join(value.split()) if isinstance(value, str) else json.dumps(plain_json(value))
        for key, value in values.items()
    }


def _write_figures(result: Result, path: Path) -> None:
    write_json({"statistics": result.statistics, "provenance": result.provenance, "notes": result.notes}, path)


def write_json(values: Mapping[str, Any], path: Path) -> None:
    """Write JSON values, see `plain_json`, to be read by persons, too."""
    text = json.dumps(plain_json(values), indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def plain_json(value: Any) -> Any:
    """The same with None for NaN and infinity, which JSON does not have."""
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_json(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
