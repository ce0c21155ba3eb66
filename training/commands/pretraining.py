"""Commands that pre-train an encoder, and ask what it has learnt."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from NoisyLabelSegLib.errors import InputError
from training.commands.places import add_experiment, count, seed, training_of

if TYPE_CHECKING:
    from training.commands.places import Commands
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
    _tell(training_of(options, options.experiment, options.seed, options.set))


def _tell(training: Training) -> None:
    from training import proxy

    run = training.read()
    found = proxy.measure(run)
    target = training.folder / f"proxy-val-{run.fingerprint}"
    files = proxy.write(found, target, f"{training.name}, seed {training.seed}")
    figures = found.figures()
    for name, what in (("held_out", "held-out volumes"), ("control", "control, slices turned before")):
        part = figures[name]
        each = ", ".join(
            f"{angle}° {recall:.3f}" for angle, recall in zip(figures["angles"], part["recalls"], strict=True)
        )
        print(f"{what}: balanced accuracy {part['accuracy']:.3f} of {part['slices']} slices ({each})")
    if figures["control"]["accuracy"] > proxy.LEAK:
        print(
            f"warning: a control above {proxy.LEAK} tells of a leak: slices show how they were turned.", file=sys.stderr
        )
    print(f"figures in {files[0]}, confusion in {files[1]}")
