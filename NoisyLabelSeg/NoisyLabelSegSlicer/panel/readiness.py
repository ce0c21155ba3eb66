"""Which workflows there are, and what is still missing before one can start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from NoisyLabelSegSlicer.model_facts import unknown_segments, value_warning
from NoisyLabelSegSlicer.translation import _


@dataclass(frozen=True)
class Workflow:
    """What a kind of model is for.

    Attributes:
        kind: as in a model's description.
        title: heading in the list of models.
        verb: on the button that starts it.
        takes_mask: whether a segmentation is an input at all.
    """

    kind: str
    title: str
    verb: str
    takes_mask: bool


def workflows() -> tuple[Workflow, ...]:
    """All workflows, in the order in which they are offered; there need not be a model of each kind."""
    return (
        Workflow("refine", _("Refine a mask"), _("Refine"), True),
        Workflow("uncertainty", _("Uncertainty of a segmentation"), _("Map the uncertainty"), True),
        Workflow("segment", _("Segment from the image alone"), _("Segment"), False),
    )


def workflow_of(kind: str) -> Workflow | None:
    """The workflow of a kind of model; None where there is none."""
    return next((workflow for workflow in workflows() if workflow.kind == kind), None)


@dataclass(frozen=True)
class Inputs:
    """What is chosen in the panel.

    Attributes:
        ready: whether the worker can compute: nothing is missing on the computer.
        workflow: that of the chosen model; None without a model.
        model: the model's description; None without a model.
        segments: names of the ticked segments; None without a segmentation.
        has_roi: whether there is a region of interest.
    """

    ready: bool
    workflow: Workflow | None
    model: Mapping[str, Any] | None
    has_volume: bool
    segments: Sequence[str] | None
    has_roi: bool


def missing(inputs: Inputs) -> str:
    """Say in one sentence what has to be done before the button works; empty when nothing has to."""
    if not inputs.ready:
        return _("Finish the set-up first.")
    if inputs.workflow is None or inputs.model is None:
        return _("Choose a model.")
    if not inputs.has_volume:
        return _("Choose a volume.")
    if _lacks_region(inputs):
        return _("Draw a box (markups ROI) around the place that you mean, and choose it under Input › Limits.")
    if not inputs.workflow.takes_mask or inputs.segments is None:
        return ""
    if not inputs.segments:
        return _("Tick at least one segment.")
    if strangers := unknown_segments(inputs.model, inputs.segments):
        return _("The model knows {structures}, not “{segment}”: rename the segment or untick it.").format(
            structures=", ".join(_structures(inputs.model)), segment=strangers[0]
        )
    return ""


def _lacks_region(inputs: Inputs) -> bool:
    needed = inputs.model is not None and inputs.model["method_arguments"].get("needs_region")
    return bool(needed) and not inputs.has_roi


def ticked_at_first(segments: Sequence[str], model: Mapping[str, Any] | None) -> list[bool]:
    """Which segments to work on unless the person says otherwise: those the model knows by name, else all it takes."""
    if model is None:
        return [True] * len(segments)
    names = {name.casefold() for name in _structures(model)}
    by_name = [segment.casefold() in names for segment in segments]
    strangers = unknown_segments(model, segments)
    return by_name if any(by_name) else [segment not in strangers for segment in segments]


def model_at_first(
    models: Sequence[Mapping[str, Any]], segments: Sequence[str], values: tuple[float, float] | None
) -> str:
    """The name of the model to offer unless the person chooses one; empty when there is none.

    Args:
        models: descriptions.
        segments: names of the given segments.
        values: the volume's smallest and largest; None without a volume.
    """

    def suits(model: Mapping[str, Any]) -> tuple[bool, ...]:
        workflow = workflow_of(model["kind"])
        named = {name.casefold() for name in _structures(model)} & {segment.casefold() for segment in segments}
        fits = values is not None and not value_warning(model, *values)
        usable = workflow is not None and workflow.takes_mask == bool(segments)
        # A model of one structure takes a segment of any name.
        return bool(named), fits, usable, len(model["labels"]) == 1

    # Of equals max takes the first.
    return str(max(models, key=suits)["name"]) if models else ""


def _structures(model: Mapping[str, Any]) -> list[str]:
    return [label["name"] for label in model["labels"]]


def verb(inputs: Inputs) -> str:
    """What the button that starts says."""
    if inputs.workflow is None:
        return _("Refine")
    if inputs.workflow.kind == "refine" and inputs.segments is None:
        return _("Segment without a mask")
    return inputs.workflow.verb


def hint(inputs: Inputs) -> str:
    """A remark on what is going to happen; mostly empty."""
    if inputs.workflow is not None and inputs.workflow.kind == "refine" and inputs.segments is None:
        return _("No segmentation is chosen. Without one the volume should already be cropped to the structure.")
    if inputs.workflow is not None and inputs.workflow.kind == "uncertainty" and inputs.segments is None:
        return _("No segmentation is chosen. With one you also see which of its labels look wrong.")
    looks_everywhere = inputs.workflow is not None and not inputs.workflow.takes_mask and not inputs.has_roi
    if looks_everywhere and not _lacks_region(inputs):
        return _("The whole volume will be looked at: a box (markups ROI) under Input › Limits makes it quicker.")
    return ""


def goes_by_stages(inputs: Inputs) -> bool:
    """Whether it matters how many stages are allowed."""
    return inputs.workflow is None or inputs.workflow.kind == "refine"
