"""From a prepared image to the classes' probabilities on the image's own grid, and the maps that show them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from NoisyLabelSegLib.bundle import ModelDescription
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.inference.frame import Frame
from NoisyLabelSegLib.inference.layout import times
from NoisyLabelSegLib.inference.model import Model
from NoisyLabelSegLib.inference.predictor import Predictor
from NoisyLabelSegLib.inference.preprocessing import Prepared
from NoisyLabelSegLib.methods.affinity_umamba import Uncertainty, branches_of, temperature_of_each, uncertainty_of
from NoisyLabelSegLib.outcome import Map, MapName
from NoisyLabelSegLib.progress import Progress, Step
from NoisyLabelSegLib.regions import Region


def flips_of(mirror: Sequence[int], wanted: bool, description: ModelDescription) -> list[tuple[int, ...]]:
    """The axes of a batch to be flipped together, one after the other; the first are none.

    Args:
        mirror: axes of the network's input that the model may be shown mirrored.
        wanted: whether to do so.
        description: the model's.
    """
    if wanted and not mirror:
        raise InputError(f"The model '{description.name}' was not made for mirrored images: leave mirroring out.")
    axes = [2 + axis for axis in mirror] if wanted else []
    return [dims for count in range(len(axes) + 1) for dims in combinations(axes, count)]


def class_probabilities(
    prepared: Prepared,
    model: Model,
    predictor: Predictor,
    temperatures: Sequence[float],
    flips: Sequence[tuple[int, ...]],
    progress: Progress,
) -> Tensor:
    """The branches' calibrated probabilities, their mean over the flips, ``B(kN)HW[D]``.

    Slices are the batch of a 2D network, the volume is one item of a 3D one; one temperature holds for all branches.
    """
    image = torch.from_numpy(prepared.image)
    inputs = image.transpose(0, 1) if model.preprocessing.dimensions == 2 else image[None]
    mean: Tensor | None = None
    for number, axes in enumerate(flips):
        predictor.report = _reporter(number, len(flips), predictor, progress)
        predictor.report(0, len(inputs))
        seen = inputs.flip(axes) if axes else inputs
        found = predictor(seen, partial(_calibrated, classes=model.classes, temperatures=temperatures))
        mean = found if mean is None else mean.add_(found.flip(axes))
    assert mean is not None
    return mean.div_(len(flips)) if len(flips) > 1 else mean


def _calibrated(logits: Tensor, classes: int, temperatures: Sequence[float]) -> Tensor:
    branches = branches_of(logits, classes)
    heats = temperature_of_each(temperatures, len(branches))
    return torch.cat([torch.softmax(part / t, dim=1) for part, t in zip(branches, heats, strict=True)], dim=1)


def _reporter(number: int, flips: int, predictor: Predictor, progress: Progress) -> Any:
    def report(done: float, items: int) -> None:
        text = f"predicting, flip {number + 1} of {flips}" if flips > 1 else "predicting"
        text += f", slice {int(done)} of {items}" if items > 1 else ""
        progress(Step(text, (number + done / items) / flips, device=str(predictor.device)))

    return report


def on_the_images_grid(frame: Frame, probabilities: Tensor) -> Uncertainty:
    """What the classes' probabilities say there: restored before anything is made of them, so that all maps agree."""
    shape = [side.stop - side.start for side in frame.box]
    restored = np.empty((1, len(_slices(probabilities)), *shape), np.float32)
    for number, one in enumerate(_slices(probabilities)):
        restored[0, number] = frame.restore_region(one).values
    return uncertainty_of(torch.from_numpy(restored))


def _slices(probabilities: Tensor) -> NDArray[np.float32]:
    """``BNHW[D]`` as (classes, slices, rows, columns)."""
    return probabilities.movedim(1, 0).numpy() if probabilities.ndim == 4 else probabilities[0].numpy()


def maps_of(frame: Frame, found: Uncertainty, structures: Sequence[tuple[str, int]]) -> tuple[Map, ...]:
    """Entropy, confidence and, for each structure's identifier and label, the probability."""

    def made(name: MapName, values: Tensor, segment: str = "", outside: float = 0) -> Map:
        return Map(name, segment, Region(frame.box, values.numpy()), 0, 1, outside)

    return (
        made("entropy", found.entropy[0]),
        made("confidence", found.confidence[0], outside=1),
        *(made("probability", found.probabilities[0, value], id_) for id_, value in structures),
    )


def edge_remarks(frame: Frame, masks: Sequence[Region], names: Sequence[str]) -> list[str]:
    """Which of the structures found around given labels may go on where nothing was looked at."""
    notes = []
    inner = [(side.start > 0, side.stop < size) for side, size in zip(frame.box, frame.grid.size[::-1], strict=True)]
    for name, mask in zip(names, masks, strict=True):
        ends = [np.moveaxis(mask.cut(frame.box), axis, 0)[[0, -1]].any(axis=(1, 2)) for axis in range(3)]
        if (np.array(ends) & np.array(inner)).any():
            notes.append(
                f"What was found of '{name}' reaches the edge of what was looked at around the labels, and may go on "
                "beyond it: run again without labels, or with labels that hold all of it."
            )
    return notes


def temperature_remarks(temperature: float) -> list[str]:
    """Whether probabilities are not the network's own."""
    if temperature == 1:
        return []
    return [f"Probabilities were calibrated on validation data (temperature {temperature:.3g})."]


def size_remarks(prepared: Prepared) -> list[str]:
    """Whether the image was too small to be seen as the model is used to."""
    frame = prepared.frame
    size = [n - sum(added) for n, added in zip(prepared.voxels.shape, frame.padding, strict=True)]
    window = prepared.window
    if all(n >= wanted for n, wanted in zip(size[-len(window) :], window, strict=True)):
        return []
    return [
        f"The image is smaller than what the model looks at ({times(size)} voxels instead of {times(window)}): its "
        "border was continued, and the result there is less sure than it says."
    ]
