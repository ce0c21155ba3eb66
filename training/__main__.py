"""``python -m training``: prepare, train, evaluate, predict, export, benchmark."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from NoisyLabelSegLib.errors import InputError

if TYPE_CHECKING:
    from training.evaluate import Subject
    from training.trainings import Training

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

RUNS, DATA = Path("runs"), Path("data")
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
    "segment",
)


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
    for add in (_add_data_commands, _add_training, _add_measurements, _add_results, _add_benchmark):
        add(commands)
    return parser


def _add_data_commands(commands: Commands) -> None:
    prepare = commands.add_parser("prepare", help="make a dataset.json of a public data set's files")
    prepare.add_argument("adapter", help="one of training.data.adapters, or of a convention: nnunet, msd")
    prepare.add_argument("source", type=Path, help="the published files' folder")
    prepare.add_argument("--name", help="name of the prepared data set (the adapter's)")
    prepare.add_argument("--val", type=float, help="share of the patients in the validation part (the adapter's)")
    prepare.add_argument("--test", type=float, help="share of the patients in the test part (the adapter's)")
    prepare.add_argument("--data", type=Path, default=DATA, help="folder of prepared data sets")
    prepare.set_defaults(command=_prepare)

    plant = commands.add_parser("plant", help="make a copy of a prepared data set with planted label noise")
    plant.add_argument("dataset", help="name of the prepared data set")
    plant.add_argument("--share", type=float, required=True, help="of the labels' border voxels, 0 to 1")
    plant.add_argument("--seed", type=int, default=0)
    plant.add_argument("--data", type=Path, default=DATA, help="folder of prepared data sets")
    plant.set_defaults(command=_plant)

    weaken = commands.add_parser("weaken", help="make a copy of a prepared data set with a simulated weak modality")
    weaken.add_argument("dataset", help="name of the prepared data set, whose images become the strong ones")
    weaken.add_argument("--name", required=True, help="name of the copy")
    weaken.add_argument("--dose", type=float, default=math.inf, help="photons of a ray before the body (no noise)")
    weaken.add_argument("--contrast", type=float, default=1.0, help="factor about soft tissue, above 0 to 1 (1)")
    weaken.add_argument("--blur", type=float, default=0.0, help="full width at half maximum, voxels (0)")
    weaken.add_argument("--seed", type=int, default=0)
    weaken.add_argument("--data", type=Path, default=DATA, help="folder of prepared data sets")
    weaken.set_defaults(command=_weaken)

    draw = commands.add_parser("draw", help="make a copy of a prepared data set with coarse drawings of its labels")
    draw.add_argument("dataset", help="name of the prepared data set")
    draw.add_argument("--name", required=True, help="name of the copy")
    draw.add_argument("--inside", type=float, default=2, help="erosion of structures and background, voxels (2)")
    draw.add_argument("--outside", type=float, default=2, help="erosion of what is not a structure, voxels (2)")
    draw.add_argument("--data", type=Path, default=DATA, help="folder of prepared data sets")
    draw.set_defaults(command=_draw)

    strong = commands.add_parser("strong", help="make a data set of the strong images of a prepared, paired one alone")
    strong.add_argument("dataset", help="name of the prepared data set; the new one's ends in _strong")
    strong.add_argument("--data", type=Path, default=DATA, help="folder of prepared data sets")
    strong.set_defaults(command=_strong)

    sample = commands.add_parser("sample", help="write one case of a prepared data set as a sample")
    sample.add_argument("dataset", help="name of the prepared data set")
    sample.add_argument("case", help="the case's id")
    sample.add_argument("--card", type=Path, required=True, help="a YAML of training/cards")
    sample.add_argument("--data", type=Path, default=DATA, help="folder of prepared data sets")
    sample.add_argument("-o", "--output", type=Path, required=True)
    sample.set_defaults(command=_sample)


def _add_training(commands: Commands) -> None:
    train = commands.add_parser("train", help="train an experiment, or go on with it")
    _experiment_arguments(train)
    train.add_argument("--seed", type=int, default=0, help="seed of the run")
    train.add_argument("--limit", type=_count, default=0, help="cases a part, for a quick look")
    train.set_defaults(command=_train)


def _add_measurements(commands: Commands) -> None:
    evaluate = commands.add_parser("evaluate", help="measure trained experiments on the test part, with a paired test")
    _experiment_arguments(evaluate)
    evaluate.add_argument("--baseline", type=Path, help="another experiment's YAML to compare with")
    evaluate.add_argument("--seeds", type=int, nargs="+", default=[0], help="the seeds that were trained")
    evaluate.add_argument("--stages", type=int, default=9, help="stages to go through")
    evaluate.add_argument("--update", choices=("replace", "mean"), help="use another rule than the model's own")
    evaluate.add_argument("--model", help="measure this bundle (a name or a folder) on the experiment's data instead")
    evaluate.add_argument("--split", choices=("val", "test"), default="test")
    evaluate.add_argument("--again", action="store_true", help="predict anew instead of reading the kept table")
    evaluate.set_defaults(command=_evaluate)

    calibrate = commands.add_parser("calibrate", help="measure segmentation from the image alone, and its calibration")
    _experiment_arguments(calibrate)
    calibrate.add_argument("--seed", type=int, default=0, help="seed of the runs")
    calibrate.add_argument("--against", type=Path, nargs="+", default=[], help="YAMLs of experiments to compare with")
    calibrate.add_argument("--model", help="measure this bundle (a name or a folder) on the experiment's data instead")
    calibrate.add_argument("--split", choices=("val", "test"), default="test")
    calibrate.set_defaults(command=_calibrate)

    table = commands.add_parser("table", help="train what a table of experiments lacks, measure it, print the table")
    table.add_argument("table", type=Path, help="a YAML of training/configs/tables")
    table.add_argument("--row", action="append", default=[], help="this row alone; may be repeated")
    table.add_argument("--split", choices=("val", "test"), default="test")
    _places_arguments(table)
    table.set_defaults(command=_table)

    annotators = commands.add_parser("annotators", help="show how annotators err, as RefineSeg has learnt it")
    _experiment_arguments(annotators)
    annotators.add_argument("--seed", type=int, default=0, help="seed of the run")
    annotators.add_argument("--split", choices=("train", "val", "test"), default="val")
    annotators.add_argument("-o", "--output", type=Path, required=True, help="folder for figures and pictures")
    annotators.set_defaults(command=_annotators)

    suspects = commands.add_parser(
        "suspects", help="measure how well planted label noise is found in the training part"
    )
    _experiment_arguments(suspects)
    suspects.add_argument("--seed", type=int, default=0, help="seed of the run")
    suspects.add_argument("--score", nargs="+", default=["both"], help="probability, affinity, both: see the method")
    suspects.add_argument("--limit", type=_count, default=0, help="so many cases, for a quick look")
    suspects.add_argument("--threshold", type=float, default=0.5, help="least score in a suspect region")
    suspects.set_defaults(command=_suspects)


def _add_results(commands: Commands) -> None:
    predict = commands.add_parser("predict", help="write a trained experiment's label maps for a part of the data set")
    _experiment_arguments(predict)
    predict.add_argument("--seed", type=int, default=0, help="seed of the run")
    predict.add_argument("--stages", type=int, default=5)
    predict.add_argument("--split", choices=("train", "val", "test"), default="test")
    predict.add_argument("-o", "--output", type=Path, required=True, help="folder for the label maps")
    predict.set_defaults(command=_predict)

    export = commands.add_parser("export", help="make a model bundle of a trained experiment")
    _experiment_arguments(export)
    export.add_argument("--seed", type=int, default=0, help="seed of the run")
    export.add_argument("--card", type=Path, required=True, help="a YAML of training/cards")
    export.add_argument("--models", type=Path, default=Path("Resources/Models"), help="folder of bundles")
    export.add_argument("--overwrite", action="store_true")
    export.set_defaults(command=_export)


def _add_benchmark(commands: Commands) -> None:
    benchmark = commands.add_parser("benchmark", help="print speeds as ratios against a named peer")
    benchmark.add_argument("name", choices=BENCHMARKS)
    benchmark.set_defaults(command=_benchmark)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"give a number of cases, not '{text}'")
    return int(text)


def _experiment_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("experiment", type=Path, help="a YAML of training/configs")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting")
    _places_arguments(parser)


def _places_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--small", action="store_true", help="the setting for a small machine")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of prepared data sets (data)")
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of training runs (runs)")


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
    dataset = split_anew(dataset, **shares) if shares else dataset
    write_dataset(target, dataset)
    parts = ", ".join(f"{len(dataset.part(split))} {split}" for split in ("train", "val", "test"))
    print(f"{dataset.name}: {parts} cases in {target}")


def _require_new(folder: Path) -> None:
    if (folder / "dataset.json").exists():
        raise InputError(f"'{folder}' is a data set already: choose another --data folder or delete it.")


def _plant(options: argparse.Namespace) -> None:
    from training.data.cases import read_dataset
    from training.data.label_noise import plant_dataset

    seed = f"_seed{options.seed}" if options.seed else ""
    target = options.data / f"{options.dataset}_planted{100 * options.share:g}{seed}"
    _require_new(target)
    dataset = plant_dataset(read_dataset(options.data / options.dataset), target, options.share, options.seed)
    print(f"{dataset.name}: {len(dataset.part('train'))} noisy training cases in {target}")


def _weaken(options: argparse.Namespace) -> None:
    from training.data.cases import read_dataset
    from training.data.privileged import WeakModality, weaken_dataset

    target, settings = options.data / options.name, WeakModality(options.dose, options.contrast, options.blur)
    _require_new(target)
    dataset = weaken_dataset(read_dataset(options.data / options.dataset), target, settings, options.seed)
    print(f"{dataset.name}: {len(dataset.cases)} cases in {target}")


def _draw(options: argparse.Namespace) -> None:
    from training.data.cases import read_dataset
    from training.data.drawn import draw_dataset

    target = options.data / options.name
    _require_new(target)
    dataset = draw_dataset(read_dataset(options.data / options.dataset), target, options.inside, options.outside)
    print(f"{dataset.name}: {len(dataset.cases)} cases in {target}")


def _strong(options: argparse.Namespace) -> None:
    from training.data.cases import read_dataset, write_dataset
    from training.data.strong_alone import strong_alone

    target = options.data / f"{options.dataset}_strong"
    _require_new(target)
    dataset = strong_alone(read_dataset(options.data / options.dataset), target)
    write_dataset(target, dataset)
    print(f"{dataset.name}: {len(dataset.cases)} cases in {target}")


def _train(options: argparse.Namespace) -> None:
    training = _training(options, options.experiment, options.seed, options.set)
    best = training.train(options.limit)
    if best is not None:
        print(f"best validation score {best:.4f}; weights in {training.folder / 'best.ckpt'}")


def _training(options: argparse.Namespace, experiment: Path, seed: int, overrides: list[str]) -> Training:
    from training.trainings import Training

    return Training(experiment, options.small, tuple(overrides), seed, options.data, options.runs)


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
    trainings = [_training(options, file, seed, overrides) for seed in options.seeds]
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

    asked = _training(options, options.experiment, options.seed, options.set)
    models, dataset = {}, asked.experiment().dataset(options.data)
    if options.model:
        models[options.model] = load_model(options.model, "cpu")
    others = (_training(options, file, options.seed, []) for file in options.against)
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
    from training import tables
    from training.evaluate import write_figures

    table = tables.read_table(options.table)
    where = {"small": options.small, "data": options.data, "runs": options.runs}
    trainings = tables.trainings_of(table, options.table, options.row, **where)
    rows = [
        tables.Row(name, [tables.measured(training, options.split, windows=table.windows) for training in seeds])
        for name, seeds in trainings.items()
    ]
    found = tables.figures(table, rows)
    print(tables.as_markdown(table, found))
    if not options.row:
        setting = "small" if options.small else "full"
        target = options.runs / f"{options.table.stem}-{setting}-{options.split}.json"
        write_figures(target, found)
        print(f"figures in {target}")


def _annotators(options: argparse.Namespace) -> None:
    from training.annotators import describe

    run = _training(options, options.experiment, options.seed, options.set).read()
    found = describe(run, options.split, options.output)
    for name, figures in found.items():
        print(f"{name}: {'; '.join(figures['told'])}")
    print(f"figures and pictures in {options.output}")


def _suspects(options: argparse.Namespace) -> None:
    from training import suspicion
    from training.checkpoints import as_model, with_arguments
    from training.evaluate import write_figures
    from training.temperatures import fitted_temperatures

    run = _training(options, options.experiment, options.seed, options.set).read()
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


def _predict(options: argparse.Namespace) -> None:
    import SimpleITK as sitk

    from training.checkpoints import as_model, simulated_starts
    from training.data.adapters.files import write_labels
    from training.prediction import stage_labels

    run = _training(options, options.experiment, options.seed, options.set).read()
    model, simulated = as_model(run), simulated_starts(run.experiment)
    targets = {case: options.output / f"{case.id}.nii.gz" for case in run.parts.dataset.part(options.split)}
    if there := [target for target in targets.values() if target.exists()]:
        raise InputError(f"'{there[0]}' exists already: choose another folder or delete it.")
    for case, target in targets.items():
        labels = stage_labels(model, case, options.stages, simulated)[-1]
        write_labels(target, labels, sitk.ReadImage(str(case.image)))
        print(target)


def _export(options: argparse.Namespace) -> None:
    from training.export import export

    run = _training(options, options.experiment, options.seed, options.set).read()
    bundle = export(run, options.card, options.models, overwrite=options.overwrite)
    megabytes = bundle.description.weights.bytes / 1e6
    print(f"{bundle.folder}: {megabytes:.2f} MB of weights")


def _sample(options: argparse.Namespace) -> None:
    from training.data.cases import read_dataset
    from training.export import read_card
    from training.samples import write_sample

    write_sample(read_dataset(options.data / options.dataset), options.case, read_card(options.card), options.output)
    print(options.output)


def _benchmark(options: argparse.Namespace) -> None:
    from importlib import import_module

    import_module(f"training.benchmarks.{options.name.replace('-', '_')}").main()


if __name__ == "__main__":
    sys.exit(main())
