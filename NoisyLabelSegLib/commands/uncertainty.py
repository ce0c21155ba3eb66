"""``noisylabelseg uncertainty`` and ``segment``: a segmentation, how sure it is, and given labels that look wrong."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from NoisyLabelSegLib.commands.console import console, plain, progress_bar, tell
from NoisyLabelSegLib.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from NoisyLabelSegLib.result import Result

SUSPECTS_TOLD = 10


def run(arguments: argparse.Namespace) -> int:
    """Map one image's uncertainty, write everything into a folder and a summary to the terminal."""
    from NoisyLabelSegLib.pipeline import UncertaintySettings

    settings = UncertaintySettings(arguments.mirror, tuple(arguments.segments))
    return _run(arguments, "uncertainty", arguments.labels, settings)


def run_segment(arguments: argparse.Namespace) -> int:
    """Segment one image without any mask, and do the same."""
    from NoisyLabelSegLib.pipeline import SegmentSettings

    return _run(arguments, "segment", arguments.roi, SegmentSettings(arguments.mirror))


def _run(arguments: argparse.Namespace, kind: str, given: Path | None, settings: Any) -> int:
    from NoisyLabelSegLib.bundle import find_bundle
    from NoisyLabelSegLib.uncertainty_outputs import UncertaintyOutputs

    images = [arguments.image, *arguments.channels]
    inputs = [*images, *([given] if given else [])]
    for path in inputs:
        if not os.path.exists(path):  # unlike Path.exists, False for whatever cannot be asked
            raise InputError(f"{path} does not exist: check the path.")
    bundle = find_bundle(arguments.model)
    outputs = UncertaintyOutputs(arguments.output, arguments.overwrite)
    with outputs.prepared(inputs):
        # From here on it takes seconds: everything that can be refused at once has been.
        from NoisyLabelSegLib.files import segment_files, uncertainty_files
        from NoisyLabelSegLib.inference.checks import require_kind
        from NoisyLabelSegLib.inference.model import load_model
        from NoisyLabelSegLib.progress import Step

        require_kind(bundle.description, kind)
        compute: Any = {"uncertainty": uncertainty_files, "segment": segment_files}[kind]
        with progress_bar() as progress:
            progress(Step("loading the model", 0))
            model = load_model(arguments.model, arguments.device)
            result, written = compute(images, given, model, settings, outputs, progress)
    for note in result.notes:
        tell("note", note)
    _tell_result(result, written)
    return 0


def _tell_result(result: Result, written: Sequence[Path]) -> None:
    out, provenance = console(), result.provenance
    model = provenance["model"]
    out.print(_structures(result))
    if result.suspects:
        out.print(_suspects(result))
    elif "suspect" in result.maps:
        out.print("No given label looks wrong.")
    elif "labels" in provenance:
        out.print("There are no labels, so none are suspect.")
    out.print(plain(f"{model['name']} {model['version']}: {provenance['device']}, {provenance['seconds']:.1f} s"))
    for path in written:
        out.print(plain(f"written: {path}"), soft_wrap=True)


def _structures(result: Result) -> Table:
    from rich.table import Table

    from NoisyLabelSegLib.uncertainty_summary import structures_of

    table = Table("Structure")
    for heading in ("Volume (mm³)", "Mean confidence", "Dice to given"):
        table.add_column(heading, justify="right")
    for row in structures_of(result):
        numbers = (_number(row["mean_confidence"]), _number(row["dice_to_given"]))
        table.add_row(plain(row["segment"]), f"{row['volume_mm3']:,.1f}", *numbers)
    return table


def _suspects(result: Result) -> Table:
    from rich.table import Table

    first = result.suspects[:SUSPECTS_TOLD]
    table = Table("Suspect", "Given", "Suggested", title=f"The first {len(first)} of {len(result.suspects)} suspects")
    for heading in ("Score", "Volume (mm³)", "I, J, K"):
        table.add_column(heading, justify="right")
    for row in first:
        names = (str(row["rank"]), plain(row["given"]), plain(row["suggested"]))
        numbers = (f"{row['score']:.2f}", f"{row['volume_mm3']:,.1f}")
        table.add_row(*names, *numbers, ", ".join(map(str, row["index"])))
    return table


def _number(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{value:.3f}"
