"""What a data set holds, as characters that tell it from others: a run that learnt from other files is another run."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from training.data.cases import Case

WHOLE, TAIL = 1 << 24, 1 << 16


def content_of(cases: Iterable[Case]) -> str:
    """Eight characters of all that is said of cases, and of their files' names, sizes and contents.

    Where a data set lies and since when does not matter, nor what no case says: so further keys of a case change
    nothing. Of a ``.gz`` file its end is read, where a checksum of everything is, and of a series' slices theirs. Other
    files are read whole, or if they have more than `WHOLE` bytes are told by their end and by their time of change.
    """
    return hashlib.sha256(repr([_said(case) for case in cases]).encode()).hexdigest()[:8]


def _said(value: Any) -> Any:
    if isinstance(value, Path):
        return [_stamp(file, value.is_dir()) for file in (sorted(value.iterdir()) if value.is_dir() else [value])]
    if isinstance(value, tuple):
        return [_said(one) for one in value]
    if is_dataclass(value):
        return {field.name: _said(one) for field in fields(value) if (one := getattr(value, field.name))}
    return value


def _stamp(file: Path, of_series: bool) -> tuple[str, int, str, int]:
    if not file.is_file():  # it is missed by who reads it
        return file.name, 0, "", 0
    found, by_end = file.stat(), of_series or file.suffix == ".gz"
    large = found.st_size > WHOLE and not by_end
    digest = _digest(file, TAIL if by_end or large else WHOLE, found.st_mtime_ns)
    return file.name, found.st_size, digest, int(found.st_mtime) if large else 0


@cache
def _digest(file: Path, most: int, changed: int) -> str:
    """Of a file's last bytes; what is remembered is of the time it was ``changed`` at."""
    with file.open("rb") as content:
        content.seek(max(content.seek(0, os.SEEK_END) - most, 0))
        return hashlib.sha256(content.read()).hexdigest()[:16]
