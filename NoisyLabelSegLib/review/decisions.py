"""What a person decided about each change, with undo; and the masks that follow from it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from NoisyLabelSegLib.regions import Box, Region, intersection, is_empty, union, within
from NoisyLabelSegLib.review import marks as saved
from NoisyLabelSegLib.review.changes import Change, changes
from NoisyLabelSegLib.review.marks import Decision, Mark, State, carried, touched

MOST_STEPS = 100
"""So many steps can be undone."""


class Review:
    """The changes of one refinement and the decisions about them.

    A change that is open or accepted is in the result; where it is reverted, the mask is as it was given. ``reviewed``
    says that a person has seen it; whoever accepts or reverts it has. Steps are kept as decisions, never as masks.

    Attributes:
        changes: from the given masks to the stage that counts as the result, the largest first, or with
            `uncertain_first` those of the highest uncertainty.
        notes: sentences about what could not be restored, see `from_json`.
    """

    changes: list[Change]

    def __init__(
        self,
        segment_ids: Sequence[str],
        stages: Sequence[Sequence[Region]],
        spacing: Sequence[float],
        size: Sequence[int],
        uncertainty: Mapping[int, Region] | None = None,
        *,
        uncertain_first: bool = False,
    ) -> None:
        """Begin with the last stage as the result and every change open; for the arguments see `changes`."""
        self.notes: tuple[str, ...] = ()
        self._segment_ids, self._stages = tuple(segment_ids), tuple(stages)
        self._spacing, self._size, self._uncertainty = tuple(spacing), tuple(size), uncertainty
        self.uncertain_first = uncertain_first
        self._done: deque[State] = deque(maxlen=MOST_STEPS)
        self._undone: list[State] = []
        last = len(self._stages) - 1
        self._enter(State(last), self._changes_at(last))

    @classmethod
    def from_json(
        cls,
        content: Any,
        segment_ids: Sequence[str],
        stages: Sequence[Sequence[Region]],
        spacing: Sequence[float],
        size: Sequence[int],
        uncertainty: Mapping[int, Region] | None = None,
        *,
        uncertain_first: bool = False,
    ) -> Review:
        """A review with the decisions that `to_json` gave, as far as the masks still have these changes.

        Whatever cannot be used is left out, and said in `notes`.
        """
        review = cls(segment_ids, stages, spacing, size, uncertainty, uncertain_first=uncertain_first)
        read = saved.from_json(content)
        if read is None:
            review.notes = ("The saved review is damaged or of another version: every change is open again.",)
            return review
        state, sizes = read
        if not 0 <= state.stage < len(stages):
            review.notes = (f"The saved review is about stage {state.stage}, which is missing: the last one is used.",)
            state = State(review.stage, state.marks)
        found = review._changes_at(state.stage)
        marks = carried(state.marks, sizes, found)
        review._enter(State(state.stage, marks), found)
        if lost := sum(marks.get(key) != mark for key, mark in state.marks.items()):
            review.notes += (
                f"The masks were changed since the review was saved: {lost} of its decisions no longer fit and are "
                "to be made again.",
            )
        return review

    def to_json(self) -> dict[str, Any]:
        """The stage and every decision as JSON values, small, for a scene."""
        return saved.to_json(self._state, self._by_key)

    @property
    def state(self) -> State:
        """Everything that is decided; equal states mean equal masks."""
        return self._state

    @property
    def stage(self) -> int:
        """The stage that counts as the result; 0 is the given one."""
        return self._state.stage

    def use_stage(self, stage: int) -> None:
        """Let another stage count as the result.

        Decisions stay where there is a change of the same key; where it has another size, nobody has seen it yet.
        """
        sizes = {key: change.voxels for key, change in self._by_key.items()}
        found = self._changes_at(stage)
        self._do(State(stage, carried(self._state.marks, sizes, found)), found)

    def change(self, key: str) -> Change:
        """The change of a key; KeyError when there is none."""
        return self._by_key[key]

    def listed(self, decision: Decision | None = None) -> list[str]:
        """The keys of all changes, or of those with one decision, in the order of the list."""
        return [change.key for change in self.changes if decision in (None, self.decision(change.key))]

    def decision(self, key: str) -> Decision:
        """What was decided about a change."""
        return self._mark(key).decision

    def is_reviewed(self, key: str) -> bool:
        """Whether a person has seen it."""
        return self._mark(key).reviewed

    def next_unreviewed(self, after: str | None = None) -> str | None:
        """The next change that nobody has seen, from the top again after the last one; None when all are seen."""
        keys = self.listed()
        start = keys.index(after) + 1 if after in keys else 0
        return next((key for key in keys[start:] + keys[:start] if not self.is_reviewed(key)), None)

    def accept(self, keys: Iterable[str]) -> None:
        """Keep these changes; all of them are one step."""
        self._set({key: Mark("accepted", reviewed=True) for key in keys})

    def revert(self, keys: Iterable[str]) -> None:
        """Put the given mask back in these places; all of them are one step."""
        self._set({key: Mark("reverted", reviewed=True) for key in keys})

    def tick(self, keys: Iterable[str], on: bool = True) -> None:
        """Say that a person has seen these changes, or has not."""
        self._set({key: Mark(self.decision(key), on) for key in keys})

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to take back."""
        return bool(self._done)

    @property
    def can_redo(self) -> bool:
        """Whether a step was taken back last."""
        return bool(self._undone)

    def undo(self) -> None:
        """Take the last step back, if there is one."""
        if self._done:
            self._undone.append(self._state)
            self._enter(self._done.pop())

    def redo(self) -> None:
        """Take the step again that was taken back last, if there is one."""
        if self._undone:
            self._done.append(self._state)
            self._enter(self._undone.pop())

    def masks(self) -> list[Region]:
        """Each segment's mask (bool) as decided."""
        return [self.mask_of(place) for place in range(len(self._segment_ids))]

    def mask_of(self, place: int, box: Box | None = None) -> Region:
        """One segment's mask (bool) as decided, in a box of the grid; None takes all of the mask.

        After a step about a change, ``mask_of(change.segment, change.region.box)`` is all that is new, and costs that
        box only.
        """
        given, result = self._stages[0][place], self._stages[self.stage][place]
        box = union((given.box, result.box)) if box is None else box
        values = result.cut(box)
        for change in self._reverted():
            shared = intersection(change.region.box, box)
            if change.segment == place and not is_empty(shared):
                values[within(shared, box)][change.region.cut(shared)] = change.kind == "removed"
        return Region(box, values)

    def _changes_at(self, stage: int) -> list[Change]:
        if not 0 <= stage < len(self._stages):
            raise ValueError(f"There is no stage {stage}; there are 0 to {len(self._stages) - 1}.")
        about = (self._segment_ids, self._stages[: stage + 1], self._spacing, self._size, self._uncertainty)
        return changes(*about, uncertain_first=self.uncertain_first)

    def _reverted(self) -> list[Change]:
        return [self._by_key[key] for key, mark in self._state.marks.items() if mark.decision == "reverted"]

    def _mark(self, key: str) -> Mark:
        return self._state.marks.get(key, Mark())

    def _set(self, marks: Mapping[str, Mark]) -> None:
        if unknown := marks.keys() - self._by_key.keys():
            raise KeyError(min(unknown))
        self._do(State(self.stage, touched({**self._state.marks, **marks})), self.changes)

    def _do(self, state: State, found: list[Change]) -> None:
        if state != self._state:
            self._done.append(self._state)
            self._undone.clear()
            self._enter(state, found)

    def _enter(self, state: State, found: list[Change] | None = None) -> None:
        if found is None:
            found = self.changes if state.stage == self.stage else self._changes_at(state.stage)
        self._state, self.changes = state, found
        self._by_key = {change.key: change for change in found}
