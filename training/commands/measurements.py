"""Commands that measure what was trained."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.commands.places import add_experiment, add_places, count, seed, training_of

if TYPE_CHECKING:
    from training.commands.places import Commands
    from training.evaluate import Subject


def add_commands(commands: Commands) -> None:
    evaluate = commands.add_parser("evaluate", help="measure trained experiments on the test part, with a paired test")
    add_experiment(evaluate)
    evaluate.add_argument("--baseline", type=Path, help="another experiment's YAML to compare with")
    evaluate.add_argument("--seeds", type=seed, nargs="+", default=[0], help="the seeds that were trained")
    evaluate.add_argument("--stages", type=int, default=9, help="stages to go through")
    evaluate.add_argument("--update", choices=("replace", "mean"), help="use another rule than the model's own")
    evaluate.add_argument("--model", help="measure this bundle (a name or a folder) on the experiment's data instead")
    evaluate.add_argument("--split", choices=("val", "test"), default="test")
    evaluate.add_argument("--again", action="store_true", help="predict anew instead of reading the kept table")
    evaluate.set_defaults(command=_evaluate)

    calibrate = commands.add_parser("calibrate", help="measure segmentation from the image alone, and its calibration")
    add_experiment(calibrate)
    calibrate.add_argument("--seed", type=seed, default=0, help="seed of the runs")
    calibrate.add_argument("--against", type=Path, nargs="+", default=[], help="YAMLs of experiments to compare with")
    calibrate.add_argument("--model", help="measure this bundle (a name or a folder) on the experiment's data instead")
    calibrate.add_argument("--split", choices=("val", "test"), default="test")
    calibrate.set_defaults(command=_calibrate)

    table = commands.add_parser("table", help="train what a table of experiments lacks, measure it, print the table")
    table.add_argument("table", type=Path, help="a YAML of training/configs/tables")
    table.add_argument("--row", action="append", default=[], help="this row alone; may be repeated")
    table.add_argument("--ratio", type=float, action="append", default=[], help="this ratio alone; may be repeated")
    table.add_argument("--split", choices=("val", "test"), default="test")
    add_places(table)
    table.set_defaults(command=_table)

    annotators = commands.add_parser("annotators", help="show how annotators err, as RefineSeg has learnt it")
    add_experiment(annotators)
    annotators.add_argument("--seed", type=seed, default=0, help="seed of the run")
    annotators.add_argument("--split", choices=("train", "val", "test"), default="val")
    annotators.add_argument("-o", "--output", type=Path, required=True, help="folder for figures and pictures")
    annotators.set_defaults(command=_annotators)

    suspects = commands.add_parser(
        "suspects", help="measure how well planted label noise is found in the training part"
    )
    add_experiment(suspects)
    suspects.add_argument("--seed", type=seed, default=0, help="seed of the run")
    suspects.add_argument("--score", nargs="+", default=["both"], help="probability, affinity, both: see the method")
    suspects.add_argument("--limit", type=count, default=0, help="so many cases, for a quick look")
    suspects.add_argument("--threshold", type=float, default=0.5, help="least score in a suspect region")
    suspects.set_defaults(command=_suspects)


def _evaluate(options: argparse.Namespace) -> None:
    from training import evaluate

    ours = _subjects(options, options.experiment, options.set, options.model)
    theirs = _subjects(options, options.baseline, [], None) if options.baseline else []
    tables = [
        [evaluate.rows_of(subject, options.split, options.stages, again=options.again) for subject in subjects]
        for subjects in (ours, theirs)
    ]
    slices = ours[0].slices
    figures: dict[str, Any] = {
        subjects[0].name: evaluate.report(subjects[0].name, seeds, slices=slices)
        for subjects, seeds in zip((ours, theirs), tables, strict=True)
        if subjects
    }
    figures["comparison"] = evaluate.compare(tables[0], tables[1] or None, slices=slices)
    figures["tables"] = [str(s.table(options.split, options.stages)) for s in (*ours, *theirs)]
    target = options.runs / f"{_figures_name(options, ours, theirs)}.json"
    evaluate.write_figures(target, figures)
    print(f"figures in {target}")


def _subjects(options: argparse.Namespace, file: Path, overrides: list[str], bundle: str | None) -> list[Subject]:
    """What is measured: a bundle, or an experiment's run of each seed."""
    from training.evaluate import subject_of_bundle, subject_of_run
    from training.experiment import read_experiment

    if bundle:
        experiment = read_experiment(file, small=options.small, overrides=overrides)
        return [subject_of_bundle(bundle, experiment, options.data, options.runs, options.update)]
    trainings = [training_of(options, file, seed, overrides) for seed in options.seeds]
    return [subject_of_run(training.read(), training.name, options.update) for training in trainings]


def _figures_name(options: argparse.Namespace, ours: list[Subject], theirs: list[Subject]) -> str:
    """All that the figures depend on: no other evaluation's file is overwritten."""
    versus = [f"vs-{theirs[0].name}"] if theirs else []
    update = [options.update] if options.update else []
    seeds = "" if options.model and not theirs else f"seeds{'+'.join(str(seed) for seed in options.seeds)}"
    parts = [ours[0].name, *versus, seeds, options.split, f"{options.stages}-stages", *update]
    return "-".join(part for part in parts if part)


def _calibrate(options: argparse.Namespace) -> None:
    from NoisyLabelSegLib.inference.model import load_model
    from training import calibrate
    from training.checkpoints import as_model, with_arguments
    from training.evaluate import write_figures
    from training.temperatures import fitted_temperatures

    asked = training_of(options, options.experiment, options.seed, options.set)
    models, dataset = {}, asked.experiment().dataset(options.data)
    if options.model:
        models[options.model] = load_model(options.model, "cpu")
    others = (training_of(options, file, options.seed, []) for file in options.against)
    for training in [] if options.model else [asked, *others]:
        run = training.read()
        plain = models[training.name] = as_model(run)
        models[f"{training.name}, calibrated"] = with_arguments(plain, **fitted_temperatures(plain, run.parts))
    every = [calibrate.measure(name, model, dataset, options.split) for name, model in models.items()]
    versus = "".join(f"-vs-{file.stem}" for file in options.against)
    target = options.runs / f"{every[0].name}{versus}-seed{options.seed}-{options.split}-calibration"
    write_figures(target.with_suffix(".json"), calibrate.tell(every))
    calibrate.write_diagram(every, target.with_suffix(".svg"), f"{dataset.name}, {options.split} part")
    print(f"figures in {target}.json, reliability in {target}.svg")


def _table(options: argparse.Namespace) -> None:
    from training import centres, ratios, tables
    from training.evaluate import write_figures

    table = tables.read_table(options.table)
    if options.ratio:
        table = ratios.some_of(table, options.ratio)
    where = {"small": options.small, "data": options.data, "runs": options.runs}
    trainings = tables.trainings_of(table, options.table, options.row, **where)
    make = ratios.made if table.ratios else centres.made if table.centres else tables.made
    made = make(table, trainings, options.split)
    print(made.text)
    if not options.row:
        setting = "small" if options.small else "full"
        some = [f"{ratio:g}" for ratio in sorted(set(options.ratio))]
        target = options.runs / "-".join([options.table.stem, setting, *some])
        picture = Path(f"{target}-{made.shown}.svg")
        write_figures(Path(f"{target}-{options.split}.json"), made.found)
        made.draw(picture)
        print(f"figures in {target}-{options.split}.json, their picture in {picture}")


def _annotators(options: argparse.Namespace) -> None:
    from training.annotators import describe

    run = training_of(options, options.experiment, options.seed, options.set).read()
    found = describe(run, options.split, options.output)
    for name, figures in found.items():
        print(f"{name}: {'; '.join(figures['told'])}")
    print(f"figures and pictures in {options.output}")


def _suspects(options: argparse.Namespace) -> None:
    from training import suspicion
    from training.checkpoints import as_model, with_arguments
    from training.evaluate import write_figures
    from training.temperatures import fitted_temperatures

    run = training_of(options, options.experiment, options.seed, options.set).read()
    plain = as_model(run)
    calibrated = with_arguments(plain, **fitted_temperatures(plain, run.parts))
    figures: dict[str, Any] = {}
    for score in options.score:
        model = with_arguments(calibrated, score=score, threshold=options.threshold)
        figures[score] = suspicion.figures(suspicion.suspected(model, run.parts.dataset, options.limit))
        print(score, ", ".join(f"{key} {value:.4g}" for key, value in figures[score].items()))
    how = [f"{options.threshold:g}", *([f"first{options.limit}"] if options.limit else [])]
    target = run.folder / f"suspects-{'-'.join([*how, run.fingerprint])}.json"
    write_figures(target, figures)
    print(f"figures in {target}")
