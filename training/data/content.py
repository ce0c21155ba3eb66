"""What a data set holds, as characters that tell it from others: a run that learnt from other files is another run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from training.data.cases import Case

WHOLE = 1 << 24
BLOCKS, BLOCK = 64, 1 << 16


def content_of(cases: Iterable[Case]) -> str:
    """Eight characters of all that is said of cases, and of their files' names and contents.

    Where a data set lies and since when does not matter, nor what no case says: so further keys of a case change
    nothing. Of files of more than `WHOLE` bytes, blocks at equal distances are looked at, the first and the last among
    them: where gzip keeps a checksum of everything.
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


def _stamp(file: Path) -> tuple[str, int, str]:
    if not file.is_file():  # it is missed by who reads it
        return file.name, 0, ""
    found = file.stat()
    return file.name, found.st_size, _digest(file, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=1 << 16)
def _digest(file: Path, size: int, changed: int) -> str:
    """Of a file's content; ``changed`` makes what is remembered of it that of this moment."""
    found = hashlib.sha256()
    with file.open("rb") as content:
        if size <= WHOLE:
            found.update(content.read())
        else:
            for number in range(BLOCKS):
                content.seek((size - BLOCK) * number // (BLOCKS - 1))
                found.update(content.read(BLOCK))
    return found.hexdigest()[:16]
