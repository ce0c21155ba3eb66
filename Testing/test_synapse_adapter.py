"""Synapse's abdominal CT as published: eight of thirteen organs, and the test scans that papers share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import MakeImage

from training.__main__ import main
from training.data.cases import read_dataset

ORGANS = ["aorta", "gallbladder", "spleen", "left kidney", "right kidney", "liver", "pancreas", "stomach"]


def publish(
    folder: Path, make_image: MakeImage, values: list[int], numbers: Sequence[str] = ("0001", "0005", "0040")
) -> Path:
    for number in numbers:
        for kind, content in (("img", [-1000] * len(values)), ("label", values)):
            path = folder / kind / f"{kind}{number}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(make_image(np.array([[content]], np.int16)), str(path))
    return folder


def prepare(source: Path, data: Path) -> int:
    return main(["prepare", "synapse", str(source), "--data", str(data)])


@pytest.mark.parametrize("inside", ["", "Training", "RawData/Training", "Abdomen/RawData/Training"])
def test_eight_organs_of_the_papers_split(tmp_path: Path, make_image: MakeImage, inside: str) -> None:
    publish(tmp_path / "published" / inside, make_image, list(range(14)))
    assert prepare(tmp_path / "published", tmp_path / "data") == 0
    dataset = read_dataset(tmp_path / "data/synapse")
    assert list(dataset.labels.values()) == ORGANS and list(dataset.labels) == list(range(1, 9))
    cases = {case.id: case for case in dataset.cases}
    assert list(cases) == ["case0001", "case0005", "case0040"]
    assert cases["case0001"].split == "test" and {cases[name].split for name in list(cases)[1:]} <= {"train", "val"}
    label = sitk.ReadImage(str(cases["case0005"].label))
    # Esophagus, veins and adrenal glands are background.
    assert sitk.GetArrayFromImage(label).ravel().tolist() == [0, 3, 5, 4, 2, 0, 6, 8, 1, 0, 0, 7, 0, 0]
    image = sitk.ReadImage(str(cases["case0005"].image))
    assert label.GetDirection() == pytest.approx(image.GetDirection()) and label.GetOrigin() == image.GetOrigin()


def test_the_test_scans_are_those_of_the_papers(tmp_path: Path, make_image: MakeImage) -> None:
    numbers = [f"{number:04}" for number in (*range(1, 11), *range(21, 41))]
    source = publish(tmp_path / "published", make_image, [0, 1], numbers)
    (source / "img/img0005 (1).nii.gz").touch()  # as browsers name what is downloaded twice
    assert prepare(source, tmp_path / "data") == 0
    parts = {case.id: case.split for case in read_dataset(tmp_path / "data/synapse").cases}
    test = ["0008", "0022", "0038", "0036", "0032", "0002", "0029", "0003", "0001", "0004", "0025", "0035"]
    assert {name for name, split in parts.items() if split == "test"} == {f"case{number}" for number in test}
    assert len(parts) == 30 and 1 <= list(parts.values()).count("val") <= 6


def test_what_is_no_such_data_set_is_said(
    tmp_path: Path, make_image: MakeImage, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert prepare(tmp_path / "empty", tmp_path / "data") == 2
    assert "There are no 'img/img0001.nii.gz' files" in capsys.readouterr().err
    source = publish(tmp_path / "strange", make_image, [0, 14])
    assert prepare(source, tmp_path / "data") == 2
    assert "has values that are none of 0 to 13" in capsys.readouterr().err
    (publish(tmp_path / "lacking", make_image, [0, 1]) / "label/label0005.nii.gz").unlink()
    assert prepare(tmp_path / "lacking", tmp_path / "data") == 2
    assert "label0005.nii.gz' is missing" in capsys.readouterr().err
