"""The command that prints speeds."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.commands.places import Commands

BENCHMARKS = (
    "surface-distance",
    "refine",
    "geometry",
    "selective-scan",
    "neighbourhood",
    "training-step",
    "cross-scan",
    "step-heads",
    "transitions",
    "paradigms",
    "segment",
    "rotation",
)


def add_commands(commands: Commands) -> None:
    benchmark = commands.add_parser("benchmark", help="print speeds as ratios against a named peer")
    benchmark.add_argument("name", choices=BENCHMARKS)
    benchmark.set_defaults(command=_benchmark)


def _benchmark(options: argparse.Namespace) -> None:
    from importlib import import_module

    import_module(f"training.benchmarks.{options.name.replace('-', '_')}").main()
