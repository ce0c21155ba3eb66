"""A pipeline: one YAML that names trainings, what each takes over from others, and which become bundles.

    title: what it makes
    stages:
      pretrain: {experiment: ../EXPERIMENT.yaml}
      segment:
        experiment: ../ANOTHER.yaml
        set: [KEY=VALUE, ...]              # what is changed in it
        start: [{stage: pretrain}]         # weights; also parts and lenient, see `training.recipes.transfer.Start`
      refine:
        experiment: ../A_THIRD.yaml
        start: [{stage: segment}]
        masks: {stage: segment}            # its predictions are the first masks; windows: true as below
      student: {experiment: ../PKT.yaml, teacher: segment}   # stage 1 of weak-to-strong
    set: [KEY=VALUE, ...]                  # of every stage
    windows: true                          # measured in the window about each case's coarse mask; else whole images
    bundles: {refine: CARD.yaml}           # stages that are exported, with their model cards

Paths are relative to the file. A stage is a run of `python -m training train`, by the same name, and one that is there
is not trained again. What a stage takes over is a part of its settings, and a stage with other settings is another run:
so what is changed, and all that builds on it, is trained anew beside what is there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from NoisyLabelSegLib.errors import InputError


@dataclass(frozen=True)
class StageStart:
    """Another stage's weights, see `training.recipes.transfer.Start`."""

    stage: str
    parts: dict[str, str] = field(default_factory=dict)
    lenient: bool = False


@dataclass(frozen=True)
class StageMasks:
    """Another stage's predictions as first masks, see `training.predicted.FirstMasks`."""

    stage: str = ""
    windows: bool = False


@dataclass(frozen=True)
class StageSettings:
    """An experiment's file, what is changed in it, and what it takes over from other stages."""

    experiment: str
    set: list[str] = field(default_factory=list)
    start: list[StageStart] = field(default_factory=list)
    teacher: str = ""
    masks: StageMasks = field(default_factory=StageMasks)

    @property
    def needs(self) -> list[str]:
        """The stages that come before."""
        return [name for name in (*(start.stage for start in self.start), self.teacher, self.masks.stage) if name]

    def taken_over(self, runs: Mapping[str, str]) -> list[str]:
        """What is taken over as settings of the experiment; ``runs`` are the other stages' runs by name."""
        starts = [{**_said(asdict(start)), "run": runs[start.stage]} for start in self.start]
        masks = {**_said(asdict(self.masks)), "run": runs[self.masks.stage]} if self.masks.stage else {}
        return [
            *([f"network.start={json.dumps(starts)}"] if starts else []),
            *([f"settings.teacher={runs[self.teacher]}"] if self.teacher else []),
            *([f"masks={json.dumps(masks)}"] if masks else []),
        ]


def _said(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value and key != "stage"}


@dataclass(frozen=True)
class PipelineSettings:
    """See the module's text."""

    title: str
    stages: dict[str, StageSettings]
    set: list[str] = field(default_factory=list)
    windows: bool = False
    bundles: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("a pipeline needs stages")
        named = [(f"stage '{name}'", other) for name, stage in self.stages.items() for other in stage.needs]
        for who, other in [*named, *(("'bundles'", name) for name in self.bundles)]:
            if other not in self.stages:
                raise ValueError(f"{who} names '{other}', which is no stage; stages are {', '.join(self.stages)}")

    def below(self, name: str) -> frozenset[str]:
        """The stages that one builds on, and those that these build on."""
        needs = self.stages[name].needs
        return frozenset(needs).union(*(self.below(need) for need in needs))

    def order(self) -> list[str]:
        """The stages, each behind those that it needs."""
        try:
            return list(TopologicalSorter({name: stage.needs for name, stage in self.stages.items()}).static_order())
        except CycleError as error:
            raise InputError(f"Stages wait for each other: {' needs '.join(reversed(error.args[1]))}.") from error


def read_pipeline(path: Path) -> PipelineSettings:
    """Read a pipeline's YAML; an `InputError` for what it does not know."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(PipelineSettings)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("it must hold keys and values.")
        return PipelineSettings(**vars(parser.instantiate(parser.parse_object(values))))
    except (OSError, yaml.YAMLError, ArgumentError, TypeError, ValueError) as error:
        raise InputError(f"The pipeline '{path}' cannot be used: {' '.join(str(error).split())}") from error
