"""All stages of a refinement in one hidden segmentation node, so that they come back with the scene."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import slicer

from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.regions import Region
from NoisyLabelSegSlicer.labelmaps import labelmap_of
from NoisyLabelSegSlicer.new_nodes import add_hidden_node
from NoisyLabelSegSlicer.segments import masks_on_grid, segment_ids
from NoisyLabelSegSlicer.surfaces import LABELMAP
from NoisyLabelSegSlicer.transforms import same_place


def add_stages(volume: Any, name: str, ids: Sequence[str], stages: Sequence[Sequence[Region]], grid: Grid) -> Any:
    """A hidden node with a segment ``stage3/<segment id>`` for each stage and segment.

    Args:
        volume: scalar volume node.
        name: of the new node.
        ids: the segments' identifiers.
        stages: for every stage, the given one first, each segment's mask (bool).
        grid: the volume's.
    """
    node = add_hidden_node(volume, "vtkMRMLSegmentationNode", name)
    # With a display node: a node without one gets a visible one when the scene is loaded.
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetVisibility(False)
    node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    node.AddDefaultStorageNode()
    node.GetStorageNode().SetCropToMinimumExtent(True)
    with slicer.util.NodeModify(node):
        for number, stage in enumerate(stages):
            for identifier, mask in zip(ids, stage, strict=True):
                segment = slicer.vtkSegment()
                segment.SetName(_id(number, identifier))
                segment.AddRepresentation(LABELMAP, labelmap_of(mask, grid))
                node.GetSegmentation().AddSegment(segment, _id(number, identifier))
    return node


def read_stages(node: Any, grid: Grid) -> tuple[tuple[str, ...], tuple[tuple[Region, ...], ...]] | None:
    """The segments' identifiers, and for every stage each one's mask (bool); None where the node is not complete.

    Args:
        node: of `add_stages`.
        grid: that was given there. The volume's own may lie otherwise by now: Slicer turns left-handed axes on loading.
    """
    found = segment_ids(node)
    ids = tuple(identifier.split("/", 1)[1] for identifier in found if identifier.startswith(_id(0, "")))
    count = len(found) // len(ids) if ids else 0
    stages = [[_id(number, identifier) for identifier in ids] for number in range(count)]
    if not ids or sorted(found) != sorted(identifier for stage in stages for identifier in stage):
        return None
    return ids, tuple(tuple(masks_on_grid(node, stage, same_place(), grid)) for stage in stages)


def _id(stage: int, identifier: str) -> str:
    return f"stage{stage}/{identifier}"
