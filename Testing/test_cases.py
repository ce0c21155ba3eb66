"""`dataset.json` in the conventions of the Medical Segmentation Decathlon and nnU-Net v2, and extended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from NoisyLabelSegLib.errors import InputError
from training.data.cases import Case, DataSet, case_id, read_dataset, split_of, write_dataset


def written(folder: Path, content: Any) -> Path:
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def entry(name: str = "a", **more: Any) -> dict[str, Any]:
    return {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz", **more}


def test_msd(tmp_path: Path) -> None:
    content = {
        "name": "Hippocampus",
        "licence": "CC-BY-SA 4.0",
        "labels": {"0": "background", "2": "Posterior", "1": "Anterior"},
        "numTraining": 2,
        "training": [entry("case_001"), entry("case_002")],
        "test": ["./imagesTs/case_003.nii.gz"],
    }
    dataset = read_dataset(written(tmp_path, content))
    assert (dataset.name, dataset.licence) == ("Hippocampus", "CC-BY-SA 4.0")
    assert list(dataset.labels.items()) == [(1, "Anterior"), (2, "Posterior")]
    first = dataset.cases[0]
    assert (first.id, first.patient, first.coarse, first.raters) == ("case_001", "case_001", None, ())
    assert first.image == tmp_path / "imagesTr/case_001.nii.gz"
    assert first.label == tmp_path / "labelsTr/case_001.nii.gz"
    assert read_dataset(tmp_path / "dataset.json") == dataset


@pytest.mark.parametrize("ending", [".nii.gz", ".mha"])
@pytest.mark.parametrize("channels", [["CT"], ["T1", "T2", "FLAIR"]])
def test_nnunet_version_2(tmp_path: Path, ending: str, channels: list[str]) -> None:
    labels = tmp_path / "labelsTr"
    labels.mkdir()
    for name in ("b_02", "a_01"):
        (labels / f"{name}{ending}").touch()
    (labels / "notes.txt").touch()
    content = {
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": {"background": 0, "liver": 1, "tumour": 2},
        "file_ending": ending,
    }
    dataset = read_dataset(written(tmp_path, content))
    assert [case.id for case in dataset.cases] == ["a_01", "b_02"]
    first = dataset.cases[0]
    files = [tmp_path / f"imagesTr/a_01_000{number}{ending}" for number in range(len(channels))]
    assert [first.image, *first.channels] == files
    assert dataset.channels == len(channels)
    assert dict(dataset.labels) == {1: "liver", 2: "tumour"}
    assert dataset.name == tmp_path.name


def test_extended_entries_survive_writing_and_reading(tmp_path: Path) -> None:
    outside = tmp_path.parent / "elsewhere.nii.gz"
    inside = [tmp_path / "set" / f"{kind}/x.nii.gz" for kind in ("imagesTr", "labelsTr", "coarseTr", "r1", "r2")]
    dataset = DataSet(
        "Both",
        {1: "one", 3: "three"},
        (
            Case("x", inside[0], inside[1], inside[2], (inside[3], inside[4]), "patient 1", "val", channels=(outside,)),
            Case("y", outside, None, None, (), "patient 2", "test", channels=(inside[0],)),
        ),
        "CC0-1.0",
        {"warp": 0.1},
    )
    write_dataset(tmp_path / "set", dataset)
    assert read_dataset(tmp_path / "set") == dataset
    text = (tmp_path / "set" / "dataset.json").read_text(encoding="utf-8")
    assert '"imagesTr/x.nii.gz"' in text, "a folder that is moved stays whole"
    moved = (tmp_path / "set").rename(tmp_path / "moved")
    assert read_dataset(moved).cases[0].image == moved / "imagesTr/x.nii.gz"


def test_splits_are_stable_and_never_part_a_patient(tmp_path: Path) -> None:
    names = [f"p{n:03}" for n in range(300)]
    entries = [entry(f"{name}_{visit}", patient=name) for name in names for visit in range(2)]
    dataset = read_dataset(written(tmp_path, {"labels": {}, "training": entries}))
    parts = {case.patient: case.split for case in dataset.cases}
    assert all(case.split == parts[case.patient] for case in dataset.cases)
    fewer = read_dataset(written(tmp_path, {"labels": {}, "training": entries[::-3]}))
    assert all(case.split == parts[case.patient] for case in fewer.cases)
    shares = [len(dataset.part(split)) / 600 for split in ("train", "val", "test")]
    assert shares == pytest.approx([0.7, 0.1, 0.2], abs=0.06)
    assert sum(shares) == pytest.approx(1)
    # A hash that changed would move test cases into the training of published models.
    assert [split_of(name) for name in names[:8]] == [split_of(name, 0, 0.1, 0.2) for name in names[:8]]
    assert [split_of(name, 1) for name in names] != [split_of(name) for name in names]


def test_a_given_split_wins(tmp_path: Path) -> None:
    entries = [entry(f"c{n}", split="test") for n in range(20)]
    assert len(read_dataset(written(tmp_path, {"labels": {}, "training": entries})).part("test")) == 20


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"labels": {}, "training": [entry(), entry()]}, "the case 'a' twice"),
        ({"labels": {}, "training": [entry(), entry("b", id="A")]}, "the case 'A' twice"),
        ({"labels": {}, "training": [entry(id="../a")]}, "cannot name a file"),
        ({"labels": {}, "training": [{"label": "x.nii.gz"}]}, "does not name an image"),
        ({"labels": {}, "training": [{"image": ["a.nii.gz", 2]}]}, "does not name an image"),
        ({"labels": {}, "training": [{"image": []}]}, "does not name an image"),
        ({"labels": {}, "training": ["a.nii.gz"]}, "does not name an image"),
        ({"labels": {}, "training": [entry(), {"image": ["b.nii", "c.nii"]}]}, "'b' of .* another number of channels"),
        ({"labels": {}, "training": [entry(split="valid")]}, "must be one of train, val, test"),
        ({"labels": {}}, "neither an MSD nor an nnU-Net"),
        ({"labels": {"whole tumour": [1, 2, 3]}, "training": []}, "one integer is supported"),
        ([1, 2], "not a JSON object"),
        ("text", "not a JSON object"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_dataset(written(tmp_path, content))


@pytest.mark.parametrize("text", [None, b"{", b"\xff\xfe{}"])
def test_a_missing_or_damaged_file_is_refused(tmp_path: Path, text: bytes | None) -> None:
    if text is not None:
        (tmp_path / "dataset.json").write_bytes(text)
    with pytest.raises(InputError, match="cannot be read"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("name", ["a.b_0000.nii.gz", "a.b_0000.nii", "a.b_0000.nrrd", "a.b_0000.mha", "a.b.nii.gz"])
def test_case_id(name: str) -> None:
    assert case_id(Path("folder") / name) == "a.b"
