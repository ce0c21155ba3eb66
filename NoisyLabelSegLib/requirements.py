"""What computing needs besides Python, and what of it is missing here; importable without any of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

REQUIREMENTS = (
    "monai>=1.4",
    "numpy>=1.26",
    "rich>=13",
    "safetensors>=0.4",
    "scipy>=1.11",
    "SimpleITK>=2.4",
    "torch>=2.5",
)
"""The dependencies of pyproject.toml, each a name and its lowest version: inside 3D Slicer that file is not there."""


def missing(version_of: Callable[[str], str] = version) -> list[str]:
    """Those of the requirements that are not installed, or too old.

    Args:
        version_of: gives a package's version, or raises PackageNotFoundError.
    """
    return [requirement for requirement in REQUIREMENTS if not _met(requirement, version_of)]


def name_of(requirement: str) -> str:
    """The package's name alone."""
    return requirement.partition(">=")[0]


def _met(requirement: str, version_of: Callable[[str], str]) -> bool:
    name, _, lowest = requirement.partition(">=")
    try:
        return _numbers(version_of(name)) >= _numbers(lowest)
    except PackageNotFoundError:
        return False


def _numbers(version: str) -> tuple[int, ...]:
    """The release's numbers, without what follows such as "rc1" or "+cu128"."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()
