"""How well a pre-trained encoder tells how held-out slices were turned, and whether it can without anatomy.

The control asks the same of volumes every slice of which was turned at random before anything else was done to it.
How it was turned afterwards then follows from nothing that it shows; what is still right beyond one in four comes from
what was done to it in between: padding, interpolation, a border. That is a leak, which the encoder may have learnt.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from torch import Tensor

from NoisyLabelSegLib.errors import InputError
from training.checkpoints import Run
from training.data.cases import DataSet, Split
from training.evaluate import write_figures
from training.pretext.rotation import ANGLES, recalls_of
from training.recipes.pretrain import Pretrain
from training.texts import write_text

AGAIN = 1_000_003
"""Added to a run's seed: by the validation's own questions its best weights were chosen."""

LEAK = 0.35
"""A control above this tells of a leak; chance is 0.25."""


@dataclass(frozen=True)
class Proxy:
    """Confusion (4, 4), true classes being rows, on held-out volumes and on the control."""

    held_out: Tensor
    control: Tensor

    def figures(self) -> dict[str, Any]:
        """Each one's accuracy, balanced over the four classes, each class's, the confusion and what it is made of."""
        return {name: _figures(confusion) for name, confusion in vars(self).items()} | {"angles": list(ANGLES)}


def held_out_part(dataset: DataSet) -> Split:
    """The test part or, where there is none, the validation part."""
    return "test" if dataset.part("test") else "val"


def measure(run: Run, split: Split) -> Proxy:
    """Ask a run of pre-training of a part of its data set, and of the control, what it was not asked in validation.

    Raises:
        InputError: it was not pre-trained by rotations, or the part is empty.
    """
    if not run.parts.cases(split):
        raise InputError(f"'{run.parts.dataset.name}' has no case in its {split} part: ask of another by --split.")
    recipe = run.experiment.make(run.parts)
    if not isinstance(recipe, Pretrain) or "rotation" not in recipe.weights:
        raise InputError("Only what was pre-trained with settings.tasks.rotation can be asked how slices were turned.")
    state = torch.load(run.folder / "best.ckpt", map_location="cpu", weights_only=True)["network"]
    recipe.network.load_state_dict(state)
    counts = [
        recipe.tallies(recipe.held_out(split, again=AGAIN, turned=turned))["rotation"] for turned in (False, True)
    ]
    return Proxy(*counts)


def write(proxy: Proxy, target: Path, title: str) -> tuple[Path, Path]:
    """Write the figures as JSON and the two confusion matrices as a picture; returns both files."""
    figures, picture = (target.parent / f"{target.name}{ending}" for ending in (".json", ".svg"))
    write_figures(figures, proxy.figures())
    _draw(proxy, picture, title)
    return figures, picture


def _figures(confusion: Tensor) -> dict[str, Any]:
    recalls = recalls_of(confusion)
    return {
        "accuracy": _rounded(float(recalls.nanmean())),
        "recalls": [_rounded(one) for one in recalls.tolist()],
        "confusion": confusion.tolist(),
        "slices": int(confusion.sum()),
    }


def _rounded(value: float) -> float | None:
    """None is null in JSON, which knows no NaN: nothing was asked."""
    return None if math.isnan(value) else round(value, 4)


def _draw(proxy: Proxy, path: Path, title: str) -> None:
    # Elements get the same names every time, so that a picture only changes where a figure does.
    with rc_context({"svg.hashsalt": "proxy", "svg.fonttype": "none"}):
        figure = Figure(figsize=(9, 4.5), layout="constrained")
        figure.suptitle(title)
        named: Mapping[str, Tensor] = {
            "held-out volumes": proxy.held_out,
            "control: slices turned before": proxy.control,
        }
        for axes, (name, confusion) in zip(figure.subplots(1, 2), named.items(), strict=True):
            shares = (confusion / confusion.sum(dim=1, keepdim=True)).numpy()
            axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
            for row, column in ((row, column) for row in range(len(ANGLES)) for column in range(len(ANGLES))):
                share = shares[row, column]
                color = "white" if share > 0.6 else "black"
                axes.text(column, row, f"{share:.0%}", ha="center", va="center", color=color)
            accuracy = float(recalls_of(confusion).nanmean())
            axes.set(title=f"{name}\nbalanced accuracy {accuracy:.3f}", xlabel="found", ylabel="true")
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_ticks(range(len(ANGLES)), [f"{angle}°" for angle in ANGLES])
        content = io.StringIO()
        figure.savefig(content, format="svg", metadata={"Date": None})
    write_text(path, content.getvalue())
