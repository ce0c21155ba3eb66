"""The set-up of Slicer's own Python, carried out step by step, over a restart if need be."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from importlib.metadata import distributions
from pathlib import Path
from typing import Protocol

from packaging.version import InvalidVersion, Version

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegSlicer.installation_plan import PROTECTED, Facts, Plan, make_plan
from NoisyLabelSegSlicer.translation import _


class Application(Protocol):
    """What the set-up asks of 3D Slicer, in the main thread; each blocks until it is done and raises on failure."""

    def has_torch_extension(self) -> bool:
        """Whether the module ``PyTorchUtils`` is there."""

    def install_torch_extension(self) -> None:
        """``slicer.app.extensionsManagerModel().installExtensionFromServer("PyTorch", False)``, not interactive."""

    def install_torch(self, specifier: str) -> None:
        """``PyTorchUtilsLogic().installTorch(torchVersionRequirement=specifier)``: it imports torch afterwards."""

    def pip(self, arguments: list[str]) -> None:
        """``slicer.util.pip_install(arguments)``, which 5.10 has as well as 5.12."""

    def remember_to_resume(self, on: bool) -> None:
        """Keep in the settings whether the set-up is to go on when the application has started again."""

    def is_to_resume(self) -> bool:
        """What was kept."""

    def restart(self) -> None:
        """``slicer.util.restart()``, which asks nobody: so first the person, who may want to save something."""


class Installation:
    """Plans and carries out; nothing happens before `carry_out`.

    pip resolves dependencies as usual, so that nothing is missing afterwards, but under constraints that name the
    exact versions of the packages in `PROTECTED`: rather than exchange one of them it fails, or takes an older version
    of what was asked for. Installing without dependencies would break at the first new one. The constraints reach pip
    through its environment variable, since the PyTorch extension calls pip on its own account.

    Args:
        application: see there.
        installed: gives the version of every package by name, as they are at that moment.
        long_paths: see `long_paths`.
        environment: that of the processes that the application starts.
    """

    def __init__(
        self,
        application: Application,
        installed: Callable[[], Mapping[str, str]],
        long_paths: bool,
        environment: MutableMapping[str, str] = os.environ,
    ) -> None:
        self._application, self._installed = application, installed
        self._long_paths, self._environment = long_paths, environment

    def missing(self) -> list[str]:
        """What the worker needs and Slicer's Python lacks, such as "torch>=2.5"."""
        return self._facts().missing()

    def plan(self, wheels: Path | None = None) -> Plan:
        """See `installation_plan.make_plan`."""
        return make_plan(self._facts(), wheels)

    def carry_out(self, plan: Plan) -> bool:
        """Take the steps; False when the application has to start again before the last one.

        Raises:
            InputError: after all steps something is still missing. What the application raises passes through.
        """
        for step in plan.steps:
            if step.kind == "extension":
                self._application.install_torch_extension()
                self._application.remember_to_resume(True)
                self._application.restart()
                return False
            with self._protected():
                if step.kind == "torch":
                    self._application.install_torch(*step.arguments)
                else:
                    self._application.pip(list(step.arguments))
        if left := self.missing():
            raise InputError(
                _("{packages} could not be installed: the application's Python console says why.").format(
                    packages=", ".join(left)
                )
            )
        return True

    def resumes(self) -> bool:
        """Whether the set-up was cut in two by a restart and is not finished; says so once."""
        wanted = self._application.is_to_resume()
        self._application.remember_to_resume(False)
        return wanted and bool(self.missing())

    def _facts(self) -> Facts:
        return Facts(self._installed(), self._application.has_torch_extension(), self._long_paths)

    @contextmanager
    def _protected(self) -> Iterator[None]:
        """Let no pip that is started meanwhile exchange what must stay."""
        variable = "PIP_CONSTRAINT"
        before = self._environment.get(variable)
        with tempfile.TemporaryDirectory(prefix="noisylabelseg-") as folder:
            file = Path(folder) / "constraints.txt"
            file.write_text("".join(f"{line}\n" for line in self._constraints()), encoding="utf-8")
            # pip parts the variable at spaces: as a URI the path has none.
            self._environment[variable] = " ".join(filter(None, [before, file.as_uri()]))
            try:
                yield
            finally:
                del self._environment[variable]
                if before is not None:
                    self._environment[variable] = before

    def _constraints(self) -> Iterator[str]:
        facts = self._facts()
        protected = {name.casefold() for name in PROTECTED}
        for name, version in facts.installed.items():
            if name.casefold() in protected and _is_valid(version):
                yield f"{name}=={version}"


def _is_valid(version: str) -> bool:
    try:
        Version(version)
    except InvalidVersion:
        return False
    return True


def installed_here() -> dict[str, str]:
    """The version of every package of this Python, by name."""
    importlib.invalidate_caches()  # another process may just have installed some
    return {name: found.version for found in distributions() if (name := found.metadata["Name"])}


def long_paths() -> bool:
    """Whether files may have paths of more than 260 characters, which Windows has to be told to allow."""
    if sys.platform != "win32":
        return True
    import winreg

    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"SYSTEM\CurrentControlSet\Control\FileSystem") as key:
            return bool(winreg.QueryValueEx(key, "LongPathsEnabled")[0])
    except OSError:
        return False
