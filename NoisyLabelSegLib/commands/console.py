"""The terminal: results on stdout, everything else on stderr."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from NoisyLabelSegLib.progress import Step

WIDTH_OF_FILES = 160


def console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal, or wide enough for tables when it goes to a file."""
    stream = sys.stderr if stderr else sys.stdout
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")  # a file's name must not end the program
    return Console(file=stream, width=None if stream.isatty() else WIDTH_OF_FILES, highlight=False)


def plain(text: object) -> Text:
    """Text from files and models as it is: neither rich's markup nor the terminal's control codes work in it."""
    return Text("".join(sign if sign.isprintable() or sign == "\n" else " " for sign in str(text)))


def tell(kind: str, sentence: object, style: str = "yellow") -> None:
    """Write ``kind: sentence`` as one line to stderr."""
    line = Text.assemble((f"{kind}: ", style), plain(str(sentence).replace("\n", " ")))
    console(stderr=True).print(line, soft_wrap=True)


@contextmanager
def progress_bar() -> Iterator[Callable[[Step], None]]:
    """A bar on stderr, if that is a terminal, that leaves nothing behind; gives what is to be called."""
    out = console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda step: bar.update(task, description=str(plain(step.text)), completed=step.done)
