"""``python -m training``: prepare, pretrain, train, evaluate, predict, export, benchmark."""

from __future__ import annotations

import argparse
import sys

from NoisyLabelSegLib.errors import InputError
from training.commands import benchmark, data, labels, measurements, pipeline, pretraining, results


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
    for part in (data, pretraining, results, measurements, labels, pipeline, benchmark):
        part.add_commands(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
