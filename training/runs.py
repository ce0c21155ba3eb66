"""A training run's folder: its name and what was trained in it."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

from NoisyLabelSegLib.errors import InputError
from training.experiment import Experiment


def run_folder(options: Namespace) -> Path:
    """Where the run of these command-line options lives: experiment, setting and seed name it."""
    setting = "small" if options.small else "full"
    return options.runs / f"{options.experiment.stem}-{setting}-seed{options.seed}"


def write_settings(folder: Path, experiment: Experiment, seed: int, limit: int) -> None:
    """Keep the settings beside the checkpoints; going on with other settings is an error."""
    content = json.dumps({"seed": seed, "limit": limit, **experiment.values}, indent=1, default=str)
    file = folder / "experiment.json"
    if file.is_file() and file.read_text(encoding="utf-8") != content:
        raise InputError(
            f"The run in '{folder}' was begun with other settings; use another --runs folder or delete it."
        )
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(content, encoding="utf-8")
