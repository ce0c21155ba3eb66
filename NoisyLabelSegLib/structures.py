"""Which segments are which of a model's structures, and so which are refined together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from NoisyLabelSegLib.bundle import Label, ModelDescription
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.inference.checks import EMPTY_MASK
from NoisyLabelSegLib.regions import Region, is_empty
from NoisyLabelSegLib.segmentations import Segment


@dataclass(frozen=True)
class Task:
    """One run of the network: the label value that each segment (by its place in the segmentation) has in it."""

    values: dict[int, int]


def segments_of(description: ModelDescription) -> tuple[Segment, ...]:
    """A model's structures as segments: what it finds where nothing is given."""
    return tuple(
        Segment(label.name, label.value, 0, label.color, f"Segment_{label.value}", label.terminology)
        for label in description.labels
    )


def tasks_of(
    names: Sequence[str],
    masks: Sequence[Region],
    description: ModelDescription,
    chosen: Sequence[str],
    *,
    empty_allowed: bool,
) -> list[Task]:
    """Which segments are refined in which run of the network."""
    places = chosen_places(names, chosen)
    filled = [place for place in places if empty_allowed or not is_empty(masks[place].box)]
    if not filled:
        raise InputError(EMPTY_MASK)
    labels = description.labels
    if len(labels) == 1:
        return [Task({place: labels[0].value}) for place in filled]
    return [Task(values_of(names, places, description))]


def chosen_places(
    names: Sequence[str], chosen: Sequence[str], description: ModelDescription | None = None
) -> list[int]:
    """The places of the chosen segments; without a choice all.

    With a description a segment may be chosen by its structure's name too: those of a label map have none.
    """
    known = [description and description.structure_of(name) for name in names]
    called = [{name, *([label.name] if label else [])} for name, label in zip(names, known, strict=True)]
    if unknown := [name for name in chosen if not any(name in own for own in called)]:
        raise InputError(f"The mask has no segment '{unknown[0]}'; it has: {', '.join(names)}.")
    return [place for place, own in enumerate(called) if not chosen or own & set(chosen)]


def values_of(names: Sequence[str], places: Sequence[int], description: ModelDescription) -> dict[int, int]:
    """The model's label value of each of the segments in these places, no two alike."""
    values: dict[int, int] = {}
    for place in places:
        if (label := description.structure_of(names[place])) is None:
            structures = ", ".join(f"{label.name} (label {label.value})" for label in description.labels)
            raise InputError(
                f"The model does not know the segment '{names[place]}'; it knows {structures}. "
                "Rename it, or choose segments."
            )
        values[place] = label.value
    if len(set(values.values())) < len(values):
        raise InputError(f"Two segments mean the same structure of the model: {', '.join(names)}; choose segments.")
    return values


def structure_remarks(given: Sequence[Segment], tasks: Sequence[Task], description: ModelDescription) -> list[str]:
    """Say what a model of one structure takes segments of other names for."""
    label, *others = description.labels
    names = [given[place].name for task in tasks for place in task.values if not others]
    return [f"'{name}' is refined as {label.name}." for name in names if name.casefold() != label.name.casefold()]


def with_the_models_name(given: tuple[Segment, ...], description: ModelDescription) -> tuple[Segment, ...]:
    """A label map has no names: where there is no doubt what its only segment is, the model knows them."""
    segment, *others = given
    label, *other_labels = description.labels
    return given if others or other_labels else (named_as(segment, label),)


def named_as(segment: Segment, label: Label) -> Segment:
    """A structure's name, colour and terminology for a segment of a label map, which has none."""
    if segment.id or not re.fullmatch(r"Label -?\d+", segment.name):
        return segment
    terminology = segment.terminology or label.terminology
    return replace(segment, name=label.name, color=label.color, terminology=terminology)
