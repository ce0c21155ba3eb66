"""Sentences with numbers in them, as the panel shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from NoisyLabelSegSlicer.client import Progress
from NoisyLabelSegSlicer.installation_plan import Plan
from NoisyLabelSegSlicer.translation import _


def progress_text(progress: Progress) -> str:
    """Such as "stage 2 of at most 5, slice 32 of 120 · about 3 s left"."""
    place = progress.text
    if progress.stages:
        place = _("stage {stage} of at most {stages}").format(stage=progress.stage, stages=progress.stages)
        if progress.slices:
            place += ", " + _("slice {slice} of {slices}").format(slice=progress.slice, slices=progress.slices)
    left = "" if progress.seconds_left is None else _time_left(progress.seconds_left)
    return " · ".join(filter(None, (place, left)))


def _time_left(seconds: float) -> str:
    if seconds < 90:
        return _("about {seconds} s left").format(seconds=max(1, round(seconds)))
    return _("about {minutes} min left").format(minutes=round(seconds / 60))


def device_text(device: str) -> str:
    """A device as a person calls it: "CPU", or the graphics card's name such as "NVIDIA A2" where it is known."""
    return device.upper() if device == "cpu" else device


def stage_text(stage: int, stages: int, *, from_nothing: bool = False) -> str:
    """Which of 0 (the given mask, or nothing) to ``stages`` is shown."""
    if stage == 0:
        return _("nothing") if from_nothing else _("given mask")
    return _("stage {stage} of {stages}").format(stage=stage, stages=stages)


def made_by(provenance: Mapping[str, Any]) -> str:
    """Which model made a result, on what and how long it took; empty where that is not known."""
    try:
        model, device, seconds = provenance["model"], str(provenance["device"]), float(provenance["seconds"])
        return _("By {name} {version}, in {seconds} s on {device}.").format(
            name=model["name"], version=model["version"], seconds=f"{seconds:.1f}", device=device_text(device)
        )
    except (KeyError, TypeError, ValueError):
        return ""


def reviewed_text(reviewed: int, changes: int, *, from_nothing: bool = False) -> str:
    """How far the review has come."""
    if not changes:
        return _("Nothing was found.") if from_nothing else _("Nothing was changed.")
    return _("reviewed {reviewed} of {changes}").format(reviewed=reviewed, changes=changes)


def bullets(sentences: Sequence[str]) -> str:
    """Sentences as a list, a line each."""
    return "\n".join(f"• {sentence}" for sentence in sentences)


def lacking_text(packages: Sequence[str], kind: str) -> str:
    """What the worker lacks and what to do about it; empty when it lacks nothing.

    Args:
        packages: names of what is not installed where it runs.
        kind: of the worker's setting.
    """
    if not packages:
        return ""
    names = ", ".join(packages)
    if kind == "slicer":
        return _("Needed once: {packages} must be installed before models can run.").format(packages=names)
    return _("The chosen Python lacks {packages}: install them there, or choose another one.").format(packages=names)


def plan_text(plan: Plan) -> str:
    """What the person agrees to before anything is installed."""
    sentences = [*(step.sentence for step in plan.steps), *plan.remarks]
    return _("This is going to happen, and Slicer waits for it:") + "\n\n" + bullets(sentences)
