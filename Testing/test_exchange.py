"""Several files at once: after any failure the folder is as it was."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tiny_models import contents

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.exchange import write_together

NAMES = ("a.txt", "b.txt", "c.txt")


@pytest.fixture
def jobs(tmp_path: Path) -> dict[Path, Callable[[Path], None]]:
    """What writes three files, of which two are there already, beside a stale one."""
    for name in ("a.txt", "c.txt", "stale.txt"):
        (tmp_path / name).write_text("old")
    return dict.fromkeys((tmp_path / name for name in NAMES), _new)


def _new(path: Path) -> None:
    path.write_text("new")


def test_new_files_replace_old_ones_and_the_stale_go(jobs: Any, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("old")
    write_together(jobs, [tmp_path / "stale.txt", tmp_path / "absent.txt"])
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == {**dict.fromkeys(NAMES, "new"), "other.txt": "old"}


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left"), InputError("No."), RuntimeError(), KeyboardInterrupt()]
)
def test_a_file_that_cannot_be_written_leaves_all_as_it_was(jobs: Any, tmp_path: Path, error: BaseException) -> None:
    def fail(_: Path) -> None:
        raise error

    before = contents(tmp_path)
    jobs[tmp_path / "c.txt"] = fail
    with pytest.raises(InputError if isinstance(error, OSError) else type(error)):
        write_together(jobs, [tmp_path / "stale.txt"])
    assert contents(tmp_path) == before


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", range(6))
@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), KeyboardInterrupt()])
def test_a_move_that_fails_leaves_all_as_it_was(
    jobs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, when: str, error: BaseException
) -> None:
    before = contents(tmp_path)
    monkeypatch.setattr(os, "replace", partial(_fail_at, [step], os.replace, when, error))
    with pytest.raises(InputError if isinstance(error, OSError) else KeyboardInterrupt):
        write_together(jobs, [tmp_path / "stale.txt"])
    assert contents(tmp_path) == before
    assert not list(tmp_path.glob(".*"))


def _fail_at(steps_left: list[int], replace: Callable[..., None], when: str, error: BaseException, *move: Path) -> None:
    steps_left[0] -= 1
    if steps_left[0] != -1:
        return replace(*move)
    if when == "after":
        replace(*move)
    raise error


def test_an_old_file_that_cannot_be_put_back_is_kept(
    jobs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def break_for_good(source: Path, target: Path) -> None:
        if source.name != "a.txt" or target.name != ".old":
            raise PermissionError(13, "Permission denied")
        replace(source, target)

    monkeypatch.setattr(os, "replace", break_for_good)
    with pytest.raises(InputError, match="cannot be replaced"):
        write_together(jobs)
    assert [path.read_text() for path in tmp_path.rglob(".old")] == ["old"]


def test_the_sentence_names_the_file_that_was_asked_for(
    jobs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise InputError(f"{path} is too large.")

    jobs[tmp_path / "b.txt"] = refuse
    with pytest.raises(InputError) as caught:
        write_together(jobs)
    assert str(caught.value) == f"{tmp_path / 'b.txt'} is too large."
    monkeypatch.setattr(tempfile, "mkdtemp", lambda **_: _raise(OSError(30, "Read-only file system")))
    with pytest.raises(InputError, match="a.txt cannot be written .Read-only file system"):
        write_together(jobs)


def _raise(error: Exception) -> None:
    raise error
