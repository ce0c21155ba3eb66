"""From a trained experiment and a card (what people must know about the model) to a bundle."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from NoisyLabelSegLib.bundle import (
    UNWRITTEN,
    Bundle,
    ExpectedAcquisition,
    ExpectedIntensity,
    Label,
    ModelDescription,
    Quality,
    TrainingData,
    write_bundle,
)
from NoisyLabelSegLib.errors import InputError
from training.checkpoints import Run, as_model, method_of, network_of, preprocessing_of
from training.temperatures import fitted_temperatures

NOT_DESCRIBED = ("licence_file", "text", "method_arguments")
"""What a card says beside the fields of a description."""


@dataclass(frozen=True)
class Card:
    """What a YAML of ``training/cards`` says about a model: see `NoisyLabelSegLib.bundle.ModelDescription`.

    Attributes:
        licence_file: the licence's whole text, relative to the card.
        text: the model card's prose, Markdown.
        method_arguments: those of the method that a run says nothing about, such as ``smallest_mm3``.
    """

    name: str
    version: str
    modality: str
    anatomy: str
    labels: tuple[Label, ...]
    expected_intensity: tuple[ExpectedIntensity, ...]
    licence: str
    licence_file: str
    training_data: tuple[TrainingData, ...]
    intended_use: str
    not_for: str
    text: str
    quality: tuple[Quality, ...] = field(default=())
    expected_acquisition: ExpectedAcquisition = field(default_factory=ExpectedAcquisition)
    expected_channels: tuple[ExpectedIntensity, ...] = ()
    method_arguments: dict[str, Any] = field(default_factory=dict)


def read_card(path: Path) -> Card:
    """Read a card; an unknown key is an `InputError`."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--card", type=Card, required=True)
    try:
        card = parser.instantiate(parser.parse_object({"card": yaml.safe_load(path.read_text("utf-8"))})).card
    except (OSError, yaml.YAMLError, ArgumentError) as error:
        raise InputError(f"The card '{path}' cannot be used: {' '.join(str(error).split())}") from error
    assert isinstance(card, Card)
    return card


def export(run: Run, card_file: Path, models: Path, *, overwrite: bool = False) -> Bundle:
    """Write the run's best weights, in half precision, as the bundle ``models/<card's name>``.

    Temperatures are fitted on the validation part first, of all but a refinement.
    """
    card = read_card(card_file)
    method = method_of(run)
    fitted = fitted_temperatures(as_model(run), run.parts) if method.kind != "refine" else {}
    described = {f.name: getattr(card, f.name) for f in dataclasses.fields(Card) if f.name not in NOT_DESCRIBED}
    description = ModelDescription(
        format_version=1,
        kind=method.kind,
        method=method.name,
        method_arguments={**method.arguments, **fitted, **card.method_arguments},
        network=network_of(run),
        weights=UNWRITTEN,
        preprocessing=_json(preprocessing_of(run)),
        **described,
    )
    licence = (card_file.parent / card.licence_file).read_text("utf-8")
    folder = models / card.name
    return write_bundle(
        folder, description, run.state_dict, _model_card(description, card.text), licence, True, overwrite
    )


def _json(preprocessing: Any) -> dict[str, Any]:
    values = dataclasses.asdict(preprocessing)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def _model_card(description: ModelDescription, text: str) -> str:
    figures = "".join(
        f"| {q.metric} | {q.value:g}{' ' + q.unit if q.unit else ''} | {q.dataset} | {q.cases} | {q.note} |\n"
        for q in description.quality
    )
    data = "".join(f"- {d.name}, {d.licence}. {d.citation} {d.url}\n" for d in description.training_data)
    labels = "".join(f"- {label.value}: {label.name}\n" for label in description.labels)
    return (
        f"# {description.name} {description.version}\n\n{text}\n"
        f"## Intended use\n\n{description.intended_use}\n\n## Not for\n\n{description.not_for}\n\n"
        f"## Labels\n\n{labels}\n## Training data\n\n{data}\n"
        f"## Measured quality\n\n| figure | value | data | cases | note |\n|---|---|---|---|---|\n{figures}\n"
        f"Licence of the weights: {description.licence}\n"
    )
