"""Shares of the training patients: nested, whole patients, the same for every recipe."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from NoisyLabelSegLib.errors import InputError
from training.data.cases import Case, DataSet, Split, read_dataset
from training.data.labelled import labelled_part, labelled_patients
from training.experiment import differences, parse_experiment, read_experiment
from training.trainings import Training

TEXT = """\
recipe: supervised
data: tiny
labelled: 0.5
preprocessing: {dimensions: 2, window: [16, 16], intensity: {rule: min-max, scope: slice}}
network: {arguments: {features: [2, 2, 2, 2, 2, 2]}}
engine: {epochs: 1, batch_size: 8, accelerator: cpu, devices: 1, threads: 1}
"""


def dataset(patients: int, frames: int = 2) -> DataSet:
    """So many patients in the training part, and a few in the others, each with some frames."""
    train: list[Split] = ["train"]
    splits: list[Split] = [*train * patients, "val", "test", "test"]
    cases = [
        Case(f"p{n}_{frame}", Path(f"p{n}_{frame}.nii.gz"), patient=f"p{n}", split=split)
        for n, split in enumerate(splits)
        for frame in range(frames)
    ]
    return DataSet("any", {1: "one"}, tuple(cases))


@pytest.mark.parametrize(
    ("patients", "share", "count"), [(143, 0.05, 7), (143, 0.1, 14), (6, 0.05, 1), (6, 1, 6), (3, 0.5, 2), (10, 0.3, 3)]
)
def test_a_share_is_rounded_and_never_nobody(patients: int, share: float, count: int) -> None:
    assert len(labelled_patients(dataset(patients), share, 0)) == count


def test_what_learns_without_labels_learns_from_all() -> None:
    values = {"recipe": "pretrain", "data": "tiny", "preprocessing": {"dimensions": 3, "window": [8, 8, 8]}}
    assert not differences(parse_experiment({**values, "labelled": 0.1}), parse_experiment(values))


@pytest.mark.parametrize("seed", range(5))
def test_smaller_subsets_lie_in_larger_ones(seed: int) -> None:
    shares = (0.05, 0.1, 0.3, 0.5, 1)
    subsets = [set(labelled_patients(dataset(40), share, seed)) for share in shares]
    assert [len(subset) for subset in subsets] == [2, 4, 12, 20, 40]
    assert all(small < large for small, large in pairwise(subsets))


def test_seeds_draw_other_patients_evenly() -> None:
    drawn = [name for seed in range(400) for name in labelled_patients(dataset(10), 0.1, seed)]
    counts = {name: drawn.count(name) for name in set(drawn)}
    assert len(counts) == 10 and all(20 < count < 60 for count in counts.values())


def test_patients_keep_their_place_when_others_come() -> None:
    before, after = (labelled_patients(dataset(count), 1, 3) for count in (20, 30))
    assert [name for name in after if name in before] == before


def test_patients_stay_whole_and_other_parts_too() -> None:
    whole = dataset(10, frames=3)
    part = labelled_part(whole, 0.3, 1)
    assert len(part.part("train")) == 9 and len({case.patient for case in part.part("train")}) == 3
    assert [part.part(split) for split in ("val", "test")] == [whole.part(split) for split in ("val", "test")]
    assert labelled_part(whole, 1, 1) == whole


def test_the_key_reaches_the_training_and_is_recorded(tmp_path: Path, tiny_dataset: Path) -> None:
    (tmp_path / "few.yaml").write_text(TEXT, encoding="utf-8")
    training = Training(tmp_path / "few.yaml", False, (), 1, tiny_dataset, tmp_path / "runs")
    threads = torch.get_num_threads()
    training.train()
    torch.set_num_threads(threads)
    run = training.read()
    patients = [case.patient for case in run.parts.cases("train")]
    assert sorted(patients) == sorted(labelled_patients(read_dataset(tiny_dataset / "tiny"), 0.5, 1))
    assert len(run.parts.cases("val")) == 2
    assert json.loads((training.folder / "experiment.json").read_text("utf-8"))["labelled"] == 0.5
    (tmp_path / "few.yaml").write_text(TEXT.replace("0.5", "0.2"), encoding="utf-8")
    with pytest.raises(InputError, match=r"other settings \(labelled\)"):
        training.train()


def test_an_experiment_without_the_key_has_all(tmp_path: Path) -> None:
    (tmp_path / "few.yaml").write_text(TEXT, encoding="utf-8")
    values = dict(read_experiment(tmp_path / "few.yaml").values)
    del values["labelled"]
    every = parse_experiment(values)
    assert every.labelled == 1 and not differences(every, parse_experiment({**values, "labelled": 1}))


@pytest.mark.parametrize("share", ["0", "-0.1", "1.5", "ten"])
def test_what_is_no_share_is_refused_with_its_line(share: str, tmp_path: Path) -> None:
    (tmp_path / "few.yaml").write_text(TEXT.replace("0.5", share), encoding="utf-8")
    with pytest.raises(InputError, match="few.yaml, line 3: .*labelled"):
        read_experiment(tmp_path / "few.yaml")


def test_a_change_that_says_nothing_new_makes_no_other_run(tmp_path: Path) -> None:
    (tmp_path / "few.yaml").write_text(TEXT, encoding="utf-8")
    training = Training(tmp_path / "few.yaml", False, ("engine.epochs=2",), 0, tmp_path, tmp_path)
    assert training.changed("labelled=0.5", "data=tiny") == training
    assert training.changed("labelled=1", "engine.epochs=2").name == "few-full-engine.epochs=2-labelled=1"
    twice = training.changed("labelled=1", "labelled=0.5")
    assert twice == training, "the last one counts"
    assert training.changed("labelled=0.2", "labelled=1").experiment().labelled == 1
