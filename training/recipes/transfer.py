"""Starting a network from other runs' weights: a whole network's, or a part's such as a pre-trained encoder's."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from NoisyLabelSegLib.errors import InputError


@dataclass(frozen=True)
class Start:
    """What a network takes over from another run before it is trained.

    Attributes:
        run: the other run's name without its seed, in the folder of runs; the one of the same seed is taken.
        parts: which of its modules become which of ours, such as ``{encoder: strong}``; empty takes the whole network.
        lenient: what does not fit keeps its random values and is listed, instead of being an error.
    """

    run: str
    parts: Mapping[str, str] = field(default_factory=dict)
    lenient: bool = False


def start_from(network: nn.Module, starts: Sequence[Start], runs: Path, seed: int) -> None:
    """Give ``network`` the weights of the best checkpoints of other runs, one after the other, and print what it took.

    A convolution that sees more channels than the other run keeps its answer at first: the weights of the new channels,
    behind the known ones, are zero.

    Raises:
        InputError: when a run has not been trained, nothing fits, or a tensor does not and need not be left out.
    """
    for start in starts:
        taken, left = _fitting(
            _renamed(_weights(start.run, runs, seed), start.parts), network.state_dict(), start.parts
        )
        if left and not (start.lenient and taken):
            name, why = next(iter(left.items()))
            raise InputError(
                f"The network cannot start from '{start.run}': {name} {why} ({len(left)} of {len(left) + len(taken)} "
                "tensors). Name the modules that fit by network.start.parts, or set network.start.lenient."
            )
        network.load_state_dict(taken, strict=False)
        rest = "".join(f"; {name} is left out: it {why}" for name, why in left.items())
        print(f"{len(taken)} tensors start from '{start.run}'{rest}.", file=sys.stderr)


def _weights(run: str, runs: Path, seed: int) -> dict[str, Tensor]:
    """Those that the run would export: nothing of what its recipe has in training only."""
    from training.recipes import RECIPES  # which know this module, as do runs
    from training.runs import settings_of_trained

    folder = runs / f"{run}-seed{seed}"
    recipe = settings_of_trained(folder).recipe
    weights: dict[str, Tensor] = torch.load(folder / "best.ckpt", map_location="cpu", weights_only=True)["network"]
    return RECIPES[recipe].deployed(weights)


def _renamed(weights: Mapping[str, Tensor], parts: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors of these parts by the names that they have here."""
    if not parts:
        return dict(weights)
    return {
        ours + name.removeprefix(theirs): tensor
        for theirs, ours in parts.items()
        for name, tensor in weights.items()
        if name.startswith(f"{theirs}.")
    }


def _fitting(
    given: Mapping[str, Tensor], own: Mapping[str, Tensor], parts: Mapping[str, str]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What can be taken over, and what cannot: why, by name."""
    wanted = [name for name in own if not parts or any(name.startswith(f"{part}.") for part in parts.values())]
    taken: dict[str, Tensor] = {}
    left = {name: "is not in that run" for name in wanted if name not in given}
    for name, tensor in given.items():
        if name not in own:
            left[name] = "is not in this network"
        elif (fitted := _fitted(tensor, own[name])) is None:
            left[name] = f"has the shape {list(tensor.shape)} there and {list(own[name].shape)} here"
        else:
            taken[name] = fitted
    return taken, left or ({} if taken else dict.fromkeys(parts, "is not in that run"))


def _fitted(source: Tensor, target: Tensor) -> Tensor | None:
    if source.shape == target.shape:
        return source
    wider = source.ndim > 1 and source.shape[:1] + source.shape[2:] == target.shape[:1] + target.shape[2:]
    if not wider or source.shape[1] > target.shape[1]:
        return None
    result = torch.zeros_like(target)
    result[:, : source.shape[1]] = source
    return result
