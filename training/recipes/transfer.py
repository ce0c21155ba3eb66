"""Starting a network from other runs' weights: a whole network's, a part's, or an encoder's that was pre-trained.

A run of pre-training holds an encoder alone. It is taken whole by networks of the same name; what that network has
beside its encoder keeps its random values, and so does a module (of the network itself) of which the run has nothing.

Tensors of the same shapes may still be of other networks, with other poolings or norms for instance: names of networks
(but where parts are named) and the arguments that both have are compared as well.
"""

from __future__ import annotations

import inspect
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from NoisyLabelSegLib.bundle import Network
from NoisyLabelSegLib.bundle.weights import expected_layout
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.networks import REGISTRY

T = TypeVar("T")


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


def start_from(network: nn.Module, starts: Sequence[Start], runs: Path, seed: int, described: Network) -> None:
    """Give ``network`` the weights of the best checkpoints of other runs, one after the other, and print what it took.

    A convolution that sees more channels than the other run keeps its answer at first: the weights of the new channels,
    behind the known ones, are zero.

    Args:
        network: it is changed.
        starts: what it starts from.
        runs, seed: the folder of runs, and which of them are taken.
        described: the network's name and arguments.

    Raises:
        InputError: when a run has not been trained, nothing fits, or a tensor does not and need not be left out.
    """
    for start in starts:
        weights, others, theirs = _read(start.run, runs, seed)
        given, own = _renamed(weights, start.parts), network.state_dict()
        wanted = _wanted(own, start.parts)
        if others is not None:
            wanted -= _beside(given, wanted, _renamed(others, start.parts))
        taken, left = _fitting(given, own, wanted, start.parts)
        if left and not (start.lenient and taken):
            name, why = next(iter(left.items()))
            raise InputError(
                f"The network cannot start from '{start.run}': {name} {why} ({len(left)} of {len(left) + len(taken)} "
                "tensors). Name the modules that fit by network.start.parts, or set network.start.lenient."
            )
        if (unlike := _unlike(described, theirs, start.parts)) and not start.lenient:
            raise InputError(
                f"The network cannot start from '{start.run}', where {unlike}: make both alike, or set "
                "network.start.lenient."
            )
        network.load_state_dict(taken, strict=False)
        rest = "".join(f"; {name} is left out: it {why}" for name, why in left.items())
        print(f"{len(taken)} tensors start from '{start.run}'{rest}{_untouched(own, given)}.", file=sys.stderr)


def _unlike(ours: Network, theirs: Network, parts: Mapping[str, str]) -> str:
    """In what the other run's network differs though its tensors fit, "" where in nothing that is known of."""
    if ours.name != theirs.name and not parts:
        return f"network.name is {theirs.name} and here {ours.name}"
    here, there = (_arguments(one) for one in (ours, theirs))
    keys = [key for key in here if key in there and here[key] != there[key]]
    return "".join(f"network.arguments.{key} is {there[key]} and here {here[key]}" for key in keys[:1])


def _arguments(network: Network) -> dict[str, Any]:
    """With the defaults of those that are not given; channels are the tensors' affair, dropout is no part of it."""
    known = inspect.signature(REGISTRY[network.name]).parameters
    every = {name: network.arguments.get(name, one.default) for name, one in known.items()}
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in every.items()}
    return {name: value for name, value in plain.items() if name not in ("in_channels", "out_channels", "dropout")}


def _read(run: str, runs: Path, seed: int) -> tuple[dict[str, Tensor], dict[str, None] | None, Network]:
    """The weights that the run would export, nothing of what its recipe has in training only.

    And, of an encoder alone, the names of what its network has beside it; and the network.
    """
    from training.recipes import RECIPES  # which know this module, as do runs
    from training.runs import settings_of_trained

    folder = runs / f"{run}-seed{seed}"
    trained = settings_of_trained(folder)
    recipe = RECIPES[trained.recipe]
    state: dict[str, Tensor] = torch.load(folder / "best.ckpt", map_location="cpu", weights_only=True)["network"]
    weights = recipe.deployed(state)
    arguments = {"spatial_dims": trained.preprocessing.dimensions, "in_channels": 1, "out_channels": 2}
    network = Network(trained.network.name, {**arguments, **(trained.network.arguments or {})})
    if recipe.segments:
        return weights, None, network
    return weights, dict.fromkeys(expected_layout(network).keys() - weights.keys()), network


def _renamed(weights: Mapping[str, T], parts: Mapping[str, str]) -> dict[str, T]:
    """The tensors of these parts by the names that they have here."""
    if not parts:
        return dict(weights)
    return {
        ours + name.removeprefix(theirs): tensor
        for theirs, ours in parts.items()
        for name, tensor in weights.items()
        if name.startswith(f"{theirs}.")
    }


def _wanted(own: Collection[str], parts: Mapping[str, str]) -> set[str]:
    """The names of what the other run is to give."""
    return {name for name in own if not parts or any(name.startswith(f"{part}.") for part in parts.values())}


def _beside(given: Collection[str], wanted: Collection[str], others: Collection[str]) -> set[str]:
    """Of what is wanted, what an encoder need not have: see the module's text."""
    known = {_module(name) for name in given}
    return {name for name in wanted if name in others or _module(name) not in known} - set(given)


def _module(name: str) -> str:
    return name.partition(".")[0]


def _untouched(own: Collection[str], given: Collection[str]) -> str:
    """How many tensors of which modules the run has nothing for."""
    counts = Counter(_module(name) for name in own if name not in given)
    told = ", ".join(f"{count} of {module}" for module, count in counts.items())
    return f"; {told} are not of that run" if told else ""


def _fitting(
    given: Mapping[str, Tensor], own: Mapping[str, Tensor], wanted: Collection[str], parts: Mapping[str, str]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What can be taken over, and what cannot: why, by name."""
    taken: dict[str, Tensor] = {}
    left = {name: "is not in that run" for name in own if name in wanted and name not in given}
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
