"""What the refined segments of a result node are at the moment, changed as fast as a slider moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import slicer

from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.regions import Region
from NoisyLabelSegSlicer.labelmaps import labelmap_of
from NoisyLabelSegSlicer.segments import masks_on_grid, put_mask, put_shape
from NoisyLabelSegSlicer.surfaces import SURFACE, surface_of
from NoisyLabelSegSlicer.transforms import same_place


class ShownMasks:
    """The result, or a stage for a look while the result is kept aside.

    The node is the truth about the result: what a person draws there by hand belongs to it.

    Attributes:
        stage: the one that is shown; None while it is the result.

    Args:
        node: the result.
        grid: on which it lies.
        ids: the refined segments' identifiers.
        stages: for every stage each one's mask (bool).
    """

    def __init__(self, node: Any, grid: Grid, ids: Sequence[str], stages: Sequence[Sequence[Region]]) -> None:
        self._node, self._grid, self._ids, self._stages = node, grid, tuple(ids), stages
        self.stage: int | None = None
        self._kept: list[Region] = []
        self._surfaces: dict[tuple[int | None, str, str], Any] = {}

    def shown(self) -> list[Region]:
        """Each segment's mask (bool) as it is shown."""
        return masks_on_grid(self._node, self._ids, same_place(), self._grid)

    def result(self) -> list[Region]:
        """Each segment's mask (bool) in the result, whatever is shown."""
        return self.shown() if self.stage is None else list(self._kept)

    def show_stage(self, stage: int) -> None:
        """Show a stage. Its surface, where the 3D view has one, is computed the first time only."""
        if self.stage is None:
            self._kept = self.shown()
            for identifier in self._ids:
                surface = self._node.GetSegmentation().GetSegment(identifier).GetRepresentation(SURFACE)
                self._surfaces[self._key(None, identifier)] = surface
        self._put(stage, self._stages[stage])
        self.stage = stage

    def show_result(self) -> None:
        """Show the result again."""
        if self.stage is not None:
            self._put(None, self._kept)
            self.stage, self._kept = None, []

    def replace(self, masks: Mapping[int, Region]) -> None:
        """Make masks (bool), by the place of the segment, the result, and show it."""
        self.show_result()
        with slicer.util.NodeModify(self._node):
            for place, mask in masks.items():
                put_mask(self._node, self._ids[place], mask, self._grid)

    def _put(self, stage: int | None, masks: Sequence[Region]) -> None:
        """Show masks together with their surfaces; the stage is None for the result."""
        segmentation = self._node.GetSegmentation()
        with slicer.util.NodeModify(self._node):
            for identifier, mask in zip(self._ids, masks, strict=True):
                labelmap, surface = labelmap_of(mask, self._grid), None
                if segmentation.ContainsRepresentation(SURFACE):
                    key = self._key(stage, identifier)
                    surface = self._surfaces.get(key) or surface_of(labelmap, segmentation)
                    self._surfaces[key] = surface
                put_shape(self._node, identifier, labelmap, surface)

    def _key(self, stage: int | None, identifier: str) -> tuple[int | None, str, str]:
        """A surface also depends on how much the person lets it be smoothed."""
        return stage, identifier, self._node.GetSegmentation().SerializeAllConversionParameters()
