"""``noisylabelseg refine``: one case, or many."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from NoisyLabelSegLib.commands.console import console, plain, progress_bar, tell
from NoisyLabelSegLib.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from NoisyLabelSegLib.cases import Case
    from NoisyLabelSegLib.outputs import Outputs
    from NoisyLabelSegLib.result import Result

SOME_FAILED = 3


def run(arguments: argparse.Namespace) -> int:
    """Check which of both forms is meant, and do it."""
    given = [path for path in (arguments.image, arguments.mask) if path]
    if arguments.cases:
        if given:
            raise InputError("Give either IMAGE and MASK or --cases, not both.")
        if arguments.report or arguments.figures:
            raise InputError(
                "--report and --figures are for one case: with --cases use --reports, and see summary.csv."
            )
        return _many(arguments)
    if arguments.reports:
        raise InputError("--reports is for many cases: use --report FILE.html.")
    if arguments.from_nothing and arguments.mask:
        raise InputError("--from-nothing takes no MASK: leave one of both out.")
    if len(given) < 2 - arguments.from_nothing:
        raise InputError("Give IMAGE and MASK (IMAGE alone with --from-nothing), or --cases.")
    return _one(arguments)


def _one(arguments: argparse.Namespace) -> int:
    from NoisyLabelSegLib.outputs import Outputs

    outputs = Outputs(arguments.output, arguments.report, arguments.figures, arguments.all_stages, arguments.overwrite)
    refine_and_tell(arguments.image, arguments.mask, outputs, arguments)
    return 0


def refine_and_tell(image: Path, mask: Path | None, outputs: Outputs, arguments: argparse.Namespace) -> Result:
    """Refine one case and write the summary to the terminal."""
    from NoisyLabelSegLib.bundle import find_bundle

    inputs = [path for path in (image, mask) if path]
    outputs.check(inputs)
    for path in inputs:
        if not os.path.exists(path):  # unlike Path.exists, False for whatever cannot be asked
            raise InputError(f"{path} does not exist: check the path.")
    bundle = find_bundle(arguments.model)

    # From here on it takes seconds: everything that can be refused at once has been.
    from NoisyLabelSegLib.files import refine_files
    from NoisyLabelSegLib.inference.checks import require_kind
    from NoisyLabelSegLib.inference.model import load_model
    from NoisyLabelSegLib.pipeline import RefineSettings
    from NoisyLabelSegLib.progress import Step

    require_kind(bundle.description, "refine")
    settings = RefineSettings(arguments.stages, tuple(arguments.segments))
    with progress_bar() as progress:
        progress(Step("loading the model", 0))
        model = load_model(arguments.model, arguments.device)
        result, written = refine_files(image, mask, model, settings, outputs, progress)
    for note in result.notes:
        tell("note", note)
    _tell_result(result, written)
    return result


def _tell_result(result: Result, written: Sequence[Path]) -> None:
    out, provenance = console(), result.provenance
    early = ", ended early since nothing changed any more" if provenance["stopped_early"] else ""
    run = f"{len(result.stages) - 1} of at most {provenance['settings']['stages']} stages{early}"
    model = provenance["model"]
    out.print(_changes(result))
    out.print(
        plain(f"{model['name']} {model['version']}: {run}; {provenance['device']}, {provenance['seconds']:.1f} s")
    )
    for path in written:
        out.print(plain(f"written: {path}"), soft_wrap=True)


def _changes(result: Result) -> Table:
    from rich.table import Table

    from NoisyLabelSegLib.summary import first_and_last

    table = Table("Segment")
    for heading in ("Before (mm³)", "After (mm³)", "Changed (mm³)", "Dice to given"):
        table.add_column(heading, justify="right")
    for place, (first, last) in enumerate(first_and_last(result)):
        volumes = (first["volume_mm3"], last["volume_mm3"], _changed_mm3(result, place))
        dice = last["dice_to_given"]
        overlap = "\N{EN DASH}" if dice is None else f"{dice:.3f}"
        table.add_row(plain(last["segment"]), *(f"{v:,.1f}" for v in volumes), overlap)
    return table


def _changed_mm3(result: Result, place: int) -> float:
    """The volume that is in one of both masks, the given one and the result, but not in both."""
    from math import prod

    import SimpleITK as sitk

    before, after = (stage.mask(stage.segments[place]) for stage in (result.stages[0], result.stages[-1]))
    return float(sitk.GetArrayFromImage(before != after).sum()) * prod(result.image.GetSpacing())


def _check_folder(output: Path, source: Path, cases: Sequence[Case]) -> None:
    """Refuse results among the slices of a series or among the files by which the next run would find the cases."""
    inputs = [path for case in cases for path in (case.image, case.mask) if path]
    folders = inputs + ([path.parent for path in inputs] if source.is_dir() else [])
    if any(os.path.realpath(output) == os.path.realpath(folder) for folder in folders):
        raise InputError(f"{output} holds the cases themselves: choose another folder for the results.")


def _many(arguments: argparse.Namespace) -> int:
    from NoisyLabelSegLib.bundle import find_bundle
    from NoisyLabelSegLib.cases import find_cases

    cases = find_cases(arguments.cases)
    _check_folder(arguments.output, arguments.cases, cases)
    find_bundle(arguments.model)

    from NoisyLabelSegLib.batch import Batch, run_batch
    from NoisyLabelSegLib.pipeline import RefineSettings

    batch = Batch(
        model=arguments.model,
        folder=arguments.output,
        settings=RefineSettings(arguments.stages, tuple(arguments.segments)),
        device=arguments.device,
        from_nothing=arguments.from_nothing,
        all_stages=arguments.all_stages,
        reports=arguments.reports,
        overwrite=arguments.overwrite,
    )
    with progress_bar() as progress:
        outcome = run_batch(batch, cases, progress)
    for case, message in outcome.failed.items():
        tell("error", f"{case}: {message}", "red")
    counts = f"{len(outcome.done)} done, {len(outcome.skipped)} done before, {len(outcome.failed)} failed"
    console().print(plain(f"{len(cases)} cases: {counts}\nwritten: {batch.folder / 'summary.csv'}"), soft_wrap=True)
    return SOME_FAILED if outcome.failed else 0
