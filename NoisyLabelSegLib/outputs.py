"""Where a result goes: checked before the computation, written all together or not at all."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import SUFFIXES
from NoisyLabelSegLib.result import Result
from NoisyLabelSegLib.segmentations import write_segmentation

SEGMENTATION_SUFFIXES = (".seg.nrrd", *(suffix for suffix in SUFFIXES if suffix != ".mhd"))
MOST_STAGES = 9

Write = Callable[[Path], None]


@dataclass(frozen=True)
class Outputs:
    """The files of one refinement.

    Attributes:
        segmentation: the result, a .seg.nrrd (which also holds the provenance) or a label map.
        report: an .html file for a person.
        figures: a .json file with statistics, provenance and notes.
        all_stages: write every stage too, as NAME_stage1 … beside `segmentation`.
        overwrite: replace files that exist; of stages also those that an earlier, longer run has left.
    """

    segmentation: Path
    report: Path | None = None
    figures: Path | None = None
    all_stages: bool = False
    overwrite: bool = False

    @property
    def keeps_overlaps(self) -> bool:
        """Whether segments that overlap can be written."""
        return self.segmentation.name.lower().endswith(".seg.nrrd")

    def paths(self) -> list[Path]:
        """Every file that may be written."""
        stages = [self.stage(number) for number in range(1, MOST_STAGES + 1)] if self.all_stages else []
        return [self.segmentation, *stages, *(path for path in (self.report, self.figures) if path)]

    def stage(self, number: int) -> Path:
        """The file of one stage."""
        name = self.segmentation.name
        suffix = _suffix(name, SEGMENTATION_SUFFIXES)
        return self.segmentation.with_name(f"{name[: -len(suffix)]}_stage{number}{name[-len(suffix) :]}")

    def check(self, inputs: Iterable[Path]) -> None:
        """Find out before the computation whether everything can be written.

        Raises:
            InputError: unsupported suffix, an input would be overwritten, a file exists, or the folder is no place to
                write to.
        """
        _require_suffix(self.segmentation, SEGMENTATION_SUFFIXES)
        if self.report:
            _require_suffix(self.report, (".html", ".htm"))
        if self.figures:
            _require_suffix(self.figures, (".json",))
        inputs = list(inputs)
        for path in self.paths():
            try:
                _check_place(path, inputs, self.overwrite)
            except OSError as error:
                raise InputError(f"{path} cannot be written ({error.strerror or error}): choose another.") from error

    def write(self, result: Result) -> list[Path]:
        """Write everything and return the files; if one fails, none is there.

        Raises:
            InputError: a file cannot be written, or segments overlap and the file is a label map.
        """
        from NoisyLabelSegLib.report import write_report

        wanted = [(self.segmentation, len(result.stages) - 1)]
        if self.all_stages:
            wanted += [(self.stage(number), number) for number in range(1, len(result.stages))]
        jobs: dict[Path, Write] = {path: partial(_write_stage, result, number) for path, number in wanted}
        if self.report:
            jobs[self.report] = partial(write_report, result)
        if self.figures:
            jobs[self.figures] = partial(_write_figures, result)
        _write_together(jobs)
        if self.overwrite:
            for stale in set(self.paths()) - set(jobs):
                stale.unlink(missing_ok=True)
        return list(jobs)


def _suffix(name: str, allowed: Sequence[str]) -> str:
    """The first, longest suffix of `allowed` that the name has; empty when it has none."""
    return next((suffix for suffix in allowed if name.lower().endswith(suffix)), "")


def _require_suffix(path: Path, allowed: Sequence[str]) -> None:
    if not _suffix(path.name, allowed):
        raise InputError(f"{path} cannot be written: use a name that ends in {' or '.join(allowed)}.")


def _check_place(path: Path, inputs: Sequence[Path], overwrite: bool) -> None:
    for given in inputs:
        if same_file(path, given):
            raise InputError(f"{path} is an input of this run, which is never overwritten: choose another output.")
    if path.is_dir():
        raise InputError(f"{path} cannot be written: it is a folder; give a file's name.")
    if os.path.lexists(path) and not overwrite:
        raise InputError(f"{path} exists already: choose another name, or allow replacing it with --overwrite.")
    if not path.parent.is_dir():
        raise InputError(f"{path} cannot be written: {path.parent} is not a folder; create it or choose another.")
    # Trying it is the only test that knows about rights, read-only disks and quotas alike.
    with tempfile.TemporaryFile(dir=path.parent):
        pass


def same_file(a: Path, b: Path) -> bool:
    """Whether two paths mean one file: by links, by relative parts, or where upper and lower case are the same."""
    if a.exists() and b.exists() and os.path.samefile(a, b):
        return True
    return os.path.realpath(a).casefold() == os.path.realpath(b).casefold()


def _write_together(jobs: Mapping[Path, Write]) -> None:
    """Write each file into a hidden folder beside its place, then move all."""
    with ExitStack() as stack:
        staged: list[tuple[Path, Path]] = []
        for target, write in jobs.items():
            try:
                hidden = tempfile.TemporaryDirectory(prefix=".noisylabelseg-", dir=target.parent)
                temporary = Path(stack.enter_context(hidden), target.name)
                write(temporary)
            except OSError as error:
                raise InputError(f"{target} cannot be written ({error.strerror or error}).") from error
            except InputError as error:
                raise InputError(str(error).replace(str(temporary), str(target))) from error
            staged.append((temporary, target))
        for temporary, target in staged:
            try:
                os.replace(temporary, target)
            except OSError as error:
                raise InputError(f"{target} cannot be replaced ({error.strerror or error}).") from error


def _write_stage(result: Result, number: int, path: Path) -> None:
    write_segmentation(path, result.stages[number], _metadata(result.provenance, number))


def _metadata(provenance: Mapping[str, Any], stage: int) -> dict[str, str]:
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
    figures = {"statistics": result.statistics, "provenance": result.provenance, "notes": result.notes}
    text = json.dumps(plain_json(figures), indent=2, ensure_ascii=False, allow_nan=False)
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
