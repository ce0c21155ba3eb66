"""Several files that are written, replaced and removed together, or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from NoisyLabelSegLib.errors import InputError

Write = Callable[[Path], None]
Move = tuple[Path, Path]


def write_together(jobs: Mapping[Path, Write], stale: Iterable[Path] = ()) -> None:
    """Write each file into a hidden folder beside its place; once all are whole, exchange them for the old ones.

    Args:
        jobs: what writes each file.
        stale: files to remove, if they are there, as soon as the new ones are in place.

    Raises:
        InputError: a file cannot be written, replaced or removed; then, as after any other exception, all old files
            are where they were and no new one is left.
    """
    with ExitStack() as cleanup:
        paths = [*jobs, *(path for path in stale if os.path.lexists(path))]
        hidden = {path: _hidden_folder(path, cleanup) for path in paths}
        for target, write in jobs.items():
            _write(write, hidden[target] / target.name, target)
        aside = [(path, folder / ".old") for path, folder in hidden.items() if os.path.lexists(path)]
        moves = aside + [(hidden[target] / target.name, target) for target in jobs]
        try:
            for move in moves:
                os.replace(*move)
        except BaseException as error:
            if not _undo(moves):
                cleanup.pop_all()  # an old file that cannot be put back is better in a hidden folder than nowhere
            if not isinstance(error, OSError):
                raise
            path = move[0] if move in aside else move[1]
            raise InputError(f"{path} cannot be replaced ({error.strerror or error}): is it open elsewhere?") from error


def _hidden_folder(path: Path, cleanup: ExitStack) -> Path:
    try:
        folder = Path(tempfile.mkdtemp(prefix=".noisylabelseg-", dir=path.parent))
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror or error}).") from error
    cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _write(write: Write, temporary: Path, target: Path) -> None:
    try:
        write(temporary)
    except OSError as error:
        raise InputError(f"{target} cannot be written ({error.strerror or error}).") from error
    except InputError as error:
        raise InputError(str(error).replace(str(temporary), str(target))) from error


def _undo(moves: Sequence[Move]) -> bool:
    """Take back what has been moved, the last first; whether that succeeded.

    It goes by what is there, so that no interruption between two steps can deceive it.
    """
    whole = True
    for source, target in reversed(moves):
        if os.path.lexists(target) and not os.path.lexists(source):
            try:
                os.replace(target, source)
            except OSError:
                whole = False
    return whole
