"""A folder that `noisylabelseg uncertainty` or a training wrote, in the scene as if its result had just been found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.outcome import Outcome
from NoisyLabelSegLib.regions import is_empty
from NoisyLabelSegLib.saved_result import SavedResult, read_saved_result
from NoisyLabelSegLib.turning import turned, turned_axes
from NoisyLabelSegSlicer.new_nodes import all_or_none
from NoisyLabelSegSlicer.result_node import add_result
from NoisyLabelSegSlicer.session import Session
from NoisyLabelSegSlicer.translation import _
from NoisyLabelSegSlicer.volumes import grid_of


def open_saved_result(folder: Path, volume: Any | None) -> tuple[Session, Any | None, Outcome]:
    """Add the nodes of a result that is in a folder; if anything fails, the scene is as it was.

    Args:
        folder: see `NoisyLabelSegLib.saved_result`; nothing in it is changed.
        volume: the scalar volume node that is chosen. Where the result does not lie on its grid, the image is loaded
            that the folder names, if it is there.

    Returns:
        The session, the segmentation node with the given labels, which is None without any, and what was read.

    Raises:
        InputError: the folder holds no such result, or neither the volume nor a file is the image that it belongs to.
    """
    saved = read_saved_result(folder)
    with all_or_none(slicer.mrmlScene):
        chosen, axes = volume, _axes(saved, volume)
        if axes is None:
            volume = _load_image(saved)
            axes = _axes(saved, volume)
        if axes is None:
            text = _("'{file}' does not lie on the grid of the result in '{folder}': choose the right image as volume.")
            raise InputError(text.format(file=saved.image, folder=folder))
        outcome = turned(saved.outcome, saved.grid.size, axes)
        given = _add_given(volume, outcome)
        session = Session.create(volume, given, outcome, None, keep_others=False)
    if volume is not chosen:
        slicer.util.setSliceViewerLayers(background=volume, fit=True)
    return session, given, outcome


def _axes(saved: SavedResult, volume: Any | None) -> tuple[int, ...] | None:
    """See `turned_axes`; None where a volume cannot be what the result belongs to."""
    try:
        return None if volume is None else turned_axes(saved.grid, grid_of(volume))
    except InputError:
        return None


def _load_image(saved: SavedResult) -> Any:
    if saved.image is None:
        text = _(
            "The image of the result in '{folder}' is not beside it: load {name}, choose it as volume, open again."
        )
        raise InputError(text.format(folder=saved.folder, name=saved.image_name or _("it")))
    try:
        # Its own file alone: neighbours with numbers in their names are no slices of it.
        return slicer.util.loadVolume(str(saved.image), {"singleFile": True, "show": False})
    except RuntimeError as error:
        raise InputError(_("'{file}' could not be loaded.").format(file=saved.image)) from error


def _add_given(volume: Any, outcome: Outcome) -> Any | None:
    """A segmentation node with those segments that had a voxel; None without any."""
    pairs = zip(outcome.segments, outcome.stages[0], strict=True)
    masks = {segment.id: (segment, mask) for segment, mask in pairs if not is_empty(mask.box)}
    if not masks:
        return None
    node = add_result(volume, None, masks, grid_of(volume))
    node.SetName(volume.GetScene().GenerateUniqueName(_("{name} labels").format(name=volume.GetName())))
    return node
