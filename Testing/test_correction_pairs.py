"""Correction pairs: what a person corrected becomes a training set that the training reads as it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from tiny_models import contents

from NoisyLabelSegLib.correction_pairs import add_pair
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import read_image, same_grid
from NoisyLabelSegLib.segmentations import Segment, Segmentation
from NoisyLabelSegLib.training_set import has_case
from training.__main__ import main
from training.data.cases import read_dataset, split_of
from training.data.masks import coarse_labels, expert_labels

SHAPE = (5, 8, 10)
TILT = [0.96, 0.0, 0.28, 0.0, 1.0, 0.0, -0.28, 0.0, 0.96]


def on_grid(array: Any, spacing: Sequence[float] = (0.7, 0.8, 2.5)) -> sitk.Image:
    image = sitk.GetImageFromArray(np.asarray(array))
    image.SetSpacing(spacing)
    image.SetOrigin((-31.5, 17.25, 204.125))
    image.SetDirection(TILT)
    return image


def picture(**metadata: str) -> sitk.Image:
    image = on_grid(np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE) - 200)
    for key, value in metadata.items():
        image.SetMetaData(key, value)
    return image


def segmentation(*names: str, shift: int = 0) -> Segmentation:
    """One voxel column a segment; the first at the label 7, which says nothing about the value in the training set."""
    labels = np.zeros(SHAPE, np.uint8)
    for n in range(len(names)):
        labels[1 + shift : 4 + shift, 2 * n, 3] = 7 + n
    return Segmentation(on_grid(labels), tuple(Segment(name, 7 + n) for n, name in enumerate(names)))


def overlapping(*names: str) -> Segmentation:
    layers = sitk.Compose([on_grid(np.ones(SHAPE, np.uint8)) for _ in names])
    return Segmentation(layers, tuple(Segment(name, 1, layer) for layer, name in enumerate(names)))


def add(folder: Path, case: str, *names: str, patient: str = "P1", overwrite: bool = False) -> None:
    names = names or ("tumour",)
    given, kept = segmentation(*names), segmentation(*names, shift=1)
    add_pair(folder, case, patient, picture(), given, kept, overwrite=overwrite)


def listed(folder: Path) -> Any:
    return json.loads((folder / "dataset.json").read_text(encoding="utf-8"))


def test_a_pair_comes_back_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "our site ü" / "corrections"
    add(folder, "case 1", "tumour", "Ödem")
    (case,) = read_dataset(folder).cases
    image = read_image(case.image)
    assert (case.id, case.patient, case.split) == ("case 1", "P1", split_of("P1"))
    assert same_grid(image, picture()) and image.GetPixelID() == sitk.sitkInt16
    assert np.array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(picture()))
    for read, shift in ((coarse_labels(case, image), 0), (expert_labels(case, image), 1)):
        expected = sitk.GetArrayFromImage(segmentation("tumour", "Ödem", shift=shift).image)
        assert read is not None
        assert np.array_equal(sitk.GetArrayFromImage(read), np.where(expected, expected - 6, 0))


@pytest.mark.parametrize(
    ("cases", "labels"),
    [
        ([("a",), ("b",)], {1: "a", 2: "b"}),
        ([("a", "b"), ("b", "a")], {1: "a", 2: "b"}),
        ([("b",), ("a", "b"), ("c", "a")], {1: "b", 2: "a", 3: "c"}),
        ([("a",), (" a ",), ("b",)], {1: "a", 2: "b"}),
    ],
)
def test_a_structure_has_one_value_in_all_cases(
    tmp_path: Path, cases: list[tuple[str, ...]], labels: dict[int, str]
) -> None:
    for number, names in enumerate(cases):
        add(tmp_path, f"case{number}", *names)
    dataset = read_dataset(tmp_path)
    assert dataset.labels == labels
    for case, names in zip(dataset.cases, cases, strict=True):
        values = sitk.GetArrayFromImage(expert_labels(case, picture()))
        found = {labels[int(values[2, 2 * n, 3])] for n in range(len(names))}
        assert found == {name.strip() for name in names} and len(np.unique(values)) == len(names) + 1


def test_a_structure_is_spelt_alike_in_all_cases(tmp_path: Path) -> None:
    add(tmp_path, "first", "RV")
    with pytest.raises(InputError, match="knows 'RV', and here it is 'Rv': spell a structure alike"):
        add(tmp_path, "second", "Rv")
    assert len(read_dataset(tmp_path).cases) == 1


def test_nothing_but_voxels_and_grid_is_written_of_the_image(tmp_path: Path) -> None:
    secrets = {"0010|0010": "Doe^Jane", "aux_file": "Doe.dcm", "descrip": "Doe", "ITK_FileNotes": "Doe"}
    image = picture(**secrets)
    add_pair(tmp_path, "a", "P1", image, segmentation("s"), segmentation("s"))
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / "images" / "a.nii.gz")), str(tmp_path / "plain.nii"))
    assert b"Doe" not in (tmp_path / "plain.nii").read_bytes()
    assert image.GetMetaData("descrip") == "Doe", "the given image keeps it"


def test_an_id_is_used_once_unless_it_is_to_be_replaced(tmp_path: Path) -> None:
    add(tmp_path, "a")
    before = contents(tmp_path)
    for other in ("a", "A"):
        with pytest.raises(InputError, match=r"has the case '[aA]' (already|twice)"):
            add(tmp_path, other, "tumour", "new")
    assert contents(tmp_path) == before
    assert [has_case(tmp_path, name) for name in ("a", "b")] == [True, False]
    assert not has_case(tmp_path / "nowhere yet", "a")
    add(tmp_path, "b")
    add(tmp_path, "a", "vessel", patient="P2", overwrite=True)
    first, second = read_dataset(tmp_path).cases
    assert (first.id, second.id, second.patient) == ("b", "a", "P2")
    assert set(np.unique(sitk.GetArrayFromImage(expert_labels(second, picture())))) == {0, 2}


def test_what_others_wrote_into_the_list_stays(tmp_path: Path) -> None:
    add(tmp_path, "a")
    content = listed(tmp_path)
    content |= {"licence": "CC0-1.0", "modality": {"0": "CT"}}
    content["labels"] = {"0": "nothing", "5": "vessel", "1": "tumour"}
    content["training"][0] |= {"split": "test", "note": "x"}
    content["training"].append({"id": "raters", "image": "r.nii.gz", "raters": ["1.nii.gz", "2.nii.gz"]})
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    add(tmp_path, "b", "Ödem", "vessel")
    after = listed(tmp_path)
    new = after["training"].pop()
    assert after["labels"] == content["labels"] | {"6": "Ödem"} and new["id"] == "b"
    assert {**after, "labels": 0} == {**content, "labels": 0}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"training": []}',
        '{"labels": {}, "training": {}}',
        '{"labels": [], "training": []}',
        '{"labels": {"background": 0, "tumour": 1}, "training": []}',
        '{"labels": {"0": "background", "x": "tumour"}, "training": []}',
        '{"labels": {"0": "background", "-1": "tumour"}, "training": []}',
        '{"labels": {"1": "tumour", "2": "tumour"}, "training": []}',
        '{"labels": {"1": "tumour", "01": "vessel"}, "training": []}',
        '{"labels": {}, "training": [{"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}]}',
        '{"labels": {}, "training": ["a"]}',
        '{"labels": {}, "training": [{"id": 1, "image": "a"}]}',
        "[" * 100_000,
        b"\xff\xfe\x00",
    ],
    ids=lambda content: repr(content[:30]),
)
def test_a_list_that_is_not_ours_is_left_alone(tmp_path: Path, content: str | bytes) -> None:
    (tmp_path / "dataset.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    before = contents(tmp_path)
    with pytest.raises(InputError, match=r"dataset\.json is (damaged|not)"):
        add(tmp_path, "a")
    assert contents(tmp_path) == before


ONE = segmentation("tumour")
ELSEWHERE = Segmentation(on_grid(np.zeros(SHAPE, np.uint8), (0.7, 0.8, 2.6)), ONE.segments)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"case_id": "../a"}, "cannot name a file"),
        ({"case_id": ""}, "cannot name a file"),
        ({"patient": " "}, "patient's identifier is empty"),
        ({"patient": "P\n1"}, "not printable"),
        ({"coarse": ELSEWHERE}, "The coarse mask is not on the image's grid"),
        ({"accepted": ELSEWHERE}, "The accepted result is not on the image's grid"),
        ({"coarse": segmentation("vessel")}, "has the segments vessel, but the accepted result tumour"),
        ({"accepted": segmentation()}, "but the accepted result none"),
        ({"coarse": segmentation(), "accepted": segmentation()}, "has the segments none"),
        ({"coarse": overlapping("a", "b"), "accepted": segmentation("a", "b")}, r"coarse mask overlap \('b'"),
        ({"coarse": segmentation("a", "b"), "accepted": overlapping("b", "a")}, r"accepted result overlap \('a'"),
        ({"coarse": segmentation("a", "a"), "accepted": segmentation("a", "a")}, "Two segments are called 'a'"),
        ({"coarse": segmentation("Background"), "accepted": segmentation("Background")}, "rename it"),
        ({"coarse": segmentation(" "), "accepted": segmentation("")}, "rename it"),
    ],
)
def test_what_cannot_be_learned_from_is_refused_and_nothing_written(
    tmp_path: Path, changed: dict[str, Any], sentence: str
) -> None:
    arguments: dict[str, Any] = {
        "case_id": "a",
        "patient": "P1",
        "image": picture(),
        "coarse": ONE,
        "accepted": ONE,
    } | changed
    with pytest.raises(InputError, match=sentence):
        add_pair(tmp_path / "new", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_more_structures_than_values_are_refused(tmp_path: Path) -> None:
    labels = {"0": "background"} | {str(n): f"s{n}" for n in range(1, 255)}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels, "training": []}))
    add(tmp_path, "a", "s254")
    with pytest.raises(InputError, match="more than 254 structures"):
        add(tmp_path, "b", "one too many")


def test_files_of_others_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.nii.gz").write_text("mine")
    before = contents(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(InputError, match="belongs to no case"):
            add(tmp_path, "a", overwrite=overwrite)
    assert contents(tmp_path) == before


def test_a_list_that_changes_meanwhile_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(tmp_path, "a")
    before = contents(tmp_path)
    content = listed(tmp_path)
    content["training"][0]["note"] = "from elsewhere"
    write = sitk.WriteImage

    def write_while_another_does(*arguments: Any) -> None:
        write(*arguments)
        (tmp_path / "dataset.json").write_text(json.dumps(content))

    monkeypatch.setattr(sitk, "WriteImage", write_while_another_does)
    with pytest.raises(InputError, match="save the case again"):
        add(tmp_path, "b")
    assert contents(tmp_path).keys() == before.keys() and listed(tmp_path) == content


@pytest.mark.parametrize("there", [False, True])
def test_a_full_disk_leaves_all_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    folder = tmp_path / "set"
    if there:
        add(folder, "a")
    before = {str(path) for path in tmp_path.rglob("*")}

    def fail(*_: Any) -> None:
        raise RuntimeError("ITK could not write")

    monkeypatch.setattr(sitk, "WriteImage", fail)
    with pytest.raises(InputError, match=r"b\.nii\.gz cannot be written"):
        add(folder, "b")
    assert {str(path) for path in tmp_path.rglob("*")} == before


EXPERIMENT = """\
recipe: rerenet
data: corrections
preprocessing: {dimensions: 2, window: [16, 16], margin: 0, intensity: {rule: min-max, scope: slice}}
augmentation: {jitter: 0}
network: {arguments: {features: [2, 2, 2, 2, 2, 2]}}
settings: {stages: 1, inference_stages: 1}
engine: {epochs: 1, batch_size: 2, accelerator: cpu, devices: 1, threads: 1}
"""


def test_the_training_learns_from_the_folder_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "corrections"
    for part in ("train", "val"):
        patient = next(f"P{n}" for n in range(1000) if split_of(f"P{n}") == part)
        add(folder, part, patient=patient)
    (tmp_path / "teach.yaml").write_text(EXPERIMENT, encoding="utf-8")
    threads = torch.get_num_threads()
    assert main(["train", str(tmp_path / "teach.yaml"), "--data", str(tmp_path), "--runs", str(tmp_path / "runs")]) == 0
    torch.set_num_threads(threads)
    assert (tmp_path / "runs" / "teach-full-seed0" / "best.ckpt").is_file()
