"""A look at a stage: in a node of its own, so that the result stays what it is, whoever saves or refines it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import slicer

from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.regions import Region
from NoisyLabelSegSlicer.labelmaps import labelmap_of
from NoisyLabelSegSlicer.new_nodes import add_hidden_node
from NoisyLabelSegSlicer.segments import put_shape
from NoisyLabelSegSlicer.surfaces import SURFACE, surface_of

_LOOK = "NoisyLabelSeg.Look"


class StageLook:
    """Shows a stage's segments in the place of the result's.

    Attributes:
        stage: the one that is shown; None while it is the result.
        node: what shows it; None before the first look.

    Args:
        result: segmentation node with the result.
        grid: on which it lies.
        ids: the refined segments' identifiers.
        stages: for every stage each one's mask (bool).
    """

    def __init__(self, result: Any, grid: Grid, ids: Sequence[str], stages: Sequence[Sequence[Region]]) -> None:
        self.stage: int | None = None
        self.node: Any | None = None
        self._result, self._grid, self._ids, self._stages = result, grid, tuple(ids), stages
        self._surfaces: dict[tuple[int, str, str], Any] = {}
        if result.GetAttribute(_LOOK):  # the scene was saved during a look
            self._hide_result(False)

    def show(self, stage: int) -> None:
        """Show a stage. Its surface, where the 3D view has one of the result, is computed the first time only."""
        if self.node is None or self.node.GetScene() is None:
            self.node = self._add_node()
        with slicer.util.NodeModify(self.node):
            for identifier, mask in zip(self._ids, self._stages[stage], strict=True):
                labelmap = labelmap_of(mask, self._grid)
                put_shape(self.node, identifier, labelmap, self._surface(stage, identifier, labelmap))
        if self.stage is None:
            self._hide_result(True)
            self.node.SetDisplayVisibility(True)
        self.stage = stage

    def end(self) -> None:
        """Show the result again."""
        if self.stage is not None:
            self.stage = None
            if self.node is not None and self.node.GetScene():
                self.node.SetDisplayVisibility(False)
            self._hide_result(False)

    def _hide_result(self, on: bool) -> None:
        display = self._result.GetDisplayNode()
        with slicer.util.NodeModify(display):
            for identifier in self._ids:
                display.SetSegmentVisibility(identifier, not on)
        if on:
            self._result.SetAttribute(_LOOK, "1")
        else:
            self._result.RemoveAttribute(_LOOK)

    def _add_node(self) -> Any:
        """A hidden node like the result, with the refined segments alone, that is not saved."""
        node = add_hidden_node(self._result, "vtkMRMLSegmentationNode", f"{self._result.GetName()} stage")
        node.SetSaveWithScene(False)
        node.CreateDefaultDisplayNodes()
        node.SetAndObserveTransformNodeID(self._result.GetTransformNodeID())
        source = self._result.GetSegmentation()
        node.GetSegmentation().CopyConversionParameters(source)
        for identifier in self._ids:
            segment = slicer.vtkSegment()
            segment.DeepCopyMetadata(source.GetSegment(identifier))
            node.GetSegmentation().AddSegment(segment, identifier)
        display = node.GetDisplayNode()
        display.CopyContent(self._result.GetDisplayNode())
        display.SetSaveWithScene(False)
        display.SetVisibility(False)
        return node

    def _surface(self, stage: int, identifier: str, labelmap: Any) -> Any | None:
        segmentation = self._result.GetSegmentation()
        if not segmentation.ContainsRepresentation(SURFACE):
            return None
        # It also depends on how much the person lets it be smoothed.
        key = stage, identifier, segmentation.SerializeAllConversionParameters()
        if key not in self._surfaces:
            self._surfaces[key] = surface_of(labelmap, segmentation)
        return self._surfaces[key]
