"""The refinement of masks: a part of an image and regions in, regions out, whatever the size of the whole."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from NoisyLabelSegLib.assembly import settle
from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.inference.acquisition import acquisition_remarks
from NoisyLabelSegLib.inference.checks import check_part, mask_remarks, require_kind
from NoisyLabelSegLib.inference.model import Model
from NoisyLabelSegLib.inference.predictor import Predictor
from NoisyLabelSegLib.inference.preprocessing import Frame, Prepared, Preprocessing, prepare_part
from NoisyLabelSegLib.methods import rerenet
from NoisyLabelSegLib.outcome import Map, Outcome
from NoisyLabelSegLib.part import Part
from NoisyLabelSegLib.progress import Progress, Step, silent
from NoisyLabelSegLib.progression import doubts, extensions, statistics
from NoisyLabelSegLib.provenance import provenance
from NoisyLabelSegLib.regions import NOTHING, Region, joined, overlap, union
from NoisyLabelSegLib.restoring import restore_labels
from NoisyLabelSegLib.segmentations import Segment, identifiers
from NoisyLabelSegLib.structures import Task, segments_of, structure_remarks, tasks_of, with_the_models_name


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


def refine_part(
    part: Part,
    segments: Sequence[Segment],
    masks: Sequence[Region],
    model: Model,
    settings: RefineSettings | None = None,
    progress: Progress = silent,
) -> Outcome:
    """Refine coarse masks of an image, stage by stage.

    What is found does not depend on how large a part of the image is given, to the last voxel.

    Segments that a model of one structure refines each on its own may grow into each other: where none of them
    overlapped when given, such voxels go to the one with the higher probability.

    Args:
        part: of the image; it holds `preprocessing.needed_box`.
        segments: the structures; none starts from nothing, over the whole image.
        masks: of each segment, bool, in regions of the whole image's grid.
        model: of the kind "refine". A model of one structure refines each segment on its own; one of several finds
            its structures by the segments' names or, for plain label maps, by their values.
            The only segment of such a map gets the name, colour and terminology of a model's only structure.
        settings: see `RefineSettings`.
        progress: see `Progress`.

    Raises:
        InputError: when something given cannot be used.
    """
    started = time.monotonic()
    settings, description = settings or RefineSettings(), model.description
    require_kind(description, "refine")
    arguments = rerenet.Arguments.from_json(description.method_arguments)
    arguments = replace(arguments, stages=settings.stages or arguments.stages)
    notes = check_part(part, description)
    given = tuple(segments) or segments_of(description)
    masks = list(masks) or [NOTHING] * len(given)
    tasks = tasks_of(
        [segment.name for segment in given], masks, description, settings.segments, empty_allowed=not segments
    )
    notes += structure_remarks(given, tasks, description)
    given = with_the_models_name(given, description)
    names = [segment.name for segment in given]
    notes += _border_remarks(part.grid, names, masks, tasks)
    predictor = model.predictor(notes.append)
    runs = [
        _run(part, joined(masks, task.values), task, model, predictor, arguments, share, keep=len(tasks) > 1)
        for task, share in zip(tasks, _shares_of(progress, names, tasks), strict=True)
    ]
    notes += acquisition_remarks(part, union(run.prepared.frame.box for run in runs), description)
    stages, remarks = _all_stages(names, masks, runs)
    remarks = [note for run in runs for note in run.prepared.notes] + remarks
    slice_axis = runs[0].prepared.slice_axis
    remarks += extensions(names, stages[0], stages[-1], slice_axis)
    rows = tuple(statistics(names, stages, part.grid.spacing, from_nothing=not segments))
    settled = {"stages": arguments.stages, "segments": list(settings.segments)}
    stopped_early = all(run.stopped_early for run in runs)
    seconds = time.monotonic() - started
    ids = identifiers(given)
    return Outcome(
        segments=given,
        stages=tuple(tuple(stage) for stage in stages),
        maps=tuple(Map("probability", ids[p], run.map(p), 0, 1) for run in runs for p in run.task.values),
        statistics=rows,
        provenance=provenance(description, settled, predictor.device, seconds, stopped_early),
        notes=tuple(dict.fromkeys(doubts(rows, len(stages)) + notes + remarks)),
        slice_axis=slice_axis,
    )


def _border_remarks(grid: Grid, names: Sequence[str], masks: Sequence[Region], tasks: Sequence[Task]) -> list[str]:
    places = sorted(place for task in tasks for place in task.values)
    return [remark for place in places for remark in mask_remarks(masks[place].box, grid, names[place])]


def _shares_of(progress: Progress, names: Sequence[str], tasks: Sequence[Task]) -> Iterator[Progress]:
    """For each task what makes its share of the whole out of its own."""
    for number, task in enumerate(tasks):
        prefix = f"{', '.join(names[place] for place in task.values)}: " if len(tasks) > 1 else ""

        def share(step: Step, number: int = number, prefix: str = prefix) -> None:
            progress(replace(step, text=prefix + step.text, done=(number + step.done) / len(tasks)))

        yield share


def _steps(
    prepared: Prepared, model: Model, predictor: Predictor, arguments: rerenet.Arguments
) -> Iterator[rerenet.Stage]:
    """Hand the crop to the method: slices are the batch of a 2D network, the volume is one item of a 3D one."""
    image, start = torch.from_numpy(prepared.image[0]), torch.from_numpy(prepared.labels.astype(np.int64))
    if model.preprocessing.dimensions == 2:
        image = image.unsqueeze(1)
    else:
        image, start = image[None, None], start[None]
    return rerenet.refine(
        predictor, image, start, model.classes, arguments.stages, arguments.update, memory=arguments.memory
    )


@dataclass(frozen=True)
class _Run:
    """A task's stages in the crop's box of the image's grid.

    Attributes:
        stages: the masks of each stage, bool, by segment.
        volumes: the classes' probabilities in the crop, (N, slices, rows, columns), of each stage or the last alone.
    """

    task: Task
    prepared: Prepared
    stages: list[dict[int, Region]]
    volumes: list[NDArray[np.float32]]
    stopped_early: bool

    def map(self, place: int, stage: int = -1) -> Region:
        """A segment's probabilities behind a stage."""
        return self.prepared.frame.restore_region(self.volumes[stage][self.task.values[place]])


def _run(
    part: Part,
    start: Region,
    task: Task,
    model: Model,
    predictor: Predictor,
    arguments: rerenet.Arguments,
    progress: Progress,
    *,
    keep: bool,
) -> _Run:
    """One task from preprocessing to its stages; ``keep`` keeps the probabilities of all stages."""
    prepared = prepare_part(part, start, model.preprocessing)
    stages: list[dict[int, Region]] = []
    volumes: list[NDArray[np.float32]] = []
    changed = True

    def report(done: float, items: int) -> None:
        progress(_step(len(stages) + 1, arguments.stages, done, items, model.preprocessing, predictor.device))

    report(0, len(prepared.voxels))
    predictor.report = report
    for step in _steps(prepared, model, predictor, arguments):
        labels, probabilities = step.labels.numpy(), step.probabilities.numpy()
        volume = labels.ndim == 4  # one item, else the items are slices
        labels, probabilities = (labels[0], probabilities[0]) if volume else (labels, probabilities.swapaxes(0, 1))
        stages.append(_masks(prepared.frame, labels, task))
        volumes[:] = [*(volumes if keep else []), probabilities]
        changed = bool(step.changed.any())
    return _Run(task, prepared, stages, volumes, not changed and len(stages) < arguments.stages)


def _step(stage: int, stages: int, done: float, items: int, preprocessing: Preprocessing, device: torch.device) -> Step:
    """What to tell when a stage's items are done that far; only those of a 2D network are slices."""
    text, slices = f"stage {stage} of at most {stages}", (0, 0)
    if preprocessing.dimensions == 2:
        slices = int(done), items
        text += f", slice {slices[0]} of {items}"
    return Step(text, (stage - 1 + done / items) / stages, stage, stages, *slices, str(device))


def _masks(frame: Frame, labels: NDArray[np.int64], task: Task) -> dict[int, Region]:
    """Each segment's mask on the image's grid."""
    found = restore_labels(frame, labels, list(task.values.values()))
    return {place: Region(found.box, found.values == value) for place, value in task.values.items()}


def _all_stages(
    names: Sequence[str], masks: list[Region], runs: Sequence[_Run]
) -> tuple[list[list[Region]], list[str]]:
    """Every segment's mask at every stage, the given one first, and what is to be said about contested voxels."""
    apart, stages = not overlap(masks[place] for run in runs for place in run.task.values), [masks]
    pairs: list[tuple[int, int]] = []
    for number in range(max(len(run.stages) for run in runs)):
        steps = [(run, min(number, len(run.stages) - 1)) for run in runs]
        of_place = {place: step for step in steps for place in step[0].task.values}
        found = {place: run.stages[stage][place] for place, (run, stage) in of_place.items()}
        maps = {place: partial(run.map, place, stage) for place, (run, stage) in of_place.items()}
        pairs = settle(found, maps, masks) if apart else []
        stages.append([found.get(place, mask) for place, mask in enumerate(masks)])
    return stages, [
        f"'{names[a]}' and '{names[b]}' grew into each other: voxels of both went to the one with the "
        "higher probability."
        for a, b in pairs
    ]
