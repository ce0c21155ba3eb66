"""A pipeline on a real hippocampus: each stage is trained once, goes on where it was, and builds on the others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
import yaml

from NoisyLabelSegLib.bundle import load_bundle
from NoisyLabelSegLib.images import read_image
from training import measuring, trainings
from training.__main__ import main
from training.data.cases import Case, DataSet, Split, write_dataset
from training.pipeline.results import _compared, scores
from training.pipeline.settings import PipelineSettings, StageMasks, StageSettings, StageStart, read_pipeline
from training.pipeline.stages import cards_of, stages_of
from training.prediction import labels_of, segmented
from training.tables import Row
from training.trainings import Training

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "Resources" / "Samples" / "hippocampus"
CARDS = ROOT / "training" / "cards"
SHARED: dict[str, Any] = {
    "data": "crops",
    "preprocessing": {
        "dimensions": 3,
        "window": [16, 32, 16],
        "margin": 2,
        "multiple": 16,
        "intensity": {"rule": "z-score"},
    },
    "augmentation": {"jitter": 2},
    "network": {"name": "dynamic_unet", "arguments": {"features": [4, 8, 8]}},
    "optimizer": {"name": "AdamW", "learning_rate": 0.03},
    "engine": {"epochs": 4, "validate_every": 2, "batch_size": 1, "accelerator": "cpu", "devices": 1, "threads": 1},
}
SEGMENT = {**SHARED, "recipe": "supervised"}
REFINE = {
    **SHARED,
    "recipe": "rerenet",
    "settings": {"stages": 1, "inference_stages": 2, "starts": {"coarse": 0.5, "damaged": 0.5}},
}
PIPELINE: dict[str, Any] = {
    "title": "few labels",
    "stages": {
        "first": {"experiment": "segment.yaml", "set": ["optimizer.learning_rate=0.02"]},
        "segment": {"experiment": "segment.yaml", "set": ["labelled=0.5"], "start": [{"stage": "first"}]},
        "refine": {
            "experiment": "refine.yaml",
            "set": ["labelled=0.5"],
            "start": [{"stage": "segment"}],
            "masks": {"stage": "segment"},
        },
    },
    "bundles": {
        "refine": str(CARDS / "hippocampus-refine.yaml"),
        "segment": str(CARDS / "hippocampus-uncertainty.yaml"),
    },
}


def changed(**stages: dict[str, Any]) -> dict[str, Any]:
    """The pipeline with some keys of some stages changed, or further stages."""
    known = PIPELINE["stages"]
    return {**PIPELINE, "stages": {**known, **{name: {**known.get(name, {}), **new} for name, new in stages.items()}}}


def write_crops(folder: Path) -> None:
    """Seven patients: crops of one real volume at places of their own, four of them for training."""
    image = read_image(SAMPLE / "image.nii.gz")
    expert = sitk.ReadImage(str(SAMPLE / "expert.seg.nrrd"))
    splits: list[Split] = ["train", "train", "train", "train", "val", "test", "test"]
    folder.mkdir(parents=True)
    cases = []
    for number, split in enumerate(splits):
        index = [number % 3, number, number // 2]
        for name, whole in (("image", image), ("label", expert)):
            crop = sitk.RegionOfInterest(whole, [32, 40, 30], index)
            sitk.WriteImage(crop, str(folder / f"p{number}_{name}.nii.gz"))
        paths = [folder / f"p{number}_{name}.nii.gz" for name in ("image", "label")]
        cases.append(Case(f"p{number}", paths[0], paths[1], patient=f"p{number}", split=split))
    write_dataset(folder, DataSet("crops", {1: "anterior", 2: "posterior"}, tuple(cases), "CC-BY-SA-4.0"))


class Desk:
    """A folder with a pipeline, its experiments and data."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.runs = folder, folder / "runs"
        write_crops(folder / "data" / "crops")
        self.write("segment", SEGMENT)
        self.write("refine", REFINE)
        self.runs.mkdir()

    def write(self, name: str, values: dict[str, Any]) -> None:
        (self.folder / f"{name}.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")

    def __call__(self, pipeline: dict[str, Any] = PIPELINE) -> int:
        self.write("pipeline", pipeline)
        where = ["--data", str(self.folder / "data"), "--runs", str(self.runs)]
        threads = torch.get_num_threads()
        code = main(["pipeline", str(self.folder / "pipeline.yaml"), *where])
        torch.set_num_threads(threads)
        return code

    def stages(self, pipeline: dict[str, Any] = PIPELINE) -> dict[str, Training]:
        self.write("pipeline", pipeline)
        file, where = self.folder / "pipeline.yaml", {"data": self.folder / "data", "runs": self.runs}
        return stages_of(read_pipeline(file), file, small=False, seed=0, **where)

    def found(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.runs / "pipeline-full-seed0-test.json").read_text("utf-8"))
        return content

    @property
    def models(self) -> Path:
        return self.runs / "pipeline-full-seed0-models"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    desk = Desk(tmp_path_factory.mktemp("pipeline"))
    assert desk() == 0
    return desk


@pytest.fixture
def desk(made: Desk) -> Iterator[Desk]:
    """As the pipeline left it, whatever a test did."""
    shutil.copytree(made.runs, made.folder / "kept")
    yield made
    shutil.rmtree(made.runs)
    (made.folder / "kept").rename(made.runs)
    made.write("segment", SEGMENT)
    made.write("refine", REFINE)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the runs that are trained from now on, without training them for long."""
    names: list[str] = []
    train = Training.train

    def watched(training: Training, *more: Any) -> float | None:
        names.append(training.name)
        return train(training, *more)

    monkeypatch.setattr(Training, "train", watched)
    return names


def test_a_pipeline_ends_in_scores_and_bundles(desk: Desk) -> None:
    found = desk.found()
    assert list(found["stages"]) == ["first", "segment", "refine"]
    dice = {name: stage["seeds"][0]["dice"] for name, stage in found["stages"].items()}
    assert all(0.02 < value < 1 for value in dice.values()), "they have learnt something"
    assert set(found["stages"]["refine"]["against"]) == {found["last"]["best_part"]}
    assert {path.name for path in desk.models.iterdir()} == {
        *("hippocampus-refine", "hippocampus-uncertainty", "exported.json")
    }
    refine = load_bundle(desk.models / "hippocampus-refine").description
    assert (refine.kind, refine.labels[0].name) == ("refine", "anterior")


def test_what_is_done_is_not_done_again(
    desk: Desk, trained: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("training.calibrate.measure", "training.measuring.evaluate", "training.pipeline.results.export"):
        monkeypatch.setattr(place, lambda *_, **__: pytest.fail("it was done already"))
    monkeypatch.setattr("training.predicted._predict", lambda *_, **__: pytest.fail("it was predicted already"))
    before = desk.found()
    assert desk() == 0 and not trained and desk.found() == before
    printed = capsys.readouterr().out
    assert printed.count("has been trained") == 3 and printed.count("its bundle lies in") == 2


def test_the_last_stage_starts_from_the_masks_and_weights_of_the_one_before(desk: Desk) -> None:
    stages = desk.stages()
    experiment = stages["refine"].experiment()
    assert experiment.masks.run == stages["segment"].name == experiment.network.start[0].run
    run, segmenter = stages["refine"].read(), stages["segment"].read()
    from training.checkpoints import as_model

    model = as_model(segmenter)
    for case in run.parts.dataset.cases:
        assert case.coarse is not None and case.coarse.is_relative_to(segmenter.folder)
        expected = labels_of(segmented(read_image(case.image), model).stages[-1])
        assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(case.coarse))), expected)
    assert len(run.parts.cases("train")) == 2, "labelled as far as the stage says"


@pytest.mark.parametrize(("changed", "again"), [("first", 3), ("segment", 2), ("refine", 1)])
def test_what_is_changed_and_what_builds_on_it_gets_another_run(desk: Desk, changed: str, again: int) -> None:
    before = desk.stages()
    stages = {name: dict(stage) for name, stage in PIPELINE["stages"].items()}
    stages[changed]["set"] = [*stages[changed].get("set", []), "optimizer.weight_decay=0.5"]
    after = desk.stages({**PIPELINE, "stages": stages})
    assert sum(before[name].name != after[name].name for name in before) == again


def test_an_edited_experiment_is_trained_beside_its_old_run(desk: Desk, trained: list[str]) -> None:
    before = desk.stages()
    desk.write("refine", {**REFINE, "optimizer": {"name": "AdamW", "learning_rate": 0.01}})
    after = desk.stages()
    assert [name for name in after if after[name].name != before[name].name] == ["refine"]
    assert desk() == 0
    assert trained == [after["refine"].name] and trained[0].startswith(before["refine"].name)
    assert before["refine"].folder.is_dir() and desk.found()["runs"]["refine"] == f"{trained[0]}-seed0"
    assert desk.stages() == after, "the new run is found again"
    desk.write("refine", REFINE)
    assert desk.stages() == before, "and so is the old one"


def test_a_killed_pipeline_goes_on(
    desk: Desk, trained: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    longer = changed(refine={"set": ["labelled=0.5", "engine.epochs=2", "engine.validate_every=1"]})
    epoch = trainings.Engine._epoch

    def killed(engine: Any, *more: Any) -> dict[str, float]:
        if engine.state.epoch:
            raise KeyboardInterrupt
        return epoch(engine, *more)

    with monkeypatch.context() as patch:
        patch.setattr(trainings.Engine, "_epoch", killed)
        assert desk(longer) == 2
    assert "Interrupted in stage 'refine'" in capsys.readouterr().err
    assert desk(longer) == 0
    assert "refine: goes on being trained" in capsys.readouterr().out
    log = (desk.stages(longer)["refine"].folder / "log.jsonl").read_text("utf-8")
    assert [row["epoch"] for row in map(json.loads, log.splitlines()) if "epoch" in row] == [1, 2]
    assert trained == [desk.stages(longer)["refine"].name] * 2


def test_masks_that_a_killed_pipeline_has_not_predicted_are_predicted(desk: Desk) -> None:
    stages = desk.stages()
    (folder,) = stages["segment"].folder.glob("masks-*[0-9a-f]")
    one, *_ = sorted(folder.iterdir())
    content = one.read_bytes()
    one.unlink()
    stages["refine"].read()
    assert sitk.GetArrayFromImage(sitk.ReadImage(str(one))).shape == (30, 40, 32) and one.read_bytes() == content


def test_a_foreign_model_of_the_same_name_is_not_overwritten(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    (desk.models / "exported.json").unlink()
    assert desk() == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["pipeline", "stage", "seed"])
def test_nor_is_one_of_another_pipeline_stage_or_seed(desk: Desk, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    made = json.loads((desk.models / "exported.json").read_text("utf-8"))
    for entry in made.values():
        entry |= {key: "another", "of": "other weights"}
    (desk.models / "exported.json").write_text(json.dumps(made), encoding="utf-8")
    assert desk() == 2
    assert "exists already" in capsys.readouterr().err


CARD = str(CARDS / "hippocampus-refine.yaml")


@pytest.mark.parametrize(
    ("pipeline", "said"),
    [
        ({**PIPELINE, "stages": {}}, "a pipeline needs stages"),
        (
            changed(segment={"start": [{"stage": "frist"}]}),
            "stage 'segment' names 'frist', which is no stage; stages are",
        ),
        (changed(refine={"masks": {"stage": "none"}}), "stage 'refine' names 'none'"),
        (changed(refine={"teacher": "none"}), "stage 'refine' names 'none'"),
        ({**PIPELINE, "bundles": {"refin": CARD}}, "'bundles' names 'refin', which is no stage"),
        (changed(first={"start": [{"stage": "refine"}]}), "Stages wait for each other: "),
        (changed(first={"start": [{"stage": "first"}]}), "Stages wait for each other: first needs first."),
        (changed(first={"begin": 1}), "begin"),
        (changed(first={"experiment": "none.yaml"}), "Stage 'first': The experiment "),
        (changed(first={"set": ["labeled=0.5"]}), "Stage 'first': "),
        (changed(first={"set": ["data=none"]}), "Stage 'first': The data set "),
        (changed(segment={"teacher": "first"}), "teacher"),
        (changed(refine={"set": ["settings.starts.simulated={warp: 0.1}"]}), "set one of them"),
        ({**PIPELINE, "bundles": {"refine": "none.yaml"}}, "The bundle of stage 'refine': The card "),
        ({**PIPELINE, "bundles": {"refine": CARD, "segment": CARD}}, "Two of the bundles' cards have the name"),
        (
            {**PIPELINE, "bundles": {"refine": str(CARDS / "lidc-nodule-refine.yaml")}},
            "describes other labels than 'crops'",
        ),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_trained(
    pipeline: dict[str, Any], said: str, desk: Desk, trained: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(desk.runs)
    desk.runs.mkdir()
    assert desk(pipeline) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("error:") == 1 and not trained


def test_the_stages_order_is_that_of_their_needs() -> None:
    needs = {"c": ["b"], "a": [], "d": ["c", "a"], "b": ["a"]}
    stages = {name: StageSettings("x.yaml", start=[StageStart(one) for one in need]) for name, need in needs.items()}
    assert PipelineSettings("any", stages).order() == ["a", "b", "c", "d"]


def test_what_is_taken_over_becomes_settings(tmp_path: Path) -> None:
    stage = StageSettings(
        "x.yaml", [], [StageStart("a", {"encoder": "weak"}, True), StageStart("b")], "b", StageMasks("a")
    )
    assert stage.needs == ["a", "b", "b", "a"]
    assert stage.taken_over({"a": "one-small", "b": "two-small"}) == [
        'network.start=[{"parts": {"encoder": "weak"}, "lenient": true, "run": "one-small"}, {"run": "two-small"}]',
        "settings.teacher=two-small",
        'masks={"run": "one-small"}',
    ]


@pytest.mark.parametrize("change", ["split", "label"])
def test_runs_of_a_data_set_that_has_changed_are_refused(
    desk: Desk, change: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = desk.folder / "data" / "crops" / ("dataset.json" if change == "split" else "p6_label.nii.gz")
    kept = file.read_bytes()
    file.write_bytes(
        kept.replace(b'"val"', b'"train"', 1).replace(b'"test"', b'"val"', 1)
        if change == "split"
        else kept[:-1] + bytes([kept[-1] ^ 1])
    )
    try:
        assert desk() == 2
    finally:
        file.write_bytes(kept)
    said = capsys.readouterr().err
    assert (
        "Stage 'first': The content of the data set 'crops' has changed since the run in" in said
        and "delete that run" in said
    )


def test_runs_from_before_say_nothing_of_what_they_are_made_of_and_are_read(desk: Desk) -> None:
    for training in desk.stages().values():
        file = training.folder / "experiment.json"
        values = json.loads(file.read_text("utf-8"))
        assert values.pop("origins").keys() >= {"The content of the data set 'crops'"}
        file.write_text(json.dumps(values), encoding="utf-8")
        training.finish()


def test_what_builds_on_a_run_that_was_trained_anew_is_refused(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    folder = desk.stages()["first"].folder
    content = torch.load(folder / "best.ckpt", weights_only=True)
    for tensor in content["network"].values():
        tensor += 1
    torch.save(content, folder / "best.ckpt")
    assert desk() == 2
    said = capsys.readouterr().err
    assert f"Stage 'segment': The run '{desk.stages()['first'].name}' has changed since the run in" in said


def test_first_masks_are_of_a_case_as_it_is(desk: Desk) -> None:
    stages = desk.stages()
    training, other = stages["refine"], desk.folder / "data" / "elsewhere"
    shutil.copytree(desk.folder / "data" / "crops", other)
    (other / "p1_image.nii.gz").write_bytes((other / "p2_image.nii.gz").read_bytes())
    elsewhere = measuring._elsewhere(training, training.read(), "elsewhere")
    shutil.rmtree(other)
    ours, theirs = ({case.id: case.coarse for case in one.cases} for one in (training.read().parts.dataset, elsewhere))
    known = [name for name in ours if ours[name] != theirs[name]]
    assert all(path and path.is_relative_to(stages["segment"].folder) for path in theirs.values())
    assert set(known) <= {"p1"} < theirs.keys()


def test_what_an_experiment_says_anyway_makes_no_other_run(desk: Desk) -> None:
    """So what `train` has trained by the same file, starting from the same run, needs no second training."""
    first = desk.stages()["first"].name
    desk.write("begun", {**SEGMENT, "network": {**SHARED["network"], "start": [{"run": first}]}})
    assert desk.stages(changed(segment={"experiment": "begun.yaml"}))["segment"].name == "begun-full-labelled=0.5"


@pytest.mark.parametrize(("dice", "said"), [(0.7, "is not below"), (0.5, "is below")])
def test_the_last_stage_is_compared_with_the_best_that_saw_the_same_images(
    desk: Desk, dice: float, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(desk.folder / "data" / "crops", desk.folder / "data" / "others", dirs_exist_ok=True)
    pipeline = changed(strong={"experiment": "segment.yaml", "set": ["data=others"]})
    pipeline["stages"] = {"refine": {}, "strong": pipeline["stages"].pop("strong"), **pipeline["stages"]}
    pipeline["stages"]["scratch"] = {"experiment": "segment.yaml", "set": ["optimizer.learning_rate=0.07"]}
    pipeline["stages"]["refine"] = pipeline["stages"].pop("refine")
    stages = desk.stages(pipeline)
    given = {"strong": 0.99, "scratch": 0.9, "first": 0.3, "segment": 0.6, "refine": dice}
    names = {training.name: name for name, training in stages.items()}

    def measured(training: Training, *_: Any, **__: Any) -> dict[str, Any]:
        value = given[names[training.name]]
        every = {"dice": value, "iou": value, "hd95": 1.0, "assd": 1.0}
        return {"figures": every, "rows": [{"patient": str(n), "dice": value} for n in range(6)]}

    monkeypatch.setattr("training.pipeline.results.measured", measured)
    found, text = scores(read_pipeline(desk.folder / "pipeline.yaml"), stages, "test")
    assert found["last"] == {"stage": "refine", "best_part": "segment", "dice": pytest.approx(dice - 0.6), "p": 0.03125}
    assert f"The last stage, refine, {said} the best of its parts, segment: Dice {dice:.4f} against 0.6000" in text
    assert "| strong | 0.9900 |" in text


def test_stages_of_other_patients_are_in_the_table_and_not_compared() -> None:
    one, same, other = (
        Row(name, [{"figures": {"dice": 0.5}, "rows": [{"patient": patient, "dice": 0.5} for patient in patients]}])
        for name, patients in (("one", "ab"), ("same", "ab"), ("other", "c"))
    )
    found = _compared([one, same, other], one)
    assert {name: list(each["against"]) for name, each in found.items()} == {"one": [], "same": ["one"], "other": []}


PIPELINES = sorted((ROOT / "training" / "configs" / "pipelines").glob("*.yaml"))


@pytest.mark.parametrize("file", PIPELINES, ids=lambda path: path.stem)
@pytest.mark.parametrize("small", [False, True], ids=["full", "small"])
def test_the_published_pipelines_are_valid(file: Path, small: bool, tmp_path: Path) -> None:
    pipeline = read_pipeline(file)
    missing = [stage.experiment for stage in pipeline.stages.values() if not (file.parent / stage.experiment).is_file()]
    assert not missing
    for name in ("hippocampus_411", "lidc", "lidc_weak"):
        labels = {1: "anterior", 2: "posterior"} if "hippo" in name else {1: "nodule"}
        write_dataset(tmp_path / name, DataSet(name, labels, ()))
    stages = stages_of(pipeline, file, small=small, seed=0, data=tmp_path, runs=tmp_path / "runs")
    assert cards_of(pipeline, file, stages).keys() == pipeline.bundles.keys()


def test_stages_share_the_runs_of_tables(tmp_path: Path) -> None:
    (file,) = (file for file in PIPELINES if file.stem == "lidc_weak")
    for name in ("lidc", "lidc_weak"):
        write_dataset(tmp_path / name, DataSet(name, {1: "nodule"}, ()))
    stages = stages_of(read_pipeline(file), file, small=True, seed=0, data=tmp_path, runs=tmp_path / "runs")
    names = [training.name for training in stages.values()]
    assert names[:4] == [f"lidc_{name}-small" for name in ("weak_only", "strong_only", "arm", "pkt")]
