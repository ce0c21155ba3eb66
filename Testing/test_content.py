"""What tells a data set from another: its cases and what their files hold, not where they lie or since when."""

from __future__ import annotations

import gzip
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from training.data import content
from training.data.cases import Case
from training.data.content import content_of


@pytest.fixture
def case(tmp_path: Path) -> Case:
    folder = tmp_path / "here"
    (folder / "series").mkdir(parents=True)
    for name, text in {"image.nii": b"0123456789" * 100, "label.nii": b"label", "series/1.dcm": b"slice"}.items():
        (folder / name).write_bytes(text)
    return Case("a", folder / "image.nii", folder / "label.nii", coarse=folder / "series", split="train")


def moved(case: Case, folder: Path) -> Case:
    shutil.copytree(case.image.parent, folder)
    assert case.label and case.coarse
    return replace(case, image=folder / "image.nii", label=folder / "label.nii", coarse=folder / "series")


def test_copies_are_the_same(case: Case, tmp_path: Path) -> None:
    copy = moved(case, tmp_path / "there")
    os.utime(copy.image, (1e9, 1e9))
    assert content_of([copy]) == content_of([case]) != content_of([case, copy])


@pytest.mark.parametrize("name", ["image.nii", "label.nii", "series/1.dcm", "series/2.dcm"])
@pytest.mark.parametrize("place", [0, -1])
def test_what_is_changed_is_another(case: Case, name: str, place: int) -> None:
    """Of the same size."""
    before, file = content_of([case]), case.image.parent / name
    if file.exists():
        kept = bytearray(file.read_bytes())
        kept[place] ^= 1
        file.write_bytes(kept)
        os.utime(file, (1e9, 1e9))
    else:
        file.touch()
    assert content_of([case]) != before


@pytest.mark.parametrize(
    ("name", "copied", "edited"), [("a.nii", False, True), ("a.nii.gz", True, True), ("series", True, True)]
)
def test_large_files_are_told_without_reading_all_of_them(
    name: str, copied: bool, edited: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edit changes the checksum at the end of what is compressed; of others the time of change must do."""
    monkeypatch.setattr(content, "WHOLE", 10)
    monkeypatch.setattr(content, "TAIL", 8)
    voxels = bytes(1000)
    digests: list[str] = []
    for number, time in ((0, 1e9), (0, 1.1e9), (1, 1.2e9)):
        place = tmp_path / str(len(digests)) / name
        file = place / "1.dcm" if name == "series" else place
        file.parent.mkdir(parents=True)
        text = voxels[:-5] + bytes([number]) * 5 if name == "series" else bytes([number]) + voxels
        file.write_bytes(gzip.compress(text, mtime=0) if name.endswith("gz") else text)
        os.utime(file, (time, time))
        digests.append(content_of([Case("a", place)]))
    assert (digests[0] == digests[1], digests[1] != digests[2]) == (copied, edited)


def test_a_file_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    assert content_of([Case("a", tmp_path / "none")]) != content_of([Case("b", tmp_path / "none")])
