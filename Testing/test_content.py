"""What tells a data set from another: its cases and what their files hold, not where they lie or since when."""

from __future__ import annotations

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
@pytest.mark.parametrize("whole", [content.WHOLE, 4])
def test_what_is_changed_is_another(case: Case, name: str, whole: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the same size and time; a large file by its last byte."""
    monkeypatch.setattr(content, "WHOLE", whole)
    monkeypatch.setattr(content, "BLOCK", 2)
    content._digest.cache_clear()
    before, file = content_of([case]), case.image.parent / name
    if file.exists():
        stat, kept = file.stat(), file.read_bytes()
        file.write_bytes(kept[:-1] + b"?")
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    else:
        file.touch()
    assert content_of([case]) != before


def test_blocks_reach_from_the_first_byte_to_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "WHOLE", 10)
    monkeypatch.setattr(content, "BLOCK", 4)
    monkeypatch.setattr(content, "BLOCKS", 5)
    digests = set()
    for place in (None, *range(20)):  # five blocks of four are all of it
        content._digest.cache_clear()
        text = bytearray(20)
        if place is not None:
            text[place] = 1
        (tmp_path / "a").write_bytes(text)
        digests.add(content_of([Case("a", tmp_path / "a")]))
    assert len(digests) == 21


def test_a_file_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    assert content_of([Case("a", tmp_path / "none")]) != content_of([Case("b", tmp_path / "none")])
