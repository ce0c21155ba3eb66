"""What a data set holds, as characters that tell it from others: a run that learnt from other files is another run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from training.data.cases import Case


def content_of(cases: Iterable[Case]) -> str:
    """Eight characters of all that is said of cases, and of their files' names, sizes and times of change.

    Where a data set lies does not matter, nor what no case says: so further keys of a case change nothing.
    """
    return hashlib.sha256(repr([_said(case) for case in cases]).encode()).hexdigest()[:8]


def _said(value: Any) -> Any:
    if isinstance(value, Path):
        return [_stamp(file) for file in (sorted(value.iterdir()) if value.is_dir() else [value])]
    if isinstance(value, tuple):
        return [_said(one) for one in value]
    if is_dataclass(value):
        return {field.name: _said(one) for field in fields(value) if (one := getattr(value, field.name))}
    return value


def _stamp(file: Path) -> tuple[str, int, int]:
    if not file.is_file():  # it is missed by who reads it
        return file.name, 0, 0
    found = file.stat()
    return file.name, found.st_size, int(found.st_mtime)
