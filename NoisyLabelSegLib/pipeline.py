"""One request, one way through: image and mask -> preprocessing -> method -> inverse -> `Result`.

The graphical interface, the command line and Python call the same function.
"""

from __future__ import annotations

import datetime
import math
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray

from NoisyLabelSegLib import __version__, metrics
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.inference.checks import check_image, mask_remarks, on_grid
from NoisyLabelSegLib.inference.model import Model
from NoisyLabelSegLib.inference.predictor import Predictor
from NoisyLabelSegLib.inference.preprocessing import Prepared, prepare
from NoisyLabelSegLib.methods import rerenet
from NoisyLabelSegLib.result import Result
from NoisyLabelSegLib.segmentations import Segment, Segmentation

Labels = NDArray[np.uint8]
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class RefineSettings:
    """What a person may choose.

    Attributes:
        stages: upper bound of stages, 1 to 9; None takes the model's.
        segments: names of the segments to refine; empty takes all. The others stay as they are.
    """

    stages: int | None = None
    segments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.stages is not None and not 1 <= self.stages <= 9:
            raise InputError(f"The number of stages must lie between 1 and 9, not {self.stages}.")


@dataclass(frozen=True)
class _Task:
    """One run of the network: the label value that each segment (by its place in the segmentation) has in it."""

    values: dict[int, int]


def refine(
    image: sitk.Image,
    segmentation: Segmentation | None,
    model: Model,
    settings: RefineSettings | None = None,
    progress: Progress = lambda text, done: None,
) -> Result:
    """Refine a coarse segmentation of an image, stage by stage.

    Args:
        image: 3D, scalar; its grid is the result's.
        segmentation: the coarse masks; None starts from nothing, over the whole image.
        model: of the kind "refine". A model of one structure refines each segment on its own; one of several finds
            its structures by the segments' names or, for plain label maps, by their values.
        settings: see `RefineSettings`.
        progress: called with what is being done and the share done, 0 to 1; an exception it raises cancels the request.

    Raises:
        InputError: when something given cannot be used.
    """
    settings = settings or RefineSettings()
    started = time.monotonic()
    if model.description.kind != "refine":
        raise InputError(
            f"The model '{model.description.name}' does not refine masks: it is for '{model.description.kind}'."
        )
    notes = check_image(image, model.description)
    given = from_nothing(image, model)
    if segmentation is not None:
        given, remarks = on_grid(segmentation, image)
        notes += remarks
    tasks = _tasks(given, model, settings.segments, empty_allowed=segmentation is None)
    if segmentation is not None:
        for place in sorted(place for task in tasks for place in task.values):
            notes += mask_remarks(_array(given, place), given.names[place])
    predictor = Predictor(model.network, model.device, notes.append)
    wanted = settings.stages or int(model.description.method_arguments.get("stages", 5))
    outcomes = [
        _run(image, given, task, model, predictor, wanted, _share_of(progress, n, len(tasks)))
        for n, task in enumerate(tasks)
    ]
    return _result(image, given, outcomes, model, settings, wanted, predictor, notes, time.monotonic() - started)


def _share_of(progress: Progress, number: int, count: int) -> Progress:
    return lambda text, done: progress(text, (number + done) / count)


def from_nothing(image: sitk.Image, model: Model) -> Segmentation:
    """An empty segmentation with the model's structures, on the image's grid."""
    empty = sitk.Image(image.GetSize(), sitk.sitkUInt8)
    empty.CopyInformation(image)
    segments = tuple(
        Segment(label.name, label.value, 0, label.color, f"Segment_{label.value}", label.terminology)
        for label in model.description.labels
    )
    return Segmentation(empty, segments)


def _tasks(given: Segmentation, model: Model, names: Sequence[str], *, empty_allowed: bool) -> list[_Task]:
    """Which segments are refined in which run of the network."""
    if unknown := [name for name in names if name not in given.names]:
        raise InputError(f"The mask has no segment '{unknown[0]}'; it has: {_listed(given.names)}.")
    places = [place for place, name in enumerate(given.names) if not names or name in names]
    filled = [place for place in places if empty_allowed or _array(given, place).any()]
    if not filled:
        raise InputError("The mask is empty: draw something first, or ask for a start from nothing.")
    labels = model.description.labels
    if len(labels) == 1:
        return [_Task({place: labels[0].value}) for place in filled]
    by_name = {label.name.casefold(): label.value for label in labels}
    by_value = {f"Label {label.value}".casefold(): label.value for label in labels}
    values = {}
    for place in places:
        name = given.names[place].casefold()
        if name not in by_name | by_value:
            raise InputError(
                f"The model does not know the segment '{given.names[place]}'; it knows "
                f"{_listed([f'{label.name} (label {label.value})' for label in labels])}. "
                "Rename it, or choose segments."
            )
        values[place] = (by_name | by_value)[name]
    if len(set(values.values())) < len(values):
        raise InputError(f"Two segments mean the same structure of the model: {_listed(given.names)}; choose segments.")
    return [_Task(values)]


@dataclass(frozen=True)
class _Outcome:
    """A task's stages as binary masks by segment, and the last stage's probabilities."""

    prepared: Prepared
    stages: list[dict[int, Labels]]
    probabilities: dict[int, sitk.Image]
    stopped_early: bool


def _run(
    image: sitk.Image,
    given: Segmentation,
    task: _Task,
    model: Model,
    predictor: Predictor,
    wanted: int,
    progress: Progress,
) -> _Outcome:
    start = np.zeros(image.GetSize()[::-1], np.uint8)
    for place, value in task.values.items():
        start[_array(given, place)] = value
    start_image = sitk.GetImageFromArray(start)
    start_image.CopyInformation(image)
    prepared = prepare(image, start_image, model.preprocessing)
    stages: list[dict[int, Labels]] = []
    probabilities: NDArray[np.float32] | None = None
    changed = True
    for stage in _stages(prepared, model, predictor, wanted):
        progress(f"stage {stage.number} of at most {wanted}", stage.number / wanted)
        stages.append(_masks(prepared, _to_volume(stage.labels, model), task))
        probabilities = _to_volume(stage.probabilities, model)
        changed = bool(stage.changed.any())
    assert probabilities is not None
    maps = {place: prepared.restore(probabilities[value]) for place, value in task.values.items()}
    return _Outcome(prepared, stages, maps, stopped_early=not changed and len(stages) < wanted)


def _stages(prepared: Prepared, model: Model, predictor: Predictor, wanted: int) -> Iterator[rerenet.Stage]:
    """Hand the crop to the method: slices are the batch of a 2D network, the volume is one item of a 3D one."""
    image, start = torch.from_numpy(prepared.image), torch.from_numpy(prepared.labels.astype(np.int64))
    if model.preprocessing.dimensions == 2:
        image = image.unsqueeze(1)
    else:
        image, start = image[None, None], start[None]
    arguments = model.description.method_arguments
    return rerenet.refine(
        predictor,
        image,
        start,
        model.classes,
        wanted,
        arguments.get("update", "mean"),
        memory=bool(arguments.get("memory", False)),
    )


def _to_volume(tensor: torch.Tensor, model: Model) -> Any:
    """``BHW`` or ``1HWD`` to (slices, rows, columns); with classes ``BNHW`` or ``1NHWD`` to (N, slices, ...)."""
    array = tensor.numpy()
    if model.preprocessing.dimensions == 3:
        return array[0]
    return array if array.ndim == 3 else array.swapaxes(0, 1)


def _masks(prepared: Prepared, labels: NDArray[np.int64], task: _Task) -> dict[int, Labels]:
    """Each segment's mask on the image's grid.

    Where voxels differ in size, a voxel that is at least half covered goes to what covers most of it, and to that
    alone: neither gaps nor overlaps arise where structures touch.
    """
    covered = np.zeros(prepared.frame.given.GetSize()[::-1], np.float32)
    most, winner = np.zeros_like(covered), np.zeros(covered.shape, np.int32)
    for value in sorted(set(task.values.values())):
        share = sitk.GetArrayFromImage(prepared.restore((labels == value).astype(np.float32)))
        covered += share
        larger = share > most
        most[larger], winner[larger] = share[larger], value
    winner[covered < 0.5] = 0
    return {place: (winner == value).astype(np.uint8) for place, value in task.values.items()}


def _result(
    image: sitk.Image,
    given: Segmentation,
    outcomes: list[_Outcome],
    model: Model,
    settings: RefineSettings,
    wanted: int,
    predictor: Predictor,
    notes: list[str],
    seconds: float,
) -> Result:
    count = max(len(outcome.stages) for outcome in outcomes)
    stages = [given]
    for number in range(count):
        masks = {place: _array(given, place).astype(np.uint8) for place in range(len(given.segments))}
        for outcome in outcomes:
            masks |= outcome.stages[min(number, len(outcome.stages) - 1)]
        stages.append(_assemble([masks[place] for place in range(len(given.segments))], given))
    first = outcomes[0].prepared
    for outcome in outcomes:
        notes += [note for note in outcome.prepared.notes if note not in notes]
    stopped_early = all(outcome.stopped_early for outcome in outcomes)
    identifiers = _identifiers(given)
    return Result(
        image=image,
        stages=tuple(stages),
        probabilities={identifiers[p]: m for outcome in outcomes for p, m in outcome.probabilities.items()},
        statistics=tuple(_statistics(stages)),
        provenance=_provenance(model, settings, wanted, predictor, seconds, stopped_early),
        notes=tuple(notes),
        slice_axis=first.slice_axis,
    )


def _assemble(masks: list[Labels], like: Segmentation) -> Segmentation:
    """Segments over one label map where none overlap, else a layer each; names, colours and codes are kept."""
    total = np.zeros(masks[0].shape, np.uint8)
    for mask in masks:
        total += mask
    if total.max() <= 1:
        labels = [segment.label for segment in like.segments]
        labels = labels if len(set(labels)) == len(labels) else list(range(1, len(masks) + 1))
        merged = np.zeros(masks[0].shape, np.int32 if max(labels) > 255 or min(labels) < 0 else np.uint8)
        for mask, label in zip(masks, labels, strict=True):
            merged[mask > 0] = label
        picture, places = sitk.GetImageFromArray(merged), [(label, 0) for label in labels]
    else:
        picture = sitk.GetImageFromArray(np.stack(masks, axis=-1), isVector=True)
        places = [(1, layer) for layer in range(len(masks))]
    picture.CopyInformation(like.image)
    segments = tuple(
        Segment(s.name, label, layer, s.color, s.id, s.terminology, s.extra)
        for s, (label, layer) in zip(like.segments, places, strict=True)
    )
    return Segmentation(picture, segments)


def _statistics(stages: Sequence[Segmentation]) -> Iterator[dict[str, Any]]:
    """The rows of `Result.statistics`."""
    spacing = stages[0].image.GetSpacing()
    voxel = float(np.prod(spacing))
    for place, name in enumerate(stages[0].names):
        first = previous = _array(stages[0], place)
        for number, stage in enumerate(stages):
            mask = _array(stage, place)
            distance = metrics.hd95(mask, previous, spacing[::-1]) if number else math.inf
            yield {
                "segment": name,
                "stage": number,
                "volume_mm3": float(mask.sum()) * voxel,
                "dice_to_given": metrics.dice(mask, first),
                "hd95_to_previous_mm": distance if math.isfinite(distance) else None,
                "changed_voxels": int((mask != previous).sum()),
            }
            previous = mask


def _provenance(
    model: Model, settings: RefineSettings, wanted: int, predictor: Predictor, seconds: float, stopped_early: bool
) -> dict[str, Any]:
    description = model.description
    packages = ("torch", "monai", "SimpleITK", "numpy")
    return {
        "settings": {**description.method_arguments, "stages": wanted, "segments": list(settings.segments)},
        "model": {
            "name": description.name,
            "version": description.version,
            "sha256": description.weights.sha256,
            "licence": description.licence,
            "intended_use": description.intended_use,
            "not_for": description.not_for,
        },
        "software": {"NoisyLabelSeg": __version__, "Python": platform.python_version()}
        | {package: version(package) for package in packages},
        "device": _device_name(predictor.device),
        "seconds": round(seconds, 3),
        "stopped_early": stopped_early,
        "time": datetime.datetime.now(datetime.timezone.utc).astimezone().isoformat(timespec="seconds"),
    }


def _device_name(device: torch.device) -> str:
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def _array(segmentation: Segmentation, place: int) -> NDArray[np.bool_]:
    return sitk.GetArrayFromImage(segmentation.mask(segmentation.segments[place])) > 0


def _identifiers(segmentation: Segmentation) -> list[str]:
    return [segment.id or f"Segment_{place + 1}" for place, segment in enumerate(segmentation.segments)]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
