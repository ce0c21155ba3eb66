"""The segments of a segmentation node: their masks on a volume's grid, what they are, and new masks for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import slicer
import vtk

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.regions import Region
from NoisyLabelSegLib.segmentations import Segment
from NoisyLabelSegSlicer.labelmaps import labelmap_of, on_grid
from NoisyLabelSegSlicer.surfaces import LABELMAP, SURFACE, surface_of, voxelised
from NoisyLabelSegSlicer.transforms import Between, same_place
from NoisyLabelSegSlicer.translation import _
from NoisyLabelSegSlicer.volumes import grid_of


def segment_ids(node: Any) -> list[str]:
    """The identifiers of all segments in their order."""
    segmentation = node.GetSegmentation()
    return [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]


def segment_records(node: Any, ids: Iterable[str]) -> tuple[Segment, ...]:
    """Name, colour, identifier and terminology of segments; labels are 1 … N.

    Raises:
        InputError: a segment is not there any more.
    """
    segments = [(identifier, _segment(node, identifier)) for identifier in ids]
    return tuple(
        Segment(segment.GetName() or "", n, 0, segment.GetColor(), identifier, terminology_of(segment))
        for n, (identifier, segment) in enumerate(segments, 1)
    )


def terminology_of(segment: Any) -> str:
    """A vtkSegment's tag TerminologyEntry; empty where it has none."""
    value = vtk.reference("")
    return str(value) if segment.GetTag(segment.GetTerminologyEntryTagName(), value) else ""


def masks_of_segments(node: Any, ids: Sequence[str], volume: Any) -> list[Region]:
    """Each segment's mask (bool) on the volume's own grid, in the smallest box around it; the node stays as it is.

    Both parent transforms are honoured. What lies outside of the volume is left out. Segments that are not labelmaps
    are made ones on the volume's lattice.

    Raises:
        InputError: a segment is not there any more or cannot be made a labelmap; see also `volumes.grid_of`.
    """
    return masks_on_grid(node, ids, Between(node, volume), grid_of(volume))


def masks_on_grid(node: Any, ids: Sequence[str], to_grid: Between, grid: Grid) -> list[Region]:
    """`masks_of_segments` on any grid; ``to_grid`` leads from the node's coordinates to those of the grid."""
    found = [labels_on_grid(node, [identifier], to_grid, grid) for identifier in ids]
    return [Region(labels.box, labels.values != 0) for labels in found]


def labels_on_grid(node: Any, ids: Sequence[str], to_grid: Between, grid: Grid) -> Region:
    """As `masks_on_grid`, but the labels (see `label_of`) of segments of one layer (see `layers`); 0 elsewhere."""
    segments = [_segment(node, identifier) for identifier in ids]
    if _are_labelmaps(node):
        return on_grid(segments[0].GetRepresentation(LABELMAP), [s.GetLabelValue() for s in segments], to_grid, grid)
    return on_grid(voxelised(node.GetSegmentation(), ids[0], to_grid, grid), [1], same_place(), grid)


def layers(node: Any, ids: Iterable[str]) -> list[list[str]]:
    """Segments that share a labelmap together, others each on its own; in the order in which the first ones come."""
    found: dict[Any, list[str]] = {}
    for identifier in ids:
        key = _segment(node, identifier).GetRepresentation(LABELMAP) if _are_labelmaps(node) else identifier
        found.setdefault(key, []).append(identifier)
    return list(found.values())


def label_of(node: Any, identifier: str) -> int:
    """The voxel value that stands for a segment in `labels_on_grid`."""
    return int(_segment(node, identifier).GetLabelValue()) if _are_labelmaps(node) else 1


def _are_labelmaps(node: Any) -> bool:
    return bool(node.GetSegmentation().GetSourceRepresentationName() == LABELMAP)


def _segment(node: Any, identifier: str) -> Any:
    segment = node.GetSegmentation().GetSegment(identifier)
    if segment is None:
        text = _("The segment '{id}' is no longer in '{name}': choose the segments again.")
        raise InputError(text.format(id=identifier, name=node.GetName()))
    return segment


def put_mask(node: Any, identifier: str, region: Region, grid: Grid) -> None:
    """Give a segment of our own node another mask: a labelmap of the region's box, never of the whole grid.

    A closed surface that the node shows is made anew. Everybody who watches the node is told once.

    Args:
        node: segmentation node under the volume's parent transform, whose source representation is the labelmap.
        identifier: the segment's.
        region: the mask, bool.
        grid: the volume's.
    """
    labelmap = labelmap_of(region, grid)
    segmentation = node.GetSegmentation()
    shown = segmentation.ContainsRepresentation(SURFACE)
    put_shape(node, identifier, labelmap, surface_of(labelmap, segmentation) if shown else None)


def put_shape(node: Any, identifier: str, labelmap: Any, surface: Any | None) -> None:
    """Give a segment of our own node another labelmap, of 0 and 1, and the closed surface that belongs to it."""
    segmentation = node.GetSegmentation()
    with slicer.util.NodeModify(node):
        # Saving lets segments share labelmaps; the others would keep this one's old voxels in theirs.
        segmentation.SeparateSegmentLabelmap(identifier)
        segment = _segment(node, identifier)
        segment.SetLabelValue(1)
        # New objects rather than new content: a change of content would drop the surfaces of all segments.
        segment.AddRepresentation(LABELMAP, labelmap)
        if surface is not None:
            segment.AddRepresentation(SURFACE, surface)
        segmentation.InvokeEvent(slicer.vtkSegmentation.SourceRepresentationModified, identifier)
        segmentation.InvokeEvent(slicer.vtkSegmentation.RepresentationModified, identifier)
