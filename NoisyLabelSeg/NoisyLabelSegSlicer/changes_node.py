"""What a refinement added and removed, as two segments that can be told apart without seeing colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer

from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.regions import Region, union, within
from NoisyLabelSegLib.segmentations import Color
from NoisyLabelSegSlicer.new_nodes import add_hidden_node
from NoisyLabelSegSlicer.segments import put_mask
from NoisyLabelSegSlicer.translation import _

# Blue and vermilion of Okabe and Ito's palette, Color Universal Design, 2008.
ADDED_COLOR: Color = (0.0, 0.447, 0.698)
REMOVED_COLOR: Color = (0.835, 0.369, 0.0)
ADDED, REMOVED = "Added", "Removed"


def add_changes(result: Any, volume: Any) -> Any:
    """A segmentation node "X changes" that nobody chooses or edits: added is filled, removed is a thick outline."""
    name = _("{name} changes").format(name=result.GetName())
    node = add_hidden_node(result, "vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for identifier, text, color in ((ADDED, _("Added"), ADDED_COLOR), (REMOVED, _("Removed"), REMOVED_COLOR)):
        node.GetSegmentation().AddEmptySegment(identifier, text, color)
    display = node.GetDisplayNode()
    display.SetSegmentOpacity2DFill(ADDED, 1.0)
    display.SetSegmentVisibility2DFill(REMOVED, False)
    display.SetSliceIntersectionThickness(3)
    return node


def put_changes(node: Any, before: Sequence[Region], after: Sequence[Region], grid: Grid) -> None:
    """Let the node show in what each segment's mask after differs from that before; of all segments together."""
    with slicer.util.NodeModify(node):
        put_mask(node, ADDED, _more(after, before), grid)
        put_mask(node, REMOVED, _more(before, after), grid)


def _more(masks: Sequence[Region], than: Sequence[Region]) -> Region:
    """Where a mask has voxels that its counterpart lacks."""
    box = union(mask.box for mask in masks)
    found = np.zeros([side.stop - side.start for side in box], bool)
    for mask, other in zip(masks, than, strict=True):
        found[within(mask.box, box)] |= mask.values & ~other.cut(mask.box)
    return Region(box, found).trimmed()
