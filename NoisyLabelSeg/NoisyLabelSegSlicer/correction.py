"""What a person corrected or drew, as a case to train on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from NoisyLabelSegLib.assembly import assemble
from NoisyLabelSegLib.correction_pairs import add_pair
from NoisyLabelSegLib.drawn_cases import add_drawings
from NoisyLabelSegLib.regions import Region
from NoisyLabelSegLib.segmentations import Segment, Segmentation
from NoisyLabelSegSlicer.segments import masks_of_segments, segment_ids, segment_records
from NoisyLabelSegSlicer.session import Session
from NoisyLabelSegSlicer.volumes import grid_of, view_of


def save_pair(session: Session, folder: Path, case_id: str, patient: str, *, overwrite: bool = False) -> None:
    """Add the volume, the given masks and the result as it is now to a training set; see `add_pair`."""
    segments = session.segments
    masks = [_on_grid_of(session.volume, segments, masks) for masks in (session.given_masks, session.masks())]
    add_pair(folder, case_id, patient, _image_of(session.volume), *masks, overwrite=overwrite)


def save_drawings(
    volume: Any, segmentation: Any, folder: Path, case_id: str, patient: str, *, overwrite: bool = False
) -> None:
    """Add a volume and what all segments of a segmentation node say of it to a training set; see `add_drawings`."""
    ids = segment_ids(segmentation)
    masks = masks_of_segments(segmentation, ids, volume)
    drawn = _on_grid_of(volume, segment_records(segmentation, ids), masks)
    add_drawings(folder, case_id, patient, _image_of(volume), drawn, overwrite=overwrite)


def _image_of(volume: Any) -> sitk.Image:
    return grid_of(volume).image(view_of(volume.GetImageData()))


def _on_grid_of(volume: Any, segments: Sequence[Segment], masks: Sequence[Region]) -> Segmentation:
    like = Segmentation(grid_of(volume).empty_image(), tuple(segments))
    return assemble(masks, like) if masks else like
