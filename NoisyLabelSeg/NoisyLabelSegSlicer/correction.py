"""What a person corrected, as a case to train on."""

from __future__ import annotations

from pathlib import Path

from NoisyLabelSegLib.assembly import assemble
from NoisyLabelSegLib.correction_pairs import add_pair
from NoisyLabelSegLib.segmentations import Segmentation
from NoisyLabelSegSlicer.session import Session
from NoisyLabelSegSlicer.volumes import grid_of, view_of


def save_pair(session: Session, folder: Path, case_id: str, patient: str, *, overwrite: bool = False) -> None:
    """Add the volume, the given masks and the result as it is now to a training set; see `add_pair`."""
    grid = grid_of(session.volume)
    like = Segmentation(grid.empty_image(), session.segments)
    image = grid.image(view_of(session.volume.GetImageData()))
    masks = [assemble(masks, like) for masks in (session.given_masks, session.masks())]
    add_pair(folder, case_id, patient, image, *masks, overwrite=overwrite)
