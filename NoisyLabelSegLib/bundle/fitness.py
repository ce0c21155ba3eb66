"""Whether the parts of a description fit each other, so that the model can run."""

from __future__ import annotations

from NoisyLabelSegLib.bundle.description import ModelDescription
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.inference.preprocessing import Preprocessing
from NoisyLabelSegLib.methods import rerenet


def check_fitness(description: ModelDescription) -> None:
    """Prove that method, preprocessing, network and labels belong together.

    Raises:
        InputError: naming the part that does not fit.
    """
    if description.method != "rerenet":
        raise InputError(
            f"The model '{description.name}' needs the method '{description.method}', which is not known here "
            "(only rerenet is): update NoisyLabelSeg or get another model."
        )
    method = rerenet.Arguments.from_json(description.method_arguments)
    dimensions = Preprocessing.from_json(description.preprocessing).dimensions
    classes = max(label.value for label in description.labels) + 1
    needed = {
        "spatial_dims": (dimensions, f"its preprocessing has {dimensions} dimensions"),
        "in_channels": (
            rerenet.input_channels(1, classes, memory=method.memory),
            f"{classes} classes {'with' if method.memory else 'without'} memory",
        ),
        "out_channels": (classes, f"its largest label is {classes - 1}"),
    }
    for key, (value, reason) in needed.items():
        if (found := description.network.arguments.get(key)) != value:
            raise InputError(
                f"The model '{description.name}' cannot run: its network's {key} is {found} instead of {value} "
                f"({reason})."
            )
