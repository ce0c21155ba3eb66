"""Commands that make data sets."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from NoisyLabelSegLib.errors import InputError
from training.commands.places import DATA, seed

if TYPE_CHECKING:
    from training.commands.places import Commands
    from training.data.cases import DataSet
    from training.data.noisy_sets import Kind

    Copy = Callable[[DataSet, Path, argparse.Namespace], DataSet]


def add_commands(commands: Commands) -> None:
    prepare = commands.add_parser("prepare", help="make a dataset.json of a public data set's files")
    prepare.add_argument("adapter", help="one of training.data.adapters, or of a convention: nnunet, msd")
    prepare.add_argument("source", type=Path, help="the published files' folder")
    prepare.add_argument("--name", help="name of the prepared data set (the adapter's)")
    prepare.add_argument("--val", type=float, help="share of the patients in the validation part (the adapter's)")
    prepare.add_argument("--test", type=float, help="share of the patients in the test part (the adapter's)")
    prepare.add_argument("--data", type=Path, default=DATA, help="folder of prepared data sets")
    prepare.set_defaults(command=_prepare)

    plant = _copies(commands, "plant", _plant, "with planted label noise", name="DATASET_plantedSHARE")
    plant.add_argument("--share", type=float, required=True, help="of border voxels, of swaps: of cases; 0 to 1")
    plant.add_argument(
        "--kinds",
        nargs="+",
        choices=("blobs", "shifts", "swaps"),
        default=["blobs"],
        help="blobs and shifts at borders, labels swapped between cases; a case has one of several (blobs)",
    )
    plant.add_argument("--seed", type=seed, default=0)
    plant.add_argument("--radius", type=float, nargs=2, default=(1.5, 3.0), help="of blobs, voxels (1.5 3)")
    plant.add_argument("--verified", type=float, default=0.0, help="share of the cases that stay right and say so (0)")

    weaken = _copies(commands, "weaken", _weaken, "with a simulated weak modality; its own images become strong")
    weaken.add_argument("--dose", type=float, default=math.inf, help="photons of a ray before the body (no noise)")
    weaken.add_argument("--contrast", type=float, default=1.0, help="factor about soft tissue, above 0 to 1 (1)")
    weaken.add_argument("--blur", type=float, default=0.0, help="full width at half maximum, voxels (0)")
    weaken.add_argument("--seed", type=seed, default=0)

    draw = _copies(commands, "draw", _draw, "with coarse drawings of its labels")
    draw.add_argument("--inside", type=float, default=2, help="erosion of structures and background, voxels (2)")
    draw.add_argument("--outside", type=float, default=2, help="erosion of what is not a structure, voxels (2)")

    misdraw = _copies(commands, "misdraw", _misdraw, "with full drawings of an annotator who errs in a known way")
    for option, what in (("--erode", "VALUE=VOXELS"), ("--miss", "VALUE=SHARE")):
        misdraw.add_argument(option, action="append", default=[], metavar=what, help=f"{option[2:]} a class's {what}")
    misdraw.add_argument(
        "--experts", type=float, default=0.0, help="share of the patients whom an expert draws, too (0)"
    )
    misdraw.add_argument("--seed", type=seed, default=0)

    fuse = _copies(commands, "fuse", _fuse, "whose training labels are made of full drawings")
    fuse.add_argument("--by", choices=("majority", "staple", "random"), required=True)
    fuse.add_argument("--seed", type=seed, default=0, help="of whose drawing is taken at random")

    _copies(commands, "strong", _strong, "of the strong images of a paired one alone", name="DATASET_strong")

    sample = commands.add_parser("sample", help="write one case of a prepared data set as a sample")
    sample.add_argument("dataset", help="name of the prepared data set")
    sample.add_argument("case", help="the case's id")
    sample.add_argument("--card", type=Path, required=True, help="a YAML of training/cards")
    sample.add_argument("--data", type=Path, default=DATA, help="folder of prepared data sets")
    sample.add_argument("-o", "--output", type=Path, required=True)
    sample.set_defaults(command=_sample)


def _copies(commands: Commands, command: str, make: Copy, what: str, name: str = "") -> argparse.ArgumentParser:
    """A command that makes a copy of a prepared data set by ``make``, which writes it."""
    parser = commands.add_parser(command, help=f"make a copy of a prepared data set {what}")
    parser.add_argument("dataset", help="name of the prepared data set")
    parser.add_argument("--name", required=not name, help=f"name of the copy{f' ({name})' if name else ''}")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of prepared data sets")
    parser.set_defaults(command=_copy, make=make, default_name=name)
    return parser


def _copy(options: argparse.Namespace) -> None:
    from training.data.cases import read_dataset

    target = options.data / (options.name or _default_name(options))
    _require_new(target)
    dataset = options.make(read_dataset(options.data / options.dataset), target, options)
    print(f"{dataset.name}: {len(dataset.cases)} cases in {target}")


def _default_name(options: argparse.Namespace) -> str:
    share = f"{100 * options.share:g}" if "share" in options else ""
    seed = f"_seed{options.seed}" if getattr(options, "seed", 0) else ""
    kinds = _kinds(options) if "kinds" in options else ("blobs",)
    named = "" if kinds == ("blobs",) else f"_{'+'.join(kinds)}"
    name: str = options.default_name
    return name.replace("DATASET", options.dataset).replace("SHARE", share) + named + seed


def _prepare(options: argparse.Namespace) -> None:
    from training.data.adapters import ADAPTERS
    from training.data.cases import split_anew, write_dataset

    if options.adapter not in ADAPTERS:
        raise InputError(f"There is no adapter '{options.adapter}'; known ones are {', '.join(ADAPTERS)}.")
    target = options.data / (options.name or options.adapter)
    if target.resolve() == options.source.resolve():
        raise InputError(f"'{target}' holds the published files themselves: choose another --data folder.")
    _require_new(target)
    shares = {key: value for key in ("val", "test") if (value := getattr(options, key)) is not None}
    dataset = ADAPTERS[options.adapter](options.source, target)
    if shares:  # without labels there is nothing to test
        dataset = split_anew(dataset, **(shares if dataset.labels else {"test": 0.0, **shares}))
    write_dataset(target, dataset)
    parts = ", ".join(f"{len(dataset.part(split))} {split}" for split in ("train", "val", "test"))
    patients = len({case.patient for case in dataset.cases})
    print(f"{dataset.name}: {parts} cases of {patients} patients in {target}")
    roles = {"learnt from": dataset.part("train"), "held out to choose the best weights by": dataset.part("val")}
    for what, cases in roles.items():
        if not cases:
            print(f"warning: no case is {what}: give another --val, or set 'split' by hand.", file=sys.stderr)
    _tell_of_drawings(dataset)


def _tell_of_drawings(dataset: DataSet) -> None:
    """Who drew in how many cases, and names that may be one mistyped."""
    from training.data.drawings import strategies_of, strategy_of

    for strategy in strategies_of(dataset.cases):
        count = sum(any(strategy_of(one) == strategy for one in case.drawings) for case in dataset.cases)
        print(f"{strategy} has drawn in {count} of {len(dataset.cases)} cases")
    if any(case.drawings for case in dataset.cases):
        print(f"structures: {', '.join(dataset.labels.values())}")
    names = [*dataset.labels.values(), *{one.annotator: None for case in dataset.cases for one in case.drawings}]
    alike = [name for name in names if sum(name.casefold() == other.casefold() for other in names) > 1]
    if alike:
        print(f"{', '.join(alike)} differ in capital letters alone and count as different names.", file=sys.stderr)


def _require_new(folder: Path) -> None:
    if (folder / "dataset.json").exists():
        raise InputError(f"'{folder}' is a data set already: choose another --data folder or delete it.")


def _plant(dataset: DataSet, target: Path, options: argparse.Namespace) -> DataSet:
    from training.data.noisy_sets import Noise, plant_dataset

    radii = options.radius[0], options.radius[1]
    return plant_dataset(dataset, target, Noise(options.share, _kinds(options), radii, options.verified, options.seed))


def _kinds(options: argparse.Namespace) -> tuple[Kind, ...]:
    """Each once."""
    return tuple(dict.fromkeys(options.kinds))


def _weaken(dataset: DataSet, target: Path, options: argparse.Namespace) -> DataSet:
    from training.data.privileged import WeakModality, weaken_dataset

    settings = WeakModality(options.dose, options.contrast, options.blur)
    return weaken_dataset(dataset, target, settings, options.seed)


def _draw(dataset: DataSet, target: Path, options: argparse.Namespace) -> DataSet:
    from training.data.drawn import draw_dataset

    return draw_dataset(dataset, target, options.inside, options.outside)


def _misdraw(dataset: DataSet, target: Path, options: argparse.Namespace) -> DataSet:
    from training.data.misdrawn import Errors, misdraw_dataset

    errors = Errors(_by_class(options.erode), _by_class(options.miss))
    return misdraw_dataset(dataset, target, errors, options.experts, options.seed)


def _by_class(texts: list[str]) -> dict[int, float]:
    try:
        return {int(value): float(number) for value, number in (text.split("=") for text in texts)}
    except ValueError as error:
        raise InputError(f"'{' '.join(texts)}' does not say VALUE=NUMBER, such as 2=1.5.") from error


def _fuse(dataset: DataSet, target: Path, options: argparse.Namespace) -> DataSet:
    from training.data.fused import fuse_dataset

    return fuse_dataset(dataset, target, options.by, options.seed)


def _strong(dataset: DataSet, target: Path, options: argparse.Namespace) -> DataSet:
    from training.data.strong_alone import strong_alone

    return strong_alone(dataset, target)


def _sample(options: argparse.Namespace) -> None:
    from training.data.cases import read_dataset
    from training.export import read_card
    from training.samples import write_sample

    write_sample(read_dataset(options.data / options.dataset), options.case, read_card(options.card), options.output)
    print(options.output)
