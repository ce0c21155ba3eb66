"""A training run's folder: its name and what was trained in it."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jsonargparse import ArgumentError

from NoisyLabelSegLib.errors import InputError
from training.experiment import Experiment, differences, parse_experiment
from training.origins import Origins, require_unchanged
from training.texts import write_text

LONGEST = 80


def run_name(experiment: Path, *, small: bool, overrides: Sequence[str] = ()) -> str:
    """What a run is called but for its seed: experiment, setting and overrides, in an order of their own."""
    return "-".join([experiment.stem, "small" if small else "full", *([_changes(overrides)] if overrides else [])])


def _changes(overrides: Sequence[str]) -> str:
    last = {key: value for key, _, value in (text.partition("=") for text in overrides)}
    text = "-".join(f"{key}={value}" for key, value in sorted(last.items()))
    plain = re.sub(r"[^\w.=+-]+", "_", text)[:LONGEST]
    # What is cut or replaced still tells runs apart.
    return plain if plain == text else f"{plain}-{zlib.crc32(text.encode()):08x}"


def write_settings(
    folder: Path, experiment: Experiment, seed: int, limit: int, origins: Origins, *, write: bool = True
) -> None:
    """Keep the settings beside the checkpoints; going on with other settings, or made of other things, is an error.

    Args:
        folder: the run's folder.
        experiment, seed, limit: what is trained.
        origins: what it is made of.
        write: False only checks: one of several processes writes.
    """
    file = folder / "experiment.json"
    if file.is_file():
        _require_same(folder, read_settings(folder), experiment, {"seed": seed, "limit": limit}, origins)
    elif write:
        values = {"seed": seed, "limit": limit, "origins": origins, **experiment.values}
        folder.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(values, indent=1, default=str))


def holds(folder: Path, experiment: Experiment) -> bool:
    """Whether this very experiment has been begun in a folder, as a whole."""
    if not (folder / "experiment.json").is_file():
        return False
    trained = read_settings(folder)
    return not trained.values.get("limit") and not differences(trained, experiment)


def settings_of(folder: Path, experiment: Experiment, origins: Origins) -> Experiment:
    """What was trained in a folder, to be used instead of ``experiment``, which must be the same, made of the same.

    Raises:
        InputError: also when it was but a quick look at some cases.
    """
    trained = read_settings(folder)
    _require_same(folder, trained, experiment, {"limit": 0}, origins)
    return trained


def settings_of_trained(folder: Path) -> Experiment:
    """What was trained in a folder to its end, as another run needs it to build on.

    Raises:
        InputError: it was not trained, not to its end, or but for a quick look.
    """
    from training.engine import finished  # recipes, which build on runs, lie below the engine

    if not (folder / "best.ckpt").is_file():
        raise InputError(f"There is no '{folder / 'best.ckpt'}': train that run, with this seed, first.")
    trained = read_settings(folder)
    if trained.values.get("limit"):
        raise InputError(f"The run in '{folder}' has seen {trained.values['limit']} cases a part only: train it anew.")
    if not finished(folder, trained.engine):
        raise InputError(f"The run in '{folder}' has not been trained to its end: go on with it first.")
    return trained


def read_settings(folder: Path) -> Experiment:
    """Read what `write_settings` wrote; its `values` hold seed, limit and origins as well."""
    file = folder / "experiment.json"
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        plain = {key: value for key, value in values.items() if key not in ("seed", "limit", "origins")}
        return replace(parse_experiment(plain), values=values)
    except OSError as error:
        raise InputError(f"There is no '{file}': train this experiment first.") from error
    except (ArgumentError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"The settings '{file}' cannot be used: {' '.join(str(error).split())}") from error


def _require_same(
    folder: Path, trained: Experiment, wanted: Experiment, numbers: dict[str, int], origins: Origins
) -> None:
    keys = differences(trained, wanted)
    keys += [key for key, value in numbers.items() if trained.values.get(key, 0) != value]
    if keys:
        raise InputError(
            f"The run in '{folder}' was begun with other settings ({', '.join(keys)}): give it the same ones, use "
            "another --runs folder or delete it."
        )
    require_unchanged(folder, trained.values.get("origins"), origins)
