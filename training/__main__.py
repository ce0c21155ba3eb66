"""``python -m training``: prepare, train, evaluate, predict, export, benchmark."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from NoisyLabelSegLib.errors import InputError

RUNS, DATA = Path("runs"), Path("data")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    prepare = commands.add_parser("prepare", help="make a dataset.json of a public data set's files")
    prepare.add_argument("adapter", help="lidc, hippocampus or acdc")
    prepare.add_argument("source", type=Path, help="the published files' folder")
    prepare.add_argument("--data", type=Path, default=DATA, help="folder of prepared data sets")
    prepare.set_defaults(command=_prepare)

    train = commands.add_parser("train", help="train an experiment, or go on with it")
    _experiment_arguments(train)
    train.add_argument("--limit", type=int, default=0, help="cases a part, for a quick look")
    train.set_defaults(command=_train)
    return parser


def _experiment_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("experiment", type=Path, help="a YAML of training/configs")
    parser.add_argument("--small", action="store_true", help="the setting for a small machine")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of prepared data sets")
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of training runs")


def _prepare(options: argparse.Namespace) -> None:
    from training.data.adapters import ADAPTERS
    from training.data.cases import write_dataset

    if options.adapter not in ADAPTERS:
        raise InputError(f"There is no adapter '{options.adapter}'; known ones are {', '.join(ADAPTERS)}.")
    target = options.data / options.adapter
    dataset = ADAPTERS[options.adapter](options.source, target)
    write_dataset(target, dataset)
    parts = ", ".join(f"{len(dataset.part(split))} {split}" for split in ("train", "val", "test"))
    print(f"{dataset.name}: {parts} cases in {target}")


def _train(options: argparse.Namespace) -> None:
    from training.engine import Engine
    from training.experiment import read_experiment
    from training.runs import run_folder, write_settings

    experiment = read_experiment(options.experiment, small=options.small, overrides=options.set)
    folder = run_folder(options)
    parts = experiment.parts(options.data, options.seed, options.limit)
    write_settings(folder, experiment, options.seed)
    best = Engine(experiment.make(parts), experiment.engine, folder, options.seed).run()
    print(f"best validation score {best:.4f}; weights in {folder / 'best.ckpt'}")


if __name__ == "__main__":
    sys.exit(main())
