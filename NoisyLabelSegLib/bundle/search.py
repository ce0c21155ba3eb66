"""Where models are, and finding one by its name."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from NoisyLabelSegLib.bundle.folder import Bundle, load_bundle
from NoisyLabelSegLib.errors import InputError

VARIABLE = "NOISYLABELSEG_MODELS"


@dataclass(frozen=True)
class BrokenBundle:
    """A folder among the models that cannot be used, and the sentence that says why."""

    folder: Path
    reason: str


def user_folder() -> Path:
    """Give the folder of this person's own models, by the platform's convention; it may not exist yet."""
    if sys.platform == "win32":
        base = os.environ.get("APPDATA", "")
        fallback = Path.home() / "AppData" / "Roaming"
    elif sys.platform == "darwin":
        base, fallback = "", Path.home() / "Library" / "Application Support"
    else:
        base, fallback = os.environ.get("XDG_DATA_HOME", ""), Path.home() / ".local" / "share"
    # The XDG rules ask to ignore a relative path.
    return (Path(base) if Path(base).is_absolute() else fallback) / "noisylabelseg" / "models"


def _bundled_folder() -> Path:
    package = Path(str(resources.files("NoisyLabelSegLib")))
    checkout = package.parent / "Resources" / "Models"
    return checkout if checkout.is_dir() else package / "models"


def search_folders() -> list[Path]:
    """Give the folders that hold models, the first to look in first; they may not exist.

    These are the ones in the environment variable ``NOISYLABELSEG_MODELS``, the person's own, and the bundled ones.
    """
    given = [Path(part) for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
    return [*given, user_folder(), _bundled_folder()]


def list_bundles() -> list[Bundle | BrokenBundle]:
    """List every model found; of several with one name only the first. A broken one does not hide the others."""
    found: dict[str, Bundle | BrokenBundle] = {}
    for folder in search_folders():
        for candidate in _candidates(folder):
            try:
                bundle = load_bundle(candidate)
                found.setdefault(bundle.description.name, bundle)
            except (InputError, OSError) as error:
                found.setdefault(str(candidate), BrokenBundle(candidate, str(error)))
    return list(found.values())


def _candidates(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:
        return []


def find_bundle(name_or_path: str | Path) -> Bundle:
    """Find a model by its name, or load it from a path to its folder.

    Raises:
        InputError: when there is none (the message names the known ones) or when it cannot be used.
    """
    bundles = list_bundles() if isinstance(name_or_path, str) else []
    known = {bundle.description.name: bundle for bundle in bundles if isinstance(bundle, Bundle)}
    broken = {bundle.folder.name: bundle.reason for bundle in bundles if isinstance(bundle, BrokenBundle)}
    if name_or_path in known:
        return known[str(name_or_path)]
    if name_or_path in broken:
        raise InputError(broken[str(name_or_path)])
    if Path(name_or_path).is_dir():
        return load_bundle(name_or_path)
    names = ", ".join(sorted(known)) or "none yet"
    raise InputError(f"There is no model called '{name_or_path}', nor such a folder; known models: {names}.")
