"""Which steps bring what Slicer's own Python lacks, each in a sentence that the person agrees to before it happens."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Literal

from packaging.tags import sys_tags
from packaging.utils import canonicalize_name

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.requirements import missing, name_of
from NoisyLabelSegSlicer.translation import _
from NoisyLabelSegSlicer.wheels import lacking, wheels_in

PROTECTED = ("numpy", "scipy", "SimpleITK", "torch", "torchvision", "torchaudio")
"""What the application and other extensions run on: one that is there is never exchanged."""


@dataclass(frozen=True)
class Facts:
    """What there is.

    Attributes:
        installed: the version of every package in Slicer's Python, by name.
        torch_extension: whether the PyTorch extension's module ``PyTorchUtils`` is there.
        long_paths: whether files may have paths of more than 260 characters, see `installation.long_paths`.
    """

    installed: Mapping[str, str]
    torch_extension: bool
    long_paths: bool = True

    def missing(self) -> list[str]:
        """What the worker needs and Slicer's Python lacks, such as "torch>=2.5"."""
        return missing(self.version_of)

    def version_of(self, name: str) -> str:
        """A package's version; PackageNotFoundError when it is not installed."""
        versions = {canonicalize_name(other): version for other, version in self.installed.items()}
        if canonicalize_name(name) not in versions:
            raise PackageNotFoundError(name)
        return versions[canonicalize_name(name)]


@dataclass(frozen=True)
class Step:
    """One step of the set-up.

    Attributes:
        sentence: what happens.
        arguments: for pip what follows ``install``; for torch the specifier of its version.
    """

    kind: Literal["extension", "torch", "pip"]
    sentence: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The steps in their order, none when nothing is missing; and what the person should know beside them."""

    steps: tuple[Step, ...]
    remarks: tuple[str, ...] = ()


def make_plan(facts: Facts, wheels: Path | None = None) -> Plan:
    """Plan the set-up.

    Args:
        facts: what there is.
        wheels: a folder of wheels to install everything from, without a network; None takes the network.

    Raises:
        InputError: something that must not be exchanged is too old, or the folder lacks wheels.
    """
    wanted = facts.missing()
    _refuse_to_exchange(wanted, facts)
    torch = [requirement for requirement in wanted if name_of(requirement) == "torch"]
    others = [requirement for requirement in wanted if requirement not in torch]
    remarks = []
    if torch and not facts.long_paths:
        # From that version on its wheel holds files whose paths get too long inside of Slicer's folder.
        torch = [f"{requirement},<2.13" for requirement in torch]
        remarks.append(
            _(
                "Paths are limited to 260 characters on this computer, too few for PyTorch 2.13 and newer: an older "
                "one is installed. To have the newest, let an administrator turn on Windows' long paths first."
            )
        )
    if not wanted:
        steps = []
    elif wheels is not None:
        steps = [_from_folder(wheels, [*torch, *others], facts)]
    else:
        steps = list(_from_network(torch, others, facts))
    return Plan(tuple(steps), tuple(remarks))


def _from_network(torch: Sequence[str], others: Sequence[str], facts: Facts) -> Iterator[Step]:
    if torch and not facts.torch_extension:
        yield Step("extension", _("The extension “PyTorch” is installed. Slicer restarts, then the set-up goes on."))
    if torch:
        yield Step(
            "torch",
            _(
                "The extension “PyTorch” downloads and installs PyTorch in the build that suits this computer's "
                "graphics card: 0.2 to 3 GB, which takes some minutes."
            ),
            (torch[0].removeprefix("torch"),),
        )
    if others:
        sentence = _("{packages} are downloaded from the Python Package Index and installed by pip. {kept}")
        yield Step("pip", sentence.format(packages=_names(others), kept=_kept()), tuple(others))


def _from_folder(folder: Path, wanted: Sequence[str], facts: Facts) -> Step:
    found = lacking(wheels_in(folder), wanted, facts.installed, frozenset(sys_tags()))
    if found:
        described = [
            f"{requirement} ({_('only for others')}: {', '.join(unfit)})" if unfit else requirement
            for requirement, unfit in found.items()
        ]
        raise InputError(
            _("{folder} lacks wheels for Python {version} on {platform}: {packages}. Add them and try again.").format(
                folder=folder,
                version=sysconfig.get_python_version(),
                platform=sysconfig.get_platform(),
                packages="; ".join(described),
            )
        )
    sentence = _("{packages} are installed by pip from {folder}, without any network. {kept}")
    return Step(
        "pip",
        sentence.format(packages=_names(wanted), folder=folder, kept=_kept()),
        ("--no-index", "--find-links", str(folder), *wanted),
    )


def _refuse_to_exchange(wanted: Sequence[str], facts: Facts) -> None:
    for requirement in wanted:
        name = name_of(requirement)
        try:
            version = facts.version_of(name)
        except PackageNotFoundError:
            continue
        if name == "torch":
            raise InputError(
                _(
                    "PyTorch {version} is installed, but {requirement} is needed: update it in the module PyTorch "
                    "Utils, or let another Python compute."
                ).format(version=version, requirement=requirement)
            )
        if name in PROTECTED:
            raise InputError(
                _(
                    "{name} {version} is a part of this 3D Slicer, but {requirement} is needed: use 3D Slicer 5.10 or "
                    "newer, or let another Python compute."
                ).format(name=name, version=version, requirement=requirement)
            )


def _names(requirements: Sequence[str]) -> str:
    return ", ".join(name_of(requirement) for requirement in requirements)


def _kept() -> str:
    return _("NumPy, SciPy, SimpleITK and PyTorch, where they are there, stay as they are.")
