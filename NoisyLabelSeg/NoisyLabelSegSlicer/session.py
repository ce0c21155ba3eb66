"""One refinement as a person works with it: stages, review, maps and statistics, over the nodes of the scene."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.outcome import Outcome
from NoisyLabelSegLib.regions import Region
from NoisyLabelSegLib.review import MOST_STEPS, Review, write_csv
from NoisyLabelSegLib.segmentations import Segment
from NoisyLabelSegSlicer.appearance import step_back
from NoisyLabelSegSlicer.changes_node import ADDED_COLOR, REMOVED_COLOR, add_changes, put_changes
from NoisyLabelSegSlicer.edits import Patch, Touched, difference, patches, redrawn
from NoisyLabelSegSlicer.labelmaps import labelmap_of, on_grid
from NoisyLabelSegSlicer.map_overlay import MapOverlay
from NoisyLabelSegSlicer.maps import suspects_from, uncertainty_from
from NoisyLabelSegSlicer.new_nodes import all_or_none
from NoisyLabelSegSlicer.provenance import read_provenance
from NoisyLabelSegSlicer.segments import masks_on_grid, put_mask, segment_ids, segment_records
from NoisyLabelSegSlicer.session_nodes import (
    CHANGES,
    RESULT,
    SessionNodes,
    add_session_nodes,
    find_session_nodes,
    require_in_scene,
)
from NoisyLabelSegSlicer.stage_look import StageLook
from NoisyLabelSegSlicer.statistics import Row, statistics_rows
from NoisyLabelSegSlicer.transforms import Between, moved, same_place
from NoisyLabelSegSlicer.translation import _
from NoisyLabelSegSlicer.views import jump_to
from NoisyLabelSegSlicer.volumes import grid_of, ijk_to_ras

__all__ = ["ADDED_COLOR", "REMOVED_COLOR", "Session"]

REVIEW = "NoisyLabelSeg.Review"


class Session:
    """Made by `create` or `restore`.

    Attributes:
        result: the segmentation node with the result.
        volume: the scalar volume node.
        review: the changes and the decisions about them; decide through the session, which keeps the result in step.
        stages: number of the last stage; 0 is the given mask.
        maps: the volume nodes of the maps.
        notes: sentences that the person should read.
        from_nothing: whether no mask was given, so that everything is found and nothing changed.
    """

    def __init__(self, nodes: SessionNodes) -> None:
        self.result, self.volume, self.maps = nodes.result, nodes.volume, nodes.maps
        self.stages = len(nodes.stages) - 1
        self.review = _review(nodes)
        self.notes = nodes.notes + self.review.notes
        self.from_nothing = nodes.from_nothing
        self._nodes = nodes
        self._volume_grid = grid_of(nodes.volume)
        self._look = StageLook(nodes.result, nodes.grid, nodes.ids, nodes.stages)
        self._done: deque[list[Patch]] = deque(maxlen=MOST_STEPS)
        self._undone: list[list[Patch]] = []
        self._overlay = MapOverlay(nodes.result.GetScene())

    @classmethod
    def create(
        cls,
        volume: Any,
        given: Any | None,
        outcome: Outcome,
        roi: Any | None,
        keep_others: bool,
        asked: Grid | None = None,
    ) -> Session:
        """Add the nodes of a refinement to the scene; if anything fails, the scene is as it was.

        Args:
            volume: the refined scalar volume node.
            given: the segmentation node that the masks came from; None when started from nothing.
            outcome: what the worker found.
            roi: Markups ROI node, outside of which nothing changes; None allows the whole volume, or all that the
                worker was asked to look at.
            keep_others: whether no segment may grow into another one that was not refined.
            asked: the volume's grid when the worker was asked; None where nothing can have happened since.

        Raises:
            InputError: the volume or the given segmentation is not in the scene any more, or the volume was changed
                while the model was at work; see also `volumes.grid_of` and `region_of_interest.inside`.
        """
        require_in_scene(volume, given)
        if asked is not None and not asked.same_as(grid_of(volume)):
            text = _("'{name}' was moved or cropped while the model was at work: start again.")
            raise InputError(text.format(name=volume.GetName()))
        with all_or_none(volume.GetScene()):
            session = cls(add_session_nodes(volume, given, outcome, roi, keep_others))
            session._save()
        return session

    @classmethod
    def restore(cls, result: Any) -> Session | None:
        """The session of a result that is in the scene, with all decisions.

        None for any other segmentation node, and where volume or stages are missing.
        """
        nodes = find_session_nodes(result)
        return None if nodes is None else cls(nodes)

    @property
    def names(self) -> list[str]:
        """The refined segments' names as they are now."""
        there = set(segment_ids(self.result))
        segmentation = self.result.GetSegmentation()
        return [segmentation.GetSegment(n).GetName() if n in there else n for n in self._nodes.ids]

    @property
    def segments(self) -> tuple[Segment, ...]:
        """What the refined segments are now."""
        return segment_records(self.result, self._nodes.ids)

    @property
    def provenance(self) -> dict[str, Any]:
        """Model, settings, software, device and time: JSON values."""
        return read_provenance(self.result)

    @property
    def shown(self) -> int:
        """The stage that is shown; a step of the review that changes the result shows the result."""
        return self.review.stage if self._look.stage is None else self._look.stage

    @property
    def shown_node(self) -> Any:
        """The segmentation node in which the refined segments are seen: the result, or that of a look at a stage."""
        return self.result if self._look.stage is None else self._look.node

    def show_stage(self, stage: int) -> None:
        """Show a stage for a look, in all views at once; at the stage that counts as the result, the result.

        Raises:
            InputError: see `require_intact`.
        """
        self.require_intact()
        if stage == self.review.stage:
            self._look.end()
        else:
            self._look.show(stage)
        self._step_back()
        self._update_changes()

    def require_intact(self) -> None:
        """InputError if the result or the volume is no longer what the review is about."""
        require_in_scene(self.result, self.volume)
        if gone := set(self._nodes.ids) - set(segment_ids(self.result)):
            text = _("The segment '{id}' was removed from '{name}': its changes can no longer be reviewed.")
            raise InputError(text.format(id=min(gone), name=self.result.GetName()))
        if not self._nodes.grid.occupies_the_same(grid_of(self.volume)):
            text = _("'{name}' was moved, cropped or its transform hardened since it was refined: refine it again.")
            raise InputError(text.format(name=self.volume.GetName()))

    def show_changes(self, on: bool) -> None:
        """Colour in what that which is shown differs from the given mask, or stop doing so."""
        node = self._changes()
        if node is None and on:
            node = add_changes(self.result, self.volume)
            self.result.SetNodeReferenceID(CHANGES, node.GetID())
            node.SetNodeReferenceID(RESULT, self.result.GetID())
        if node is not None:
            node.GetDisplayNode().SetVisibility(on)
            self._step_back()
            self._update_changes()

    def _changes(self) -> Any | None:
        """The node with the changes; that of the original, in a copy of a result, is none of ours."""
        node = self.result.GetNodeReference(CHANGES)
        return node if node is not None and node.GetNodeReference(RESULT) is self.result else None

    def _shown_changes(self) -> Any | None:
        node = self._changes()
        return node if node is not None and node.GetDisplayNode().GetVisibility() else None

    def _step_back(self) -> None:
        changes = self._shown_changes() is not None
        for node in filter(None, (self.result, self._look.node)):
            step_back(node, self._nodes.ids, outlined=changes or self._overlay.is_shown, neutral=changes)

    def _update_changes(self) -> None:
        node = self._shown_changes()
        if node is not None:
            stage = self._look.stage
            now = self._result_masks() if stage is None else self._nodes.stages[stage]
            put_changes(node, self._nodes.stages[0], now, self._nodes.grid)

    def show_map(self, node: Any | None, opacity: float = 0.5, threshold: float = 0.0, legend: bool = True) -> None:
        """Lay one of `maps` over the images where it is at least a threshold; None for none. See `MapOverlay`."""
        self._overlay.show(node, opacity, threshold, legend)
        self._step_back()

    def put_away(self) -> None:
        """Leave the result in the scene as any other segmentation: no stage, map or change is shown any more."""
        self._look.end()
        self.show_map(None)
        self.show_changes(False)

    def accept(self, keys: Iterable[str]) -> None:
        """Keep these changes; see `Review.accept`."""
        self._decide(lambda: self.review.accept(keys))

    def revert(self, keys: Iterable[str]) -> None:
        """Put the given mask back in these places; see `Review.revert`."""
        self._decide(lambda: self.review.revert(keys))

    def tick(self, keys: Iterable[str], on: bool = True) -> None:
        """Say that a person has seen these changes, or has not; see `Review.tick`."""
        self._decide(lambda: self.review.tick(keys, on))

    def use_stage(self, stage: int) -> None:
        """Let another stage count as the result; what was drawn by hand where both are alike stays."""
        before = self.review.masks()
        self._do(
            lambda: self.review.use_stage(stage),
            lambda: [(n, difference(*pair)) for n, pair in enumerate(zip(before, self.review.masks(), strict=True))],
        )

    def undo(self) -> None:
        """Take the last step back; what was drawn since stays."""
        self.require_intact()
        if self.review.can_undo:
            self.review.undo()
            self._undone.append(self._done.pop())
            self._apply([patch.taken_back() for patch in self._undone[-1]], self._result_masks())

    def redo(self) -> None:
        """Take the step again that was taken back; what was drawn since stays."""
        self.require_intact()
        if self.review.can_redo:
            self.review.redo()
            self._done.append(self._undone.pop())
            self._apply(self._done[-1], self._result_masks())

    def _decide(self, step: Callable[[], None]) -> None:
        """Take a step about changes: only those count that it reverts, or not any more."""
        before = set(self.review.listed("reverted"))

        def touched() -> Touched:
            keys = before ^ set(self.review.listed("reverted"))
            return [(change.segment, change.region) for change in map(self.review.change, keys)]

        self._do(step, touched)

    def _do(self, step: Callable[[], None], touched: Callable[[], Touched]) -> None:
        """Take a step of the review, then change in the result what was touched, and nothing else."""
        self.require_intact()
        state = self.review.state
        step()
        if self.review.state != state:
            masks = self._result_masks()
            self._done.append(patches(masks, redrawn(masks, touched(), self.review.mask_of)))
            self._undone.clear()
            self._apply(self._done[-1], masks)

    def _apply(self, steps: Sequence[Patch], masks: Sequence[Region]) -> None:
        """Change the result, whose masks these are, show it, and save the review."""
        if steps:
            self._look.end()
            with slicer.util.NodeModify(self.result):
                for patch in steps:
                    mask = patch.applied(masks[patch.place])
                    put_mask(self.result, self._nodes.ids[patch.place], mask, self._nodes.grid)
            self._step_back()
        self._update_changes()
        self._save()

    def _result_masks(self) -> list[Region]:
        """Each segment's mask (bool) in the result: the node is the truth, as a person may draw in it."""
        return masks_on_grid(self.result, self._nodes.ids, same_place(), self._nodes.grid)

    def _save(self) -> None:
        self.result.SetAttribute(REVIEW, json.dumps(self.review.to_json()))

    def jump_to(self, key: str) -> None:
        """Bring a change to the middle of all slice views."""
        jump_to(self.result.GetScene(), self._world(self.review.change(key).centre))

    def _world(self, index: Sequence[int]) -> tuple[float, float, float]:
        """Where a voxel (I, J, K) of the result lies in the scene, RAS in mm, with its parent transform."""
        point = moved(ijk_to_ras(self._nodes.grid), np.array([index], float))
        r, a, s = Between(self.result, None)(point)[0].tolist()
        return r, a, s

    def slice_of(self, index: Sequence[int]) -> int:
        """The number, from 1, of the volume's slice in which a voxel (I, J, K) of the result lies."""
        found = self._volume_grid.to_index(self._nodes.grid.to_physical(index))
        return round(found[self._nodes.slice_axis]) + 1

    @property
    def given_masks(self) -> list[Region]:
        """Each refined segment's mask (bool) as it was given, on the volume's grid."""
        return self._on_volume(self._nodes.stages[0])

    def masks(self) -> list[Region]:
        """Each refined segment's mask (bool) in the result, also with what a person drew, on the volume's grid."""
        return self._on_volume(self._result_masks())

    def _on_volume(self, masks: Iterable[Region]) -> list[Region]:
        """Masks as they lie in the volume now; Slicer turns left-handed axes when it loads a scene."""
        grid, to_volume = grid_of(self.volume), Between(self.result, self.volume)
        found = [on_grid(labelmap_of(mask, self._nodes.grid), [1], to_volume, grid) for mask in masks]
        return [Region(labels.box, labels.values != 0) for labels in found]

    def save_csv(self, path: str | Path) -> None:
        """Write the review as a table; see `NoisyLabelSegLib.review.write_csv`."""
        write_csv(Path(path), self.review, self.names, lambda index: (self._world(index), self.slice_of(index)))

    def statistics_rows(self) -> list[Row]:
        """A row for each refined segment, of the result as it is now."""
        masks = self._nodes.stages[0], self._result_masks()
        return statistics_rows(self.names, *masks, self._nodes.grid, from_nothing=self.from_nothing)


def _review(nodes: SessionNodes) -> Review:
    """The review as the result's attribute has it, or a new one.

    It begins with what is doubtful where labels look wrong and where all is found, which may be wrong as a whole.
    """
    suspects = suspects_from(nodes.maps, nodes.ids, nodes.grid)
    doubtful_first = bool(suspects) or nodes.from_nothing
    uncertainty = suspects or uncertainty_from(nodes.maps, nodes.ids, nodes.grid)
    about = (nodes.ids, nodes.stages, nodes.grid.spacing, nodes.grid.size, uncertainty)
    text = nodes.result.GetAttribute(REVIEW)
    if text is None:
        return Review(*about, uncertain_first=doubtful_first)
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    return Review.from_json(content, *about, uncertain_first=doubtful_first)
