"""The setting that says which process computes: Slicer's Python, another Python on this computer, or another host."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegSlicer.translation import _

IDLE_SECONDS = 600
"""A worker that has had nothing to do for so long ends, and frees the GPU."""

REMOTE_COMMAND = "noisylabelseg"
_CONNECT_SECONDS = 15

_PYTHONS = ("bin/python", "bin/python3", "python.exe", "Scripts/python.exe")


@dataclass(frozen=True)
class Slicer:
    """What the process needs to know of the application.

    Attributes:
        home: the application's folder.
        python: its Python.
        library: the folder that holds the package ``NoisyLabelSegLib``.
        environment: the application's own.
        startup_environment: the one that it was started in (``slicer.util.startupEnvironment()``).
    """

    home: Path
    python: Path
    library: Path
    environment: Mapping[str, str]
    startup_environment: Mapping[str, str]


@dataclass(frozen=True)
class WorkerSetting:
    """Where the worker runs; kept in the application's settings as `text`.

    Attributes:
        kind: "slicer" is Slicer's own Python, "python" another one, "ssh" another computer.
        where: the path of the other Python, or of its environment's folder; or the host, as ``ssh`` takes it.
        remote: the name or path of the command ``noisylabelseg`` on the host.

    Raises:
        InputError: the host or the command could be anything else than that.
    """

    kind: Literal["slicer", "python", "ssh"] = "slicer"
    where: str = ""
    remote: str = REMOTE_COMMAND

    def __post_init__(self) -> None:
        if self.kind == "python" and not self.where.strip():
            raise InputError(_("Give the path of the Python that is to compute."))
        if self.kind == "ssh":
            _check_remote(self.where, self.remote)

    @classmethod
    def of(cls, text: str) -> WorkerSetting:
        """The setting in what `text` gave; an empty text is Slicer's Python."""
        kind, _colon, rest = text.partition(":")
        if not text or text == "slicer":
            return cls()
        if kind == "python":
            return cls("python", rest)
        if kind == "ssh":
            host, _space, remote = rest.partition(" ")
            return cls("ssh", host, remote or REMOTE_COMMAND)
        raise InputError(_("The setting of the worker is not understood: choose it again."))

    @property
    def text(self) -> str:
        """One plain line, such as ``slicer``, ``python:/opt/env/bin/python`` or ``ssh:user@host noisylabelseg``."""
        return {
            "slicer": "slicer",
            "python": f"python:{self.where}",
            "ssh": f"ssh:{self.where} {self.remote}",
        }[self.kind]

    def command(self, slicer: Slicer, idle: float = IDLE_SECONDS) -> tuple[list[str], dict[str, str]]:
        """The arguments that start the worker, and the whole environment to start it in.

        Raises:
            InputError: the other Python is not there.
        """
        arguments = ["worker", "--idle", f"{idle:g}"]
        if self.kind == "ssh":
            options = ["-T", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={_CONNECT_SECONDS}"]
            return ["ssh", *options, self.where, self.remote, *arguments], _without_slicer(slicer)
        if self.kind == "python":
            python, environment = _python_at(self.where), _without_slicer(slicer)
        else:
            python, environment = slicer.python, dict(slicer.environment)
        folders = [str(slicer.library), *filter(None, [environment.get("PYTHONPATH", "")])]
        environment["PYTHONPATH"] = os.pathsep.join(folders)
        environment["PYTHONSAFEPATH"] = "1"  # else what lies in the current folder would come first
        return [str(python), "-m", "NoisyLabelSegLib", *arguments], environment


def _check_remote(host: str, command: str) -> None:
    if not re.fullmatch(r"[\w\[][\w.:@%\[\]-]*", host):
        raise InputError(
            _("'{host}' is not a host that ssh could be given: write it as host or user@host.").format(host=host)
        )
    # The other side's shell reads this.
    if not re.fullmatch(r"[A-Za-z0-9_./~][A-Za-z0-9_./~+-]*", command):
        raise InputError(
            _("'{command}' cannot be the command on the host: give a name or path without spaces.").format(
                command=command
            )
        )


def _python_at(where: str) -> Path:
    given = Path(where.strip()).expanduser()
    candidates = [given / name for name in _PYTHONS] if given.is_dir() else [given]
    found = next((path for path in candidates if path.is_file() and os.access(path, os.X_OK)), None)
    if found is None:
        raise InputError(
            _("There is no Python at {path}: give the program itself or the folder of its environment.").format(
                path=given
            )
        )
    return found.absolute()  # not resolved: a virtual environment's Python is a link that knows where it lies


def _without_slicer(slicer: Slicer) -> dict[str, str]:
    """The environment of before the application, for programs that must not load its libraries.

    Whatever still points into the application's folder goes, since it may have been started without its launcher.
    """
    environment = {}
    for key, value in slicer.startup_environment.items():
        parts = value.split(os.pathsep)
        kept = [part for part in parts if not (part and Path(part).is_relative_to(slicer.home))]
        if kept:
            environment[key] = os.pathsep.join(kept)
    return environment
