"""Commands that train, and that make something of what was trained."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from NoisyLabelSegLib.errors import InputError
from training.commands.places import add_experiment, count, seed, training_of

if TYPE_CHECKING:
    from training.commands.places import Commands


def add_commands(commands: Commands) -> None:
    train = commands.add_parser("train", help="train an experiment, or go on with it")
    add_experiment(train)
    train.add_argument("--seed", type=seed, default=0, help="seed of the run")
    train.add_argument("--limit", type=count, default=0, help="cases a part, for a quick look")
    train.set_defaults(command=_train)

    predict = commands.add_parser("predict", help="write a trained experiment's label maps for a part of the data set")
    add_experiment(predict)
    predict.add_argument("--seed", type=seed, default=0, help="seed of the run")
    predict.add_argument("--stages", type=int, default=5)
    predict.add_argument("--split", choices=("train", "val", "test"), default="test")
    predict.add_argument("-o", "--output", type=Path, required=True, help="folder for the label maps")
    predict.set_defaults(command=_predict)

    export = commands.add_parser("export", help="make a model bundle of a trained experiment")
    add_experiment(export)
    export.add_argument("--seed", type=seed, default=0, help="seed of the run")
    export.add_argument("--card", type=Path, required=True, help="a YAML of training/cards")
    export.add_argument("--models", type=Path, default=Path("Resources/Models"), help="folder of bundles")
    export.add_argument("--overwrite", action="store_true")
    export.set_defaults(command=_export)


def _train(options: argparse.Namespace) -> None:
    training = training_of(options, options.experiment, options.seed, options.set)
    best = training.train(options.limit)
    if best is not None:
        print(f"best validation score {best:.4f}; weights in {training.folder / 'best.ckpt'}")


def _predict(options: argparse.Namespace) -> None:
    import SimpleITK as sitk

    from training.checkpoints import as_model, simulated_starts
    from training.data.adapters.files import write_labels
    from training.prediction import stage_labels

    run = training_of(options, options.experiment, options.seed, options.set).read()
    model, simulated = as_model(run), simulated_starts(run.experiment)
    targets = [(case, options.output / f"{case.id}.nii.gz") for case in run.parts.dataset.part(options.split)]
    if there := [target for _, target in targets if target.exists()]:
        raise InputError(f"'{there[0]}' exists already: choose another folder or delete it.")
    for case, target in targets:
        labels = stage_labels(model, case, options.stages, simulated)[-1]
        write_labels(target, labels, sitk.ReadImage(str(case.image)))
        print(target)


def _export(options: argparse.Namespace) -> None:
    from training.export import export

    run = training_of(options, options.experiment, options.seed, options.set).read()
    bundle = export(run, options.card, options.models, overwrite=options.overwrite)
    megabytes = bundle.description.weights.bytes / 1e6
    print(f"{bundle.folder}: {megabytes:.2f} MB of weights")
