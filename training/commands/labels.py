"""Commands that say what a training thinks of the labels that it learnt from."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from training.commands.places import add_experiment, count, seed, training_of

if TYPE_CHECKING:
    from training.commands.places import Commands


def add_commands(commands: Commands) -> None:
    trust = commands.add_parser("trust", help="write which labels DALE distrusts; measure it where noise was planted")
    trust.add_argument("--split", choices=("train", "val", "test"), default="train")
    trust.add_argument("-o", "--output", type=Path, required=True, help="folder for maps, list and pictures")
    trust.set_defaults(command=_trust)
    readings = commands.add_parser("readings", help="measure each reading of DALE's omega where noise was planted")
    readings.add_argument("-o", "--output", type=Path, help="JSON of the figures")
    readings.set_defaults(command=_readings)
    for parser in (trust, readings):
        add_experiment(parser)
        parser.add_argument("--seed", type=seed, default=0, help="seed of the run")
        parser.add_argument(
            "--passes", type=int, default=5, help="how often each label is asked about, in other batches (5)"
        )
        parser.add_argument(
            "--steps", type=count, default=15, help="of a short training before it is asked; 0: as trained (15)"
        )
        parser.add_argument("--limit", type=count, default=0, help="so many cases, for a quick look")


def _trust(options: argparse.Namespace) -> None:
    from training.evaluate import write_figures
    from training.trust.asked import trust_of
    from training.trust.planted import Planted
    from training.trust.report import listed, ranked, require_new, write_case, write_table
    from training.trust.review import as_reviewing_model, reviewed

    require_new(options.output)
    run = training_of(options, options.experiment, options.seed, options.set).read()
    model, planted, regions = as_reviewing_model(run), Planted(), []
    for trust in trust_of(run, options.split, options.passes, options.limit, options.steps):
        one = reviewed(trust, model)
        write_case(one, options.output)
        regions += listed(one)
        planted.add(one)
    write_table(ranked(regions), options.output)
    print(f"{len(regions)} regions in {options.output / 'least_trusted.csv'}, a folder and a picture for each case")
    if figures := planted.figures(ranked(regions)):
        for name, values in figures.items():
            print(f"{name}: {', '.join(f'{key} {value:.4g}' for key, value in values.items())}")
        write_figures(options.output / "figures.json", figures)


def _readings(options: argparse.Namespace) -> None:
    from training.evaluate import write_figures
    from training.trust.readings import compare

    run = training_of(options, options.experiment, options.seed, options.set).read()
    figures = compare(run, options.passes, options.limit, options.steps)
    for name, values in figures.items():
        print(f"{name}: {', '.join(f'{key} {value:.3f}' for key, value in values.items())}")
    if options.output:
        write_figures(options.output, figures)
