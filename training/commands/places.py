"""Arguments that commands share: an experiment, and where data and runs lie."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.trainings import Training

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

RUNS, DATA = Path("runs"), Path("data")


def count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"give a whole number of at least 0, not '{text}'")
    return int(text)


def seed(text: str) -> int:
    """Random numbers' generators take no negative ones."""
    return count(text)


def add_experiment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("experiment", type=Path, help="a YAML of training/configs")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting")
    add_places(parser)


def add_places(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--small", action="store_true", help="the setting for a small machine")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of prepared data sets (data)")
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of training runs (runs)")


def training_of(options: argparse.Namespace, experiment: Path, seed: int, overrides: list[str]) -> Training:
    from training.trainings import Training

    return Training(experiment, options.small, tuple(overrides), seed, options.data, options.runs)
