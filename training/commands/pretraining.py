"""Commands that pre-train an encoder, and ask what it has learnt."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from NoisyLabelSegLib.errors import InputError
from training.commands.places import add_experiment, count, seed, training_of

if TYPE_CHECKING:
    from training.commands.places import Commands
    from training.data.cases import Split
    from training.trainings import Training


def add_commands(commands: Commands) -> None:
    pretrain = commands.add_parser("pretrain", help="pre-train an encoder on volumes without labels, or go on with it")
    add_experiment(pretrain)
    pretrain.add_argument("--seed", type=seed, default=0, help="seed of the run")
    pretrain.add_argument("--limit", type=count, default=0, help="volumes a part, for a quick look")
    pretrain.set_defaults(command=_pretrain)

    proxy = commands.add_parser(
        "proxy", help="measure how well a pre-trained encoder tells turned slices, and whether it cheats"
    )
    add_experiment(proxy)
    proxy.add_argument("--seed", type=seed, default=0, help="seed of the run")
    proxy.add_argument("--split", choices=("val", "test"), help="the part that is asked of (test, else val)")
    proxy.set_defaults(command=_proxy)


def _pretrain(options: argparse.Namespace) -> None:
    training = training_of(options, options.experiment, options.seed, options.set)
    if (recipe := training.experiment().recipe) != "pretrain":
        raise InputError(f"'{options.experiment}' has the recipe '{recipe}': use python -m training train.")
    best = training.train(options.limit)
    if best is not None:
        print(f"best validation score {best:.4f}; weights in {training.folder / 'best.ckpt'}")
        print(f"others start from it by network.start: [{{run: {training.name}}}]")


def _proxy(options: argparse.Namespace) -> None:
    _tell(training_of(options, options.experiment, options.seed, options.set), options.split)


def _tell(training: Training, asked: Split | None) -> None:
    from training import proxy

    run = training.read()
    split = asked or proxy.held_out_part(run.parts.dataset)
    found = proxy.measure(run, split)
    target = training.folder / f"proxy-{split}-{run.fingerprint}"
    files = proxy.write(found, target, f"{training.name}, seed {training.seed}")
    figures = found.figures()
    for name, what in (("held_out", f"held-out volumes, {split} part"), ("control", "control, slices turned before")):
        part = figures[name]
        each = ", ".join(
            f"{angle}° {_number(recall)}" for angle, recall in zip(figures["angles"], part["recalls"], strict=True)
        )
        print(f"{what}: balanced accuracy {_number(part['accuracy'])} of {part['slices']} slices ({each})")
    if (figures["control"]["accuracy"] or 0) > proxy.LEAK:
        print(
            f"warning: a control above {proxy.LEAK} tells of a leak: slices show how they were turned.", file=sys.stderr
        )
    print(f"figures in {files[0]}, confusion in {files[1]}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
