"""Text files that are whole or not there."""

from __future__ import annotations

from pathlib import Path

from NoisyLabelSegLib.images import write_atomically


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text all-or-nothing; an `InputError` when the folder is missing or cannot be written to."""

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    write_atomically(path, write)
