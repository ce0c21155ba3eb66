"""A pipeline's stages as trainings, and its bundles' cards: what can be refused is, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from NoisyLabelSegLib.errors import InputError
from training.export import Card, read_card
from training.pipeline.settings import PipelineSettings
from training.recipes import RECIPES
from training.trainings import Training


def stages_of(
    pipeline: PipelineSettings, path: Path, *, small: bool, seed: int, data: Path, runs: Path
) -> dict[str, Training]:
    """The stages' trainings in their order; nothing is trained yet, and what can be said before is said.

    Args:
        pipeline, path: the pipeline and its file.
        small, seed, data, runs: see `Training`.

    Raises:
        InputError: stages wait for each other, an experiment or a data set cannot be read, or masks are wanted of a
            stage that gives none.
    """
    found: dict[str, Training] = {}
    for name in pipeline.order():
        stage = pipeline.stages[name]
        own = Training(path.parent / stage.experiment, small, (), seed, data, runs)
        try:
            taken_over = stage.taken_over({other: training.name for other, training in found.items()})
            found[name] = own.changed(*pipeline.set, *stage.set, *taken_over).settled()
            found[name].experiment().dataset(data)
        except InputError as error:
            raise InputError(f"Stage '{name}': {error}") from error
        if stage.masks.stage and not segments(found[stage.masks.stage]):
            raise InputError(f"Stage '{name}' cannot have masks of '{stage.masks.stage}', which segments nothing.")
    return found


def segments(training: Training) -> bool:
    """Whether the stage's network gives label maps."""
    return RECIPES[training.experiment().recipe].segments


def cards_of(pipeline: PipelineSettings, path: Path, stages: Mapping[str, Training]) -> dict[str, tuple[Path, Card]]:
    """The cards of the stages that become bundles.

    Raises:
        InputError: a card or its licence is not there or cannot be used, two have the same name, or one describes other
            labels than its stage's data set has.
    """
    found: dict[str, tuple[Path, Card]] = {}
    for name, file in pipeline.bundles.items():
        try:
            found[name] = path.parent / file, _card(path.parent / file, stages[name])
        except InputError as error:
            raise InputError(f"The bundle of stage '{name}': {error}") from error
    names = [card.name for _, card in found.values()]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"Two of the bundles' cards have the name '{twice[0]}': give one of them another.")
    return found


def _card(file: Path, stage: Training) -> Card:
    card, dataset = read_card(file), stage.experiment().dataset(stage.data)
    if not segments(stage):
        raise InputError("it segments nothing and cannot be one.")
    if not (licence := file.parent / card.licence_file).is_file():
        raise InputError(f"the licence '{licence}' that the card '{file}' names is missing.")
    if {label.value for label in card.labels} != set(dataset.labels):
        raise InputError(f"the card '{file}' describes other labels than '{dataset.name}' has: {dataset.labels}.")
    return card
