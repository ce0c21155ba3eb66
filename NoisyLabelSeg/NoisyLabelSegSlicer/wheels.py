"""A folder of wheels, for computers without a network: whether it holds all that is needed."""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from email.parser import BytesParser
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version


@dataclass(frozen=True)
class Wheel:
    """One file of the folder, by what its name says."""

    path: Path
    name: str
    version: Version
    tags: frozenset[Tag]

    def requires(self) -> list[Requirement]:
        """What it needs in turn; nothing when the file is damaged, of which pip tells more."""
        try:
            with zipfile.ZipFile(self.path) as archive:
                inner = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
                metadata = BytesParser().parsebytes(archive.read(inner), headersonly=True)
            return [Requirement(text) for text in metadata.get_all("Requires-Dist", ())]
        except (OSError, StopIteration, zipfile.BadZipFile, InvalidRequirement):
            return []


def wheels_in(folder: Path) -> list[Wheel]:
    """The wheels of a folder; other files are left out."""
    wheels = []
    for path in sorted(folder.glob("*.whl")):
        try:
            name, version, _build, tags = parse_wheel_filename(path.name)
        except InvalidWheelFilename:
            continue
        wheels.append(Wheel(path, name, version, tags))
    return wheels


def lacking(
    wheels: Sequence[Wheel], requirements: Iterable[str], installed: Mapping[str, str], tags: Collection[Tag]
) -> dict[str, list[str]]:
    """What can be installed neither from the wheels nor is there already, also of what the wheels need in turn.

    Args:
        wheels: see `wheels_in`.
        requirements: what is to be installed.
        installed: versions by package name; these packages stay as they are where they suffice.
        tags: of the wheels that this Python can use (`packaging.tags.sys_tags`).

    Returns:
        The requirements, each with the names of the wheels of that package that do not fit.
    """
    versions = {canonicalize_name(name): version for name, version in installed.items()}
    todo, seen = [Requirement(text) for text in requirements], set()
    found: dict[str, list[str]] = {}
    while todo:
        need = todo.pop(0)
        name = canonicalize_name(need.name)
        if name in seen or (name in versions and need.specifier.contains(versions[name], prereleases=True)):
            continue
        seen.add(name)
        named = [wheel for wheel in wheels if wheel.name == name]
        fitting = [
            w for w in named if need.specifier.contains(w.version, prereleases=True) and not w.tags.isdisjoint(tags)
        ]
        if fitting:
            todo += _applying(max(fitting, key=lambda wheel: wheel.version).requires(), need.extras)
        else:
            found[f"{need.name}{need.specifier}"] = [wheel.path.name for wheel in named]
    return found


def _applying(requirements: Iterable[Requirement], extras: Collection[str]) -> list[Requirement]:
    """Those whose conditions hold here."""
    names = ("", *extras)
    return [r for r in requirements if r.marker is None or any(r.marker.evaluate({"extra": name}) for name in names)]
