"""Pictures as SVG files that only change where what they show does."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from training.texts import write_text


@contextmanager
def svg_figure(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure of so many inches to draw on; afterwards the file is written or replaced as a whole."""
    # Elements get the same names every time; text stays text.
    with rc_context({"svg.hashsalt": "picture", "svg.fonttype": "none"}):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        content = io.StringIO()
        figure.savefig(content, format="svg", metadata={"Date": None})
    write_text(path, content.getvalue())
