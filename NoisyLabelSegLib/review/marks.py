"""The decisions at one moment as plain values, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from NoisyLabelSegLib.review.changes import Change

Decision = Literal["open", "accepted", "reverted"]

VERSION = 1


@dataclass(frozen=True)
class Mark:
    """What a person did with one change."""

    decision: Decision = "open"
    reviewed: bool = False


@dataclass(frozen=True)
class State:
    """Which stage counts as the result, and the marks by the changes' keys; an untouched change has none."""

    stage: int
    marks: Mapping[str, Mark] = field(default_factory=dict)


def touched(marks: Mapping[str, Mark]) -> dict[str, Mark]:
    """The marks that say anything."""
    return {key: mark for key, mark in marks.items() if mark != Mark()}


def carried(marks: Mapping[str, Mark], sizes: Mapping[str, int], found: Iterable[Change]) -> dict[str, Mark]:
    """The marks of those changes that are among the found ones.

    Args:
        marks: by key.
        sizes: in voxels, of the changes when they were marked: one that has another size now has not been seen.
        found: the changes that there are.
    """
    there = [change for change in found if change.key in marks]
    return touched(
        {c.key: Mark(marks[c.key].decision, marks[c.key].reviewed and sizes[c.key] == c.voxels) for c in there}
    )


def to_json(state: State, changes: Mapping[str, Change]) -> dict[str, Any]:
    """JSON values that `from_json` understands."""
    marks = {
        key: {"decision": mark.decision, "reviewed": mark.reviewed, "voxels": changes[key].voxels}
        for key, mark in state.marks.items()
    }
    return {"version": VERSION, "stage": state.stage, "changes": marks}


def from_json(content: Any) -> tuple[State, dict[str, int]] | None:
    """The state, and the sizes of its changes in voxels; None for whatever `to_json` did not make."""
    try:
        version, stage, listed = content["version"], content["stage"], content["changes"]
        marks = {key: Mark(value["decision"], value["reviewed"]) for key, value in listed.items()}
        sizes = {key: value["voxels"] for key, value in listed.items()}
    except (AttributeError, KeyError, TypeError):
        return None
    sound = all(mark.decision in get_args(Decision) and type(mark.reviewed) is bool for mark in marks.values())
    return (State(stage, marks), sizes) if version == VERSION and type(stage) is int and sound else None
