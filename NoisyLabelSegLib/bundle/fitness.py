"""Whether the parts of a description fit each other, so that the model can run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from NoisyLabelSegLib.bundle.description import ModelDescription
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.inference.preprocessing import Preprocessing
from NoisyLabelSegLib.methods import affinity_umamba, rerenet, weak_to_strong

Reason = tuple[int, str]
"""The number of channels that a network's input must have, and why."""


def check_fitness(description: ModelDescription) -> None:
    """Prove that kind, method, preprocessing, network and labels belong together.

    Raises:
        InputError: naming the part that does not fit.
    """
    if description.method not in _METHODS:
        raise InputError(
            f"The model '{description.name}' needs the method '{description.method}', which is not known here "
            f"(known are {', '.join(_METHODS)}): update NoisyLabelSeg or get another model."
        )
    kind, channels = _METHODS[description.method]
    preprocessing = Preprocessing.from_json(description.preprocessing)
    preprocessing.intensities(description.channels)
    dimensions = preprocessing.dimensions
    classes = max(label.value for label in description.labels) + 1
    arguments = description.network.arguments
    needed: dict[str, tuple[Any, str]] = {
        "kind": (kind, f"its method is {description.method}"),
        "spatial_dims": (dimensions, f"its preprocessing has {dimensions} dimensions"),
        "in_channels": channels(description, classes, dimensions),
        "out_channels": (classes, f"its largest label is {classes - 1}"),
    }
    for key, (value, reason) in needed.items():
        found, whose = (description.kind, "its") if key == "kind" else (arguments.get(key), "its network's")
        if found != value:
            raise InputError(
                f"The model '{description.name}' cannot run: {whose} {key} is {found} instead of {value} ({reason})."
            )


def _refining(description: ModelDescription, classes: int, dimensions: int) -> Reason:
    memory = rerenet.Arguments.from_json(description.method_arguments).memory
    channels = rerenet.input_channels(1, classes, memory=memory)
    return channels, f"{classes} classes {'with' if memory else 'without'} memory"


def _uncertain(description: ModelDescription, classes: int, dimensions: int) -> Reason:
    return _imaging(affinity_umamba.Arguments.from_json(description.method_arguments).mirror, description, dimensions)


def _segmenting(description: ModelDescription, classes: int, dimensions: int) -> Reason:
    return _imaging(weak_to_strong.Arguments.from_json(description.method_arguments).mirror, description, dimensions)


def _imaging(mirror: Sequence[int], description: ModelDescription, dimensions: int) -> Reason:
    if not set(mirror) <= set(range(dimensions)) or len(set(mirror)) < len(mirror):
        raise InputError(f"The axes to mirror, {list(mirror)}, are not different ones of 0 to {dimensions - 1}.")
    return description.channels, "it sees the image alone"


_METHODS: dict[str, tuple[str, Callable[[ModelDescription, int, int], Reason]]] = {
    "rerenet": ("refine", _refining),
    "affinity_umamba": ("uncertainty", _uncertain),
    "weak_to_strong": ("segment", _segmenting),
    "refineseg": ("segment", _segmenting),
}
