"""One refinement as a person works with it: stages, review, maps and statistics, over the nodes of the scene."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from NoisyLabelSegLib.outcome import Outcome
from NoisyLabelSegLib.regions import Region, is_empty, union, within
from NoisyLabelSegLib.review import Review, write_csv
from NoisyLabelSegLib.segmentations import Segment
from NoisyLabelSegSlicer.appearance import step_back
from NoisyLabelSegSlicer.changes_node import ADDED_COLOR, REMOVED_COLOR, add_changes, put_changes
from NoisyLabelSegSlicer.labelmaps import labelmap_of, on_grid
from NoisyLabelSegSlicer.map_overlay import MapOverlay
from NoisyLabelSegSlicer.maps import uncertainty_from
from NoisyLabelSegSlicer.new_nodes import add_node, all_or_none
from NoisyLabelSegSlicer.provenance import read_provenance
from NoisyLabelSegSlicer.segments import segment_records
from NoisyLabelSegSlicer.session_nodes import (
    CHANGES,
    STATISTICS,
    SessionNodes,
    add_session_nodes,
    find_session_nodes,
    require_in_scene,
)
from NoisyLabelSegSlicer.shown_masks import ShownMasks
from NoisyLabelSegSlicer.statistics import Row, fill_table, statistics_rows
from NoisyLabelSegSlicer.transforms import Between, moved
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
    """

    def __init__(self, nodes: SessionNodes) -> None:
        self.result, self.volume, self.maps = nodes.result, nodes.volume, nodes.maps
        self.stages = len(nodes.stages) - 1
        self.review = _review(nodes)
        self.notes = nodes.notes + self.review.notes
        self._nodes = nodes
        self._masks = ShownMasks(nodes.result, nodes.grid, nodes.ids, nodes.stages)
        self._overlay = MapOverlay(nodes.result.GetScene())

    @classmethod
    def create(cls, volume: Any, given: Any | None, outcome: Outcome, roi: Any | None, keep_others: bool) -> Session:
        """Add the nodes of a refinement to the scene; if anything fails, the scene is as it was.

        Args:
            volume: the refined scalar volume node.
            given: the segmentation node that the masks came from; None when started from nothing.
            outcome: what the worker found.
            roi: Markups ROI node, outside of which nothing changes; None allows the whole volume.
            keep_others: whether no segment may grow into another one that was not refined.

        Raises:
            InputError: the volume or the given segmentation is not in the scene any more; see also `volumes.grid_of`
                and `region_of_interest.inside`.
        """
        require_in_scene(volume, given)
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
        return [segment.name for segment in self.segments]

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
        return self.review.stage if self._masks.stage is None else self._masks.stage

    def show_stage(self, stage: int) -> None:
        """Show a stage for a look, in all views at once; at the stage that counts as the result, the result."""
        if stage == self.review.stage:
            self._masks.show_result()
        else:
            self._masks.show_stage(stage)
        self._update_changes()

    def show_changes(self, on: bool) -> None:
        """Colour in what that which is shown differs from the given mask, or stop doing so."""
        node = self.result.GetNodeReference(CHANGES)
        if node is None and on:
            node = add_changes(self.result, self.volume)
            self.result.SetNodeReferenceID(CHANGES, node.GetID())
        if node is not None:
            node.GetDisplayNode().SetVisibility(on)
            self._step_back()
            self._update_changes()

    def _shown_changes(self) -> Any | None:
        node = self.result.GetNodeReference(CHANGES)
        return node if node is not None and node.GetDisplayNode().GetVisibility() else None

    def _step_back(self) -> None:
        changes = self._shown_changes() is not None
        step_back(self.result, self._nodes.ids, outlined=changes or self._overlay.is_shown, neutral=changes)

    def _update_changes(self) -> None:
        node = self._shown_changes()
        if node is not None:
            put_changes(node, self._nodes.stages[0], self._masks.shown(), self._nodes.grid)

    def show_map(self, node: Any | None, opacity: float = 0.5, threshold: float = 0.0, legend: bool = True) -> None:
        """Lay one of `maps` over the images where it is at least a threshold; None for none. See `MapOverlay`."""
        self._overlay.show(node, opacity, threshold, legend)
        self._step_back()

    def accept(self, keys: Iterable[str]) -> None:
        """Keep these changes; see `Review.accept`."""
        self._do(lambda: self.review.accept(keys))

    def revert(self, keys: Iterable[str]) -> None:
        """Put the given mask back in these places; see `Review.revert`."""
        self._do(lambda: self.review.revert(keys))

    def tick(self, keys: Iterable[str], on: bool = True) -> None:
        """Say that a person has seen these changes, or has not; see `Review.tick`."""
        self._do(lambda: self.review.tick(keys, on))

    def undo(self) -> None:
        """Take the last step back."""
        self._do(self.review.undo)

    def redo(self) -> None:
        """Take the step again that was taken back."""
        self._do(self.review.redo)

    def use_stage(self, stage: int) -> None:
        """Let another stage count as the result; what was drawn into the old one by hand is lost."""
        self._do(lambda: self.review.use_stage(stage))

    def _do(self, step: Callable[[], None]) -> None:
        """Take a step of the review, then change in the result what the step changed, and nothing else."""
        stage, reverted = self.review.stage, set(self.review.listed("reverted"))
        step()
        touched = reverted ^ set(self.review.listed("reverted"))
        if self.review.stage != stage:
            self._masks.replace(dict(enumerate(self.review.masks())))
        elif touched:
            self._masks.replace(self._redrawn(touched))
        if self.review.stage != stage or touched:
            self._update_changes()
        self._save()

    def _redrawn(self, keys: Iterable[str]) -> dict[int, Region]:
        """The result's masks, by the place of the segment, with some changes drawn anew as decided."""
        masks, changes = self._masks.result(), [self.review.change(key) for key in keys]
        drawn = {}
        for place in {change.segment for change in changes}:
            regions = [change.region for change in changes if change.segment == place]
            box = union((masks[place].box, *(region.box for region in regions)))
            values, decided = masks[place].cut(box), self.review.mask_of(place, box).values
            for region in regions:
                part = within(region.box, box)
                np.copyto(values[part], decided[part], where=region.values)
            drawn[place] = Region(box, values).trimmed()
        return drawn

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
        found = grid_of(self.volume).to_index(self._nodes.grid.to_physical(index))
        return round(found[self._nodes.slice_axis]) + 1

    @property
    def given_masks(self) -> list[Region]:
        """Each refined segment's mask (bool) as it was given, on the volume's grid."""
        return self._on_volume(self._nodes.stages[0])

    def masks(self) -> list[Region]:
        """Each refined segment's mask (bool) in the result, also with what a person drew, on the volume's grid."""
        return self._on_volume(self._masks.result())

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
        given = self._nodes.stages[0]
        nothing = all(is_empty(mask.box) for mask in given)
        return statistics_rows(self.names, given, self._masks.result(), self._nodes.grid, from_nothing=nothing)

    def statistics_table(self) -> Any:
        """The statistics in a table node, which is made when it is asked for first."""
        node = self.result.GetNodeReference(STATISTICS)
        if node is None:
            name = _("{name} statistics").format(name=self.result.GetName())
            node = add_node(self.result, "vtkMRMLTableNode", name)
            self.result.SetNodeReferenceID(STATISTICS, node.GetID())
        fill_table(node, self.statistics_rows())
        return node


def _review(nodes: SessionNodes) -> Review:
    """The review as the result's attribute has it, or a new one."""
    uncertainty = uncertainty_from(nodes.maps, nodes.ids, nodes.grid)
    about = (nodes.ids, nodes.stages, nodes.grid.spacing, nodes.grid.size, uncertainty)
    text = nodes.result.GetAttribute(REVIEW)
    if text is None:
        return Review(*about)
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    return Review.from_json(content, *about)
