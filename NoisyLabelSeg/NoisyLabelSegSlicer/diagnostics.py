"""A text for a bug report: what runs where, without who runs it and on whom."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LAST_LINES = 40

REPORTED = (
    *("torch", "torchvision", "monai", "safetensors", "numpy", "scipy", "SimpleITK", "rich", "light-the-torch"),
    *("packaging", "pip", "setuptools"),
)
"""The packages whose versions matter; others could tell what else a site works on."""


@dataclass(frozen=True)
class Facts:
    """What is known when somebody asks.

    Attributes:
        version: of NoisyLabelSeg.
        slicer: version and revision of 3D Slicer.
        system: the operating system, such as ``platform.platform()``.
        python: version of Slicer's Python.
        worker: kind of the worker's setting; never its path or host.
        state: of the worker, such as "ready".
        hello: what the worker said of itself when it started; None when it has not.
        device: the one really used last; empty when none was.
        packages: versions by name in Slicer's Python.
        models: as the worker lists them.
        error: the last sentence shown as an error.
        stderr: what the worker wrote there.
    """

    version: str
    slicer: str
    system: str
    python: str
    worker: str
    state: str
    hello: Mapping[str, Any] | None = None
    device: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)
    models: Sequence[Mapping[str, Any]] = ()
    error: str = ""
    stderr: Sequence[str] = ()


def report(facts: Facts, home: Path, user: str, private: Iterable[str] = ()) -> str:
    """Give the text.

    Args:
        facts: what is known.
        home: the person's folder; ``~`` stands for it.
        user: the person's name on this computer; ``~`` stands for it, too.
        private: what else must not be in it, above all the names of the scene's nodes and segments, which may be
            those of patients, and the worker's host; ``…`` stands for them.
    """
    hello = ", ".join(f"{key} {value}" for key, value in sorted((facts.hello or {}).items()) if value is not None)
    known = {name.casefold(): version for name, version in facts.packages.items()}
    packages = [f"{name} {known.get(name.casefold(), 'missing')}" for name in REPORTED]
    lines = [
        f"NoisyLabelSeg {facts.version}",
        f"3D Slicer {facts.slicer}",
        f"System {facts.system}",
        f"Python {facts.python}: {', '.join(packages)}",
        f"Worker: {facts.worker}, {facts.state}",
        f"Worker says: {hello or 'nothing'}",
        f"Device used last: {facts.device or 'none'}",
        "Models:",
        *(f"  {_model(model)}" for model in facts.models),
        f"Last error: {facts.error or 'none'}",
        "Last lines of the worker:",
        *(f"  {line}" for line in facts.stderr[-LAST_LINES:]),
    ]
    return _without("\n".join(lines), home, user, private) + "\n"


def _model(model: Mapping[str, Any]) -> str:
    if "description" not in model:
        return f"{Path(model['folder']).name}: {model['reason']}"
    said = model["description"]
    return f"{said['name']} {said['version']}, {said['kind']}, SHA-256 {said['weights']['sha256']}"


def _without(text: str, home: Path, user: str, private: Iterable[str]) -> str:
    """The text without what says who; longer texts first, since one may be a part of another."""
    replaced = {
        spelling: "~" for path in (str(home), home.as_posix()) for spelling in (path, path.replace("\\", "\\\\"))
    }
    replaced |= {user: "~"} | dict.fromkeys(private, "…")
    for secret in sorted(filter(str.strip, replaced), key=len, reverse=True):
        # As a word of its own, or else a user called "a" would riddle the text.
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", replaced[secret], text, flags=re.IGNORECASE)
    return text
