"""What a person chose in the scene, as a request to the worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.inference.preprocessing import Preprocessing, needed_box
from NoisyLabelSegLib.regions import Region, is_empty
from NoisyLabelSegLib.segmentations import Segment
from NoisyLabelSegLib.worker.messages import Request
from NoisyLabelSegSlicer.region_of_interest import region_of_roi
from NoisyLabelSegSlicer.segments import masks_of_segments, segment_ids, segment_records
from NoisyLabelSegSlicer.translation import _
from NoisyLabelSegSlicer.volumes import grid_of, value_range, voxels_of

REGION = Segment("region of interest", 1, id="region_of_interest")
"""What a ROI is called in a request: its own name may say something about the patient."""


def make_request(
    volume: Any,
    segmentation: Any | None,
    ids: Sequence[str],
    roi: Any | None,
    description: Mapping[str, Any],
    device: str,
    stages: int | None,
) -> Request:
    """Take from the nodes what the model needs to see, and no more; the nodes stay as they are.

    Args:
        volume: scalar volume node.
        segmentation: segmentation node with the masks; None starts from nothing, over the whole volume. A model that
            segments takes none.
        ids: identifiers of the segments to be refined.
        roi: Markups ROI node, or None. A model that segments looks only there; of any other model it limits the result,
            outside of which nothing may change, not the request.
        description: the model's, as it is in its ``configs/model.json``.
        device, stages: see `Request`.

    Raises:
        InputError: a node cannot be used, no segment is chosen, the chosen ones have no voxel in the volume, or the ROI
            has none.
    """
    grid = grid_of(volume)
    masks: Sequence[Region] = ()
    segments: Sequence[Segment] = ()
    if segmentation is not None:
        masks, segments = _masks(volume, segmentation, ids), segment_records(segmentation, ids)
    if roi is not None:
        region = region_of_roi(roi, volume)  # one beside the volume is noticed now rather than after the computation
        if description["kind"] == "segment":
            masks, segments = [region], [REGION]
    return Request(
        kind=description["kind"],
        model=description["name"],
        device=device,
        stages=stages,
        grid=grid,
        voxels=voxels_of(volume, _box(grid, masks, description)),
        value_range=value_range(volume),
        segments=tuple(segments),
        masks=tuple(masks),
    )


def _masks(volume: Any, segmentation: Any, ids: Sequence[str]) -> list[Region]:
    name = segmentation.GetName()
    if not segment_ids(segmentation):
        raise InputError(
            _("'{name}' has no segments: draw one first, or choose another segmentation.").format(name=name)
        )
    if not ids:
        raise InputError(_("No segment of '{name}' is chosen: choose at least one.").format(name=name))
    masks = masks_of_segments(segmentation, ids, volume)
    if all(is_empty(mask.box) for mask in masks):
        text = _("The chosen segments of '{name}' have no voxel in '{volume}': draw something there, or choose others.")
        raise InputError(text.format(name=name, volume=volume.GetName()))
    return masks


def _box(grid: Grid, masks: Sequence[Region], description: Mapping[str, Any]) -> Any:
    preprocessing = Preprocessing.from_json(description["preprocessing"])
    return needed_box(grid, [mask.box for mask in masks], preprocessing)
