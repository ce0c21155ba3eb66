"""The command that goes all the way: from the first training to bundles."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from NoisyLabelSegLib.errors import InputError
from training.commands.places import add_places, seed

if TYPE_CHECKING:
    from training.commands.places import Commands
    from training.trainings import Training


def add_commands(commands: Commands) -> None:
    pipeline = commands.add_parser(
        "pipeline", help="train what a pipeline's stages lack, one after the other, measure them and export bundles"
    )
    pipeline.add_argument("pipeline", type=Path, help="a YAML of training/configs/pipelines")
    pipeline.add_argument("--seed", type=seed, default=0, help="seed of all its runs")
    pipeline.add_argument(
        "--split", choices=("val", "test"), default="test", help="the part that stages are measured on"
    )
    pipeline.add_argument("--models", type=Path, help="folder of bundles (in the folder of runs)")
    add_places(pipeline)
    pipeline.set_defaults(command=_pipeline)


def _pipeline(options: argparse.Namespace) -> None:
    from training.evaluate import write_figures
    from training.pipeline.results import export_bundles, scores
    from training.pipeline.settings import read_pipeline
    from training.pipeline.stages import cards_of, stages_of

    pipeline = read_pipeline(options.pipeline)
    where = {"small": options.small, "seed": options.seed, "data": options.data, "runs": options.runs}
    stages = stages_of(pipeline, options.pipeline, **where)
    cards = cards_of(pipeline, options.pipeline, stages)
    for name, training in stages.items():
        _finish(name, training)
    setting = "small" if options.small else "full"
    target = options.runs / f"{options.pipeline.stem}-{setting}-seed{options.seed}"
    found, text = scores(pipeline, stages, options.split)
    print(text)
    write_figures(Path(f"{target}-{options.split}.json"), found)
    models = options.models or Path(f"{target}-models")
    for stage, (folder, new) in export_bundles(cards, stages, models, f"{options.pipeline.stem}-{setting}").items():
        print(f"{stage}: {'bundle written' if new else 'its bundle lies'} in {folder}")
    print(f"figures in {target}-{options.split}.json")


def _finish(name: str, training: Training) -> None:
    done, begun = training.finished(), (training.folder / "last.ckpt").is_file()
    print(f"{name}: {'has been' if done else 'goes on being' if begun else 'is being'} trained in {training.folder}")
    try:
        training.finish()
    except InputError as error:
        raise InputError(f"Stage '{name}': {error}") from error
    except KeyboardInterrupt:
        raise InputError(f"Interrupted in stage '{name}': the same command goes on with its last checkpoint.") from None
