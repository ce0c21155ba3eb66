"""From a run's folder to a network that predicts."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from NoisyLabelSegLib.bundle import UNWRITTEN, Label, ModelDescription, Network
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.inference.model import Model
from NoisyLabelSegLib.inference.preprocessing import Preprocessing
from NoisyLabelSegLib.methods.rerenet import input_channels
from NoisyLabelSegLib.networks import build
from training.data.coarse import CoarseSettings
from training.experiment import Experiment
from training.origins import weights_mark
from training.recipes import RECIPES
from training.recipes.arm import ARMSettings
from training.recipes.parts import Parts
from training.recipes.pkt import PKTSettings
from training.recipes.refineseg import RefineSegSettings
from training.recipes.rerenet import ReReNetSettings

COLORS = ((0.85, 0.37, 0.01), (0.11, 0.62, 0.47), (0.46, 0.44, 0.70), (0.91, 0.16, 0.54), (0.40, 0.65, 0.12))


@dataclass(frozen=True)
class Run:
    """A trained experiment: what it was, and its best weights with characters that tell them from others."""

    experiment: Experiment
    parts: Parts
    folder: Path
    state_dict: dict[str, Tensor]
    fingerprint: str


def read_run(experiment: Experiment, parts: Parts, folder: Path) -> Run:
    """Read the weights of the best validation score.

    Raises:
        InputError: when the run has not been trained.
    """
    path = folder / "best.ckpt"
    if not path.is_file():
        raise InputError(f"There is no '{path}': train this experiment first.")
    content = path.read_bytes()
    checkpoint: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    state = RECIPES[experiment.recipe].deployed(checkpoint["network"])
    return Run(experiment, parts, folder, state, weights_mark(content))


def trained_state(run: Run) -> dict[str, Tensor]:
    """The best weights of all that was trained, with what is not deployed."""
    state: dict[str, Tensor] = torch.load(run.folder / "best.ckpt", map_location="cpu", weights_only=True)["network"]
    return state


def simulated_starts(experiment: Experiment) -> CoarseSettings | None:
    """How the experiment makes the first mask of a case that has none."""
    starts = getattr(experiment.settings, "starts", None)
    return starts.simulated if starts else None


def preprocessing_of(run: Run) -> Preprocessing:
    """The preprocessing that a bundle records: a network of two modalities has the strong one as its last channel."""
    preprocessing, settings = run.experiment.preprocessing, run.experiment.settings
    if not isinstance(settings, ARMSettings):
        return preprocessing
    return replace(preprocessing, channels=(*preprocessing.intensities(run.parts.in_channels)[1:], settings.strong))


def with_update(model: Model, update: str | None) -> Model:
    """The model with another rule for the next mask, see ReReNet; None keeps its own, a method without stages too."""
    if update is None or model.description.method != "rerenet":
        return model
    return with_arguments(model, update=update)


def with_arguments(model: Model, **changed: Any) -> Model:
    """The model with other arguments of its method."""
    arguments = {**model.description.method_arguments, **changed}
    return replace(model, description=replace(model.description, method_arguments=arguments))


def network_of(run: Run) -> Network:
    """The network's name and arguments, as a bundle stores them."""
    settings, in_channels = run.experiment.settings, run.parts.in_channels
    if not RECIPES[run.experiment.recipe].segments:
        raise InputError(f"'{run.folder}' holds an encoder alone: train a network from it first, by network.start.")
    if isinstance(settings, ReReNetSettings):
        in_channels = input_channels(1, run.parts.classes, memory=settings.memory)
    elif isinstance(settings, ARMSettings):
        in_channels += 1
    arguments = dict(run.parts.network_arguments(in_channels))
    return Network(run.parts.network_settings.name, arguments)


class Method(NamedTuple):
    """What a bundle says of its method."""

    kind: Literal["refine", "uncertainty", "segment"]
    name: str
    arguments: dict[str, Any]


def method_of(run: Run) -> Method:
    """The method that a recipe's network serves: ReReNet's refinement, a segmentation, or one with its uncertainty."""
    settings = run.experiment.settings
    if isinstance(settings, ReReNetSettings):
        arguments = {"stages": settings.inference_stages, "update": settings.update, "memory": settings.memory}
        return Method("refine", "rerenet", arguments)
    mirror = {"mirror": list(run.experiment.augmentation.flips)}
    if isinstance(settings, (PKTSettings, RefineSegSettings)):
        return Method("segment", "weak_to_strong" if isinstance(settings, PKTSettings) else "refineseg", mirror)
    return Method("uncertainty", "affinity_umamba", mirror)


def as_model(run: Run, device: str = "cpu") -> Model:
    """The run as the pipeline takes it, without a bundle on disk; its description says only what the data set says."""
    described = network_of(run)
    network = build(described.name, **described.arguments)
    network.load_state_dict(run.state_dict)
    method = method_of(run)
    labels = tuple(
        Label(value, name, COLORS[(value - 1) % len(COLORS)], "") for value, name in run.parts.dataset.labels.items()
    )
    description = ModelDescription(
        format_version=1,
        name="unnamed",
        version="0",
        kind=method.kind,
        method=method.name,
        method_arguments=method.arguments,
        network=described,
        weights=UNWRITTEN,
        preprocessing={},
        labels=labels,
        modality="",
        anatomy="",
        expected_intensity=(),
        licence="none",
        training_data=(),
        intended_use="",
        not_for="",
        quality=(),
    )
    target = torch.device(device)
    return Model(description, preprocessing_of(run), network.to(target).eval(), target)
