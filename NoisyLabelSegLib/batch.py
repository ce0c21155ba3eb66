"""Many cases with one model: loaded once, taken up again where it was cut off, not stopped by a bad case."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from NoisyLabelSegLib import __version__
from NoisyLabelSegLib.bundle import find_bundle
from NoisyLabelSegLib.cases import Case
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.files import refine_files
from NoisyLabelSegLib.inference.model import Model, load_model
from NoisyLabelSegLib.outputs import Outputs, refuse_inputs
from NoisyLabelSegLib.pipeline import RefineSettings
from NoisyLabelSegLib.progress import Progress, Step, silent
from NoisyLabelSegLib.summary import DONE, FAILED, Summary


@dataclass(frozen=True)
class Batch:
    """What to do with each case.

    Attributes:
        model: a model's name or folder; `device` as in `load_model`.
        folder: for ID.seg.nrrd, the other files and summary.csv; made when missing.
        settings: see `RefineSettings`.
        from_nothing: leave the masks aside and start from nothing.
        all_stages: ID_stage1.seg.nrrd … too; `reports`: ID.html too.
        overwrite: redo cases whose files were made from other input, with another model or other settings; those files
            go as soon as the new result is there, and stay where there is none.
    """

    model: str
    folder: Path
    settings: RefineSettings
    device: str = "auto"
    from_nothing: bool = False
    all_stages: bool = False
    reports: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class Outcome:
    """Ids of the cases done now and of those found done, and for each that failed the sentence that says why."""

    done: tuple[str, ...]
    skipped: tuple[str, ...]
    failed: dict[str, str]


@dataclass(frozen=True)
class _Job:
    case: Case
    outputs: Outputs
    request: str


def run_batch(batch: Batch, cases: Sequence[Case], progress: Progress = silent) -> Outcome:
    """Refine every case that is not done yet; after each, summary.csv says how it went.

    Args:
        batch: what to do.
        cases: with different ids.
        progress: told the case at hand.

    Raises:
        InputError: before anything is computed, when the model or the folder cannot be used, or the folder holds files
            that this run would have to replace without being allowed to, or that are an input of any case.
    """
    bundle = find_bundle(batch.model)
    _make_folder(batch.folder)
    summary = Summary(batch.folder / "summary.csv")
    settings = (dataclasses.asdict(batch.settings), batch.from_nothing, batch.all_stages)
    common = _fingerprint(__version__, dataclasses.asdict(bundle.description), settings)
    jobs = [_job(batch, case, common) for case in cases]
    _check_apart(jobs)
    pending = [job for job in jobs if not _is_done(job, summary)]
    for job in pending:
        _check(job, summary, batch.overwrite)
    failed: dict[str, str] = {}
    if pending:
        model = load_model(batch.model, batch.device)
        for number, job in enumerate(pending):
            progress(Step(job.case.id, number / len(pending)))
            if message := _run(job, model, batch, summary):
                failed[job.case.id] = message
    progress(Step("", 1))
    done = tuple(job.case.id for job in pending if job.case.id not in failed)
    return Outcome(done, tuple(job.case.id for job in jobs if job not in pending), failed)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be made ({error.strerror}): choose another.") from error


def _job(batch: Batch, case: Case, common: str) -> _Job:
    segmentation, report = batch.folder / f"{case.id}.seg.nrrd", batch.folder / f"{case.id}.html"
    # An old report or stage must not pass for the new result's, whatever is asked for this time.
    leftovers = (*Outputs(segmentation).stages(), report)
    outputs = Outputs(segmentation, report if batch.reports else None, None, batch.all_stages, True, leftovers)
    return _Job(case, outputs, _fingerprint(common, _state(case.image), _state(case.mask)))


def _check_apart(jobs: Sequence[_Job]) -> None:
    """Refuse a case whose files would be an input of any case, or another one's result."""
    inputs = [path for job in jobs for path in (job.case.image, job.case.mask) if path]
    refuse_inputs((path for job in jobs for path in job.outputs.paths()), inputs)
    results = {job.outputs.segmentation.name.casefold() for job in jobs}
    for job in jobs:
        if taken := results & {path.name.casefold() for path in job.outputs.paths()[1:]}:
            raise InputError(
                f"A stage of the case '{job.case.id}' and another case's result would both be called {taken.pop()}: "
                "give one of them another id."
            )


def _is_done(job: _Job, summary: Summary) -> bool:
    outputs = job.outputs
    there = all(path.exists() for path in (outputs.segmentation, outputs.report) if path)
    return there and summary.status(job.case.id) == (DONE, job.request)


def _check(job: _Job, summary: Summary, overwrite: bool) -> None:
    """Files of the very same request are this program's own and may be replaced; others only when that is allowed."""
    status, request = summary.status(job.case.id)
    own = request == job.request and status != FAILED  # of a failed request there are no files
    existing = [path for path in job.outputs.paths() if os.path.lexists(path)]
    if existing and not (own or overwrite):
        raise InputError(
            f"{existing[0]} is there already, from other input, another model, other settings or another program: "
            "choose another folder, or allow replacing it with --overwrite."
        )
    job.outputs.check(())


def _run(job: _Job, model: Model, batch: Batch, summary: Summary) -> str:
    """Do one case; the sentence that says why it failed, or nothing."""
    case = job.case
    summary.begin(case.id, job.request)
    try:
        if case.image is None:
            raise InputError("There is no image for this mask.")
        if case.mask is None and not batch.from_nothing:
            raise InputError("There is no mask for this image: add it, or ask for a start from nothing.")
        mask = None if batch.from_nothing else case.mask
        result, _ = refine_files(case.image, mask, model, batch.settings, job.outputs)
    except InputError as error:
        message = str(error)
    except Exception as error:  # whatever is wrong with one case, the others are still to be done
        message = f"Unexpected {type(error).__name__}: {error}"
    else:
        summary.finish(case.id, job.request, result)
        return ""
    message = re.sub(r"\s+", " ", message)
    if os.path.lexists(job.outputs.segmentation):
        message += " The earlier result was kept."
    summary.fail(case.id, job.request, message)
    return message


def _state(path: Path | None) -> list[tuple[str, int, int]]:
    """What tells that an input has changed: names, sizes and times, since hashing large images would take long."""
    if path is None:
        return []
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    except OSError:  # the case itself will tell
        return []


def _fingerprint(*values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
