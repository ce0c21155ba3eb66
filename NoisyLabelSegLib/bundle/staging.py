"""A folder that appears all at once or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from NoisyLabelSegLib.errors import InputError


@contextmanager
def staged(target: Path, overwrite: bool) -> Iterator[Path]:
    """Give a new folder beside ``target`` that takes its place when the block ends well, and vanishes otherwise.

    Raises:
        InputError: when ``target`` exists and must not be replaced, or cannot be written.
    """
    if target.exists() and not overwrite:
        raise InputError(f"'{target}' exists already: allow overwriting it, or remove it first.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # The leading dot hides what an interrupted run leaves behind from the list of models.
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise InputError(f"'{target}' cannot be written: {error}.") from error
    try:
        new = work / target.name
        new.mkdir()
        yield new
        _swap(new, target, work / ".old")
    except OSError as error:
        raise InputError(f"'{target}' cannot be written: {error}.") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _swap(new: Path, target: Path, old: Path) -> None:
    if target.exists():
        target.rename(old)
    try:
        new.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
