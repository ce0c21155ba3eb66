"""``noisylabelseg models``: which there are, what one says about itself, whether it is sound, and adding one."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from NoisyLabelSegLib.bundle import Bundle, Label, Quality, find_bundle, import_bundle, list_bundles
from NoisyLabelSegLib.bundle.folder import LICENCE, MODEL_CARD
from NoisyLabelSegLib.commands.console import console, plain


def show_all(_: argparse.Namespace) -> int:
    """List all models, the broken ones with the reason."""
    headings = ("Name", "Kind", "Modality", "Anatomy", "Licence", "Quality", "Intended use")
    table = Table(*headings, show_lines=True)
    bundles = list_bundles()
    broken = []
    for bundle in bundles:
        if not isinstance(bundle, Bundle):
            broken.append(bundle)
            continue
        d = bundle.description
        quality = _quality(d.quality[0]) if d.quality else "not measured"
        cells = (d.name, d.kind, d.modality, d.anatomy, d.licence, quality, d.intended_use)
        table.add_row(*map(plain, cells))
    out = console()
    out.print(table if len(bundles) > len(broken) else "No models yet: add one with 'noisylabelseg models import'.")
    for bundle in broken:
        line = Text.assemble(plain(bundle.folder.name), " cannot be used: ", plain(bundle.reason), style="red")
        out.print(line, soft_wrap=True)
    return 0


def show(arguments: argparse.Namespace) -> int:
    """Everything that a model says about itself."""
    bundle = find_bundle(arguments.name)
    out = console()
    facts = Table(show_header=False, box=None, pad_edge=False)
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in _facts(bundle):
        facts.add_row(name, plain(value))
    out.print(facts)
    out.print(_labels(bundle.description.labels))
    if bundle.description.quality:
        out.print(_qualities(bundle.description.quality))
    return 0


def verify(arguments: argparse.Namespace) -> int:
    """Prove that a model is sound."""
    bundle = find_bundle(arguments.name)
    bundle.verify()
    description = bundle.description
    _say(f"ok: {description.name} {description.version}, SHA-256 {description.weights.sha256}")
    return 0


def add(arguments: argparse.Namespace) -> int:
    """Copy a model among the person's own ones."""
    bundle = import_bundle(arguments.source, arguments.overwrite)
    _say(f"imported: {bundle.description.name} {bundle.description.version} to {bundle.folder}")
    return 0


def _say(sentence: str) -> None:
    console().print(plain(sentence), soft_wrap=True)


def _facts(bundle: Bundle) -> Iterator[tuple[str, object]]:
    d = bundle.description
    settings = ", ".join(f"{key} = {value}" for key, value in d.method_arguments.items())
    yield "Name", f"{d.name} {d.version}"
    yield "Kind", f"{d.kind}, by {d.method}" + (f" ({settings})" if settings else "")
    yield "Image", f"{d.modality}, {d.anatomy}"
    yield "Values", " or ".join(map(str, d.expected_intensity)) or "any"
    for number, kind in enumerate(d.expected_channels, 2):
        yield f"Channel {number}", kind
    yield "Acquisition", d.expected_acquisition
    yield "Intended use", d.intended_use
    yield "Not for", d.not_for
    yield "Network", f"{d.network.name} {dict(d.network.arguments)}"
    yield "Weights", f"{d.weights.bytes:,} bytes, SHA-256 {d.weights.sha256}"
    yield "Licence", f"{d.licence}, {bundle.folder / LICENCE}"
    for data in d.training_data:
        yield "Trained on", "\n".join(filter(None, (f"{data.name}, {data.licence}", data.url, data.citation)))
    yield "Model card", bundle.folder / MODEL_CARD


def _labels(labels: tuple[Label, ...]) -> Table:
    table = Table("Label", "Structure", "Colour", "Terminology", title="Labels", title_justify="left")
    for label in labels:
        code = "#" + "".join(f"{round(255 * part):02x}" for part in label.color)
        colour = Text.assemble(("  ", f"on {code}"), f" {code}")
        table.add_row(str(label.value), plain(label.name), colour, plain(_term(label.terminology)))
    return table


def _term(terminology: str) -> str:
    """Every code of a TerminologyEntry as 'meaning (scheme value)'."""
    codes = [part.split("^") for part in terminology.split("~") if part.count("^") == 2]
    return "; ".join(f"{meaning} ({scheme} {value})" for scheme, value, meaning in codes if value)


def _qualities(qualities: tuple[Quality, ...]) -> Table:
    headings = ("Metric", "Value", "Data", "Cases", "Note")
    table = Table(*headings, title="Measured quality", title_justify="left")
    for quality in qualities:
        value = f"{quality.value:.4g} {quality.unit or ''}".rstrip()
        table.add_row(*map(plain, (quality.metric, value, quality.dataset, quality.cases, quality.note)))
    return table


def _quality(quality: Quality) -> str:
    value = f"{quality.value:.4g} {quality.unit or ''}".rstrip()
    return f"{quality.metric} {value} ({quality.dataset}, {quality.cases} cases)"
