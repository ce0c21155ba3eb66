"""What a run is made of beside its settings: what its data set holds, and the weights of other runs that it builds on.

It is kept with the settings when a run begins. What has changed since makes the run another one: it is refused then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from NoisyLabelSegLib.errors import InputError
from training.data.content import content_of
from training.experiment import Experiment

Origins = Mapping[str, str]
"""What a run is made of, as a sentence names it, and characters that tell it from what it may become."""


def origins_of(experiment: Experiment, data: Path, runs: Path, seed: int) -> Origins:
    """What an experiment would be made of now, as far as it is there."""
    weights = {name: runs / f"{name}-seed{seed}" / "best.ckpt" for name in experiment.builds_on}
    return {
        f"The content of the data set '{experiment.data}'": content_of(experiment.dataset(data).cases),
        **{f"The run '{name}'": weights_mark(file.read_bytes()) for name, file in weights.items() if file.is_file()},
    }


def weights_mark(checkpoint: bytes) -> str:
    """Eight characters that tell a checkpoint from others."""
    return hashlib.sha256(checkpoint).hexdigest()[:8]


def require_unchanged(folder: Path, kept: Any, now: Origins) -> None:
    """Raise InputError when what a run was made of is something else now; older runs say nothing of it."""
    changed = [what for what, mark in (kept or {}).items() if now.get(what, mark) != mark]
    if changed:
        raise InputError(
            f"{changed[0]} has changed since the run in '{folder}' was begun: delete that run to train it anew, or use "
            "another --runs folder."
        )
