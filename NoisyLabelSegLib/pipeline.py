"""One request, one way through: image and mask -> preprocessing -> method -> inverse -> `Result`.

The graphical interface, the command line and Python call the same function.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray

from NoisyLabelSegLib.assembly import assemble, settle
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.inference.checks import EMPTY_MASK, check_image, mask_remarks, on_grid
from NoisyLabelSegLib.inference.model import Model
from NoisyLabelSegLib.inference.predictor import Predictor
from NoisyLabelSegLib.inference.preprocessing import Frame, Prepared, prepare
from NoisyLabelSegLib.methods import rerenet
from NoisyLabelSegLib.progression import doubts, extensions, statistics
from NoisyLabelSegLib.provenance import provenance
from NoisyLabelSegLib.regions import Region, is_empty, masks_of, overlap, union, within
from NoisyLabelSegLib.result import Maps, Result
from NoisyLabelSegLib.segmentations import Segment, Segmentation, identifiers

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class RefineSettings:
    """What a person may choose.

    Attributes:
        stages: upper bound of stages, 1 to `rerenet.MOST_STAGES`; None takes the model's.
        segments: names of the segments to refine; empty takes all. The others stay as they are.
    """

    stages: int | None = None
    segments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.stages is not None:
            rerenet.check_stages(self.stages)


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

    Segments that a model of one structure refines each on its own may grow into each other: where no given segments
    overlap, such voxels go to the one with the higher probability.

    Args:
        image: 3D, scalar; its grid is the result's.
        segmentation: the coarse masks; None starts from nothing, over the whole image.
        model: of the kind "refine". A model of one structure refines each segment on its own; one of several finds
            its structures by the segments' names or, for plain label maps, by their values.
            The only segment of such a map gets the name, colour and terminology of a model's only structure.
        settings: see `RefineSettings`.
        progress: called with what is being done and the share done, 0 to 1; an exception it raises cancels the request.

    Raises:
        InputError: when something given cannot be used.
    """
    started = time.monotonic()
    settings = settings or RefineSettings()
    if model.description.kind != "refine":
        raise InputError(
            f"The model '{model.description.name}' does not refine masks: it is for '{model.description.kind}'."
        )
    arguments = rerenet.Arguments.from_json(model.description.method_arguments)
    arguments = replace(arguments, stages=settings.stages or arguments.stages)
    notes = check_image(image, model.description)
    given, remarks = (from_nothing(image, model), []) if segmentation is None else on_grid(segmentation, image)
    masks = masks_of(given)
    tasks = _tasks(given, masks, model, settings.segments, empty_allowed=segmentation is None)
    notes += remarks + _structure_remarks(given, tasks, model)
    given = _with_the_models_name(given, model)
    notes += _border_remarks(image, given, masks, tasks)
    predictor = Predictor(model.network, model.device, notes.append)
    outcomes = [
        _run(image, _start(masks, task), task, model, predictor, arguments, share, keep=len(tasks) > 1)
        for task, share in zip(tasks, _shares_of(progress, len(tasks)), strict=True)
    ]
    stages, remarks = _all_stages(given, masks, outcomes)
    remarks = [note for outcome in outcomes for note in outcome.prepared.notes] + remarks
    slice_axis = outcomes[0].prepared.slice_axis
    remarks += extensions(given.names, stages[0], stages[-1], slice_axis)
    rows = tuple(statistics(given.names, stages, image.GetSpacing(), from_nothing=segmentation is None))
    settled = {"stages": arguments.stages, "segments": list(settings.segments)}
    stopped_early = all(outcome.stopped_early for outcome in outcomes)
    seconds = time.monotonic() - started
    names = identifiers(given.segments)
    return Result(
        image=image,
        stages=(given, *(assemble(stage, given) for stage in stages[1:])),
        probabilities=Maps(image, {names[p]: outcome.map(p) for outcome in outcomes for p in outcome.task.values}),
        statistics=rows,
        provenance=provenance(model.description, settled, predictor.device, seconds, stopped_early),
        notes=tuple(dict.fromkeys(doubts(rows, len(stages)) + notes + remarks)),
        slice_axis=slice_axis,
    )


def _shares_of(progress: Progress, count: int) -> list[Progress]:
    return [lambda text, done, n=n: progress(text, (n + done) / count) for n in range(count)]  # type: ignore[misc]


def from_nothing(image: sitk.Image, model: Model) -> Segmentation:
    """An empty segmentation with the model's structures, on the image's grid."""
    empty = sitk.Image(image.GetSize(), sitk.sitkUInt8)
    empty.CopyInformation(image)
    segments = tuple(
        Segment(label.name, label.value, 0, label.color, f"Segment_{label.value}", label.terminology)
        for label in model.description.labels
    )
    return Segmentation(empty, segments)


def _tasks(
    given: Segmentation, masks: Sequence[Region], model: Model, names: Sequence[str], *, empty_allowed: bool
) -> list[_Task]:
    """Which segments are refined in which run of the network."""
    if unknown := [name for name in names if name not in given.names]:
        raise InputError(f"The mask has no segment '{unknown[0]}'; it has: {', '.join(given.names)}.")
    places = [place for place, name in enumerate(given.names) if not names or name in names]
    filled = [place for place in places if empty_allowed or not is_empty(masks[place].box)]
    if not filled:
        raise InputError(EMPTY_MASK)
    labels = model.description.labels
    if len(labels) == 1:
        return [_Task({place: labels[0].value}) for place in filled]
    known = {f"Label {label.value}".casefold(): label.value for label in labels}
    known |= {label.name.casefold(): label.value for label in labels}
    values = {place: known.get(given.names[place].casefold()) for place in places}
    for place, value in values.items():
        if value is None:
            structures = ", ".join(f"{label.name} (label {label.value})" for label in labels)
            raise InputError(
                f"The model does not know the segment '{given.names[place]}'; it knows {structures}. "
                "Rename it, or choose segments."
            )
    if len(set(values.values())) < len(values):
        raise InputError(
            f"Two segments mean the same structure of the model: {', '.join(given.names)}; choose segments."
        )
    return [_Task({place: value for place, value in values.items() if value is not None})]


def _structure_remarks(given: Segmentation, tasks: Sequence[_Task], model: Model) -> list[str]:
    """Say what a model of one structure takes segments of other names for."""
    label, *others = model.description.labels
    names = [given.names[place] for task in tasks for place in task.values if not others]
    return [f"'{name}' is refined as {label.name}." for name in names if name.casefold() != label.name.casefold()]


def _with_the_models_name(given: Segmentation, model: Model) -> Segmentation:
    """A label map has no names: where there is no doubt what its only segment is, the model knows them."""
    if len(given.segments) > 1 or len(model.description.labels) > 1 or not re.fullmatch(r"Label -?\d+", given.names[0]):
        return given
    label, segment = model.description.labels[0], given.segments[0]
    terminology = segment.terminology or label.terminology
    named = replace(segment, name=label.name, color=label.color, terminology=terminology)
    return Segmentation(given.image, (named,))


def _border_remarks(
    image: sitk.Image, given: Segmentation, masks: Sequence[Region], tasks: Sequence[_Task]
) -> list[str]:
    places = sorted(place for task in tasks for place in task.values)
    return [r for place in places for r in mask_remarks(masks[place].box, image, given.names[place])]


def _start(masks: Sequence[Region], task: _Task) -> Region:
    """The task's given masks as one label map of the network's classes."""
    box = union(masks[place].box for place in task.values)
    labels = np.zeros([side.stop - side.start for side in box], np.uint8)
    for place, value in task.values.items():
        labels[within(masks[place].box, box)][masks[place].values] = value
    return Region(box, labels)


def _steps(
    prepared: Prepared, model: Model, predictor: Predictor, arguments: rerenet.Arguments
) -> Iterator[rerenet.Stage]:
    """Hand the crop to the method: slices are the batch of a 2D network, the volume is one item of a 3D one."""
    image, start = torch.from_numpy(prepared.image), torch.from_numpy(prepared.labels.astype(np.int64))
    if model.preprocessing.dimensions == 2:
        image = image.unsqueeze(1)
    else:
        image, start = image[None, None], start[None]
    return rerenet.refine(
        predictor, image, start, model.classes, arguments.stages, arguments.update, memory=arguments.memory
    )


@dataclass(frozen=True)
class _Outcome:
    """A task's stages in the crop's box of the image's grid.

    Attributes:
        stages: the masks of each stage, bool, by segment.
        volumes: the classes' probabilities in the crop, (N, slices, rows, columns), of each stage or the last alone.
    """

    task: _Task
    prepared: Prepared
    stages: list[dict[int, Region]]
    volumes: list[NDArray[np.float32]]
    stopped_early: bool

    def map(self, place: int, stage: int = -1) -> Region:
        """A segment's probabilities behind a stage."""
        return self.prepared.frame.restore_region(self.volumes[stage][self.task.values[place]])


def _run(
    image: sitk.Image,
    start: Region,
    task: _Task,
    model: Model,
    predictor: Predictor,
    arguments: rerenet.Arguments,
    progress: Progress,
    *,
    keep: bool,
) -> _Outcome:
    """One task from preprocessing to its stages; ``keep`` keeps the probabilities of all stages."""
    prepared = prepare(image, start, model.preprocessing)
    stages: list[dict[int, Region]] = []
    volumes: list[NDArray[np.float32]] = []
    changed = True
    for step in _steps(prepared, model, predictor, arguments):
        progress(f"stage {step.number} of at most {arguments.stages}", step.number / arguments.stages)
        labels, probabilities = step.labels.numpy(), step.probabilities.numpy()
        volume = labels.ndim == 4  # one item, else the items are slices
        labels, probabilities = (labels[0], probabilities[0]) if volume else (labels, probabilities.swapaxes(0, 1))
        stages.append(_masks(prepared.frame, labels, task))
        volumes[:] = [*(volumes if keep else []), probabilities]
        changed = bool(step.changed.any())
    return _Outcome(task, prepared, stages, volumes, not changed and len(stages) < arguments.stages)


def _masks(frame: Frame, labels: NDArray[np.int64], task: _Task) -> dict[int, Region]:
    """Each segment's mask on the image's grid.

    Where voxels differ in size, a voxel that is at least half covered goes to what covers most of it, and to that
    alone: neither gaps nor overlaps arise where structures touch.
    """
    values = sorted(task.values.values())
    shares = np.stack([frame.restore_region((labels == value).astype(np.float32)).values for value in values])
    winner = np.array(values)[shares.argmax(axis=0)]
    winner[shares.sum(axis=0) < 0.5] = 0
    return {place: Region(frame.box, winner == value) for place, value in task.values.items()}


def _all_stages(
    given: Segmentation, masks: list[Region], outcomes: Sequence[_Outcome]
) -> tuple[list[list[Region]], list[str]]:
    """Every segment's mask at every stage, the given one first, and what is to be said about contested voxels."""
    apart, stages = not overlap(masks), [masks]
    pairs: list[tuple[int, int]] = []
    for number in range(max(len(outcome.stages) for outcome in outcomes)):
        steps = [(outcome, min(number, len(outcome.stages) - 1)) for outcome in outcomes]
        of_place = {place: step for step in steps for place in step[0].task.values}
        found = {place: outcome.stages[stage][place] for place, (outcome, stage) in of_place.items()}
        maps = {place: partial(outcome.map, place, stage) for place, (outcome, stage) in of_place.items()}
        pairs = settle(found, maps, masks) if apart else []
        stages.append([found.get(place, mask) for place, mask in enumerate(masks)])
    return stages, [
        f"'{given.names[a]}' and '{given.names[b]}' grew into each other: voxels of both went to the one with the "
        "higher probability."
        for a, b in pairs
    ]
