"""From an image and masks on their own grid to what a network was trained on, and exactly back.

The steps, all recorded in the bundle: axes into patient order, slices along the acquisition axis (2D models), a crop
around the mask with a margin, resampling, padding to the network's window, intensities. `Prepared.restore` undoes them
one by one, so that a result lies on the input's own grid to the last voxel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.inference.frame import Frame, oriented, resampled_grid
from NoisyLabelSegLib.inference.layout import Layout, times
from NoisyLabelSegLib.inference.recipe import Intensity, Preprocessing
from NoisyLabelSegLib.part import Part
from NoisyLabelSegLib.regions import Box, Region, intersection, is_empty, region_of, union


@dataclass(frozen=True)
class Prepared:
    """A crop ready for a network, and the way back.

    Attributes:
        voxels: the crop, (slices, rows, columns), in the image's own intensities.
        labels: uint8 of the same shape.
        intensities: the rule of each channel that turns voxels into the network's input.
        slice_axis: the voxel axis (0 = I, 1 = J, 2 = K) of the given image that became the slices.
        notes: what a person should know about the choices made.
        channels: the crop of each further channel, like `voxels`.
        window: what the network was trained on, voxels; of the last axes.
    """

    voxels: NDArray[Any]
    labels: NDArray[np.uint8]
    intensities: tuple[Intensity, ...]
    slice_axis: int
    notes: tuple[str, ...]
    frame: Frame
    channels: tuple[NDArray[Any], ...] = ()
    window: tuple[int, ...] = ()

    @property
    def image(self) -> NDArray[np.float32]:
        """The network's input, (channels, slices, rows, columns)."""
        both = zip(self.intensities, (self.voxels, *self.channels), strict=True)
        return np.stack([intensity(voxels) for intensity, voxels in both])

    def restore(self, values: NDArray[Any], fill: float = 0) -> sitk.Image:
        """Put an array of `voxels`' shape back on the given image's grid: see `Frame.restore`."""
        return self.frame.restore(values, fill)


def prepare(image: sitk.Image, labels: sitk.Image | Region, preprocessing: Preprocessing) -> Prepared:
    """Bring an image and a label map (on the same grid, or a region of it) to a network's input.

    The crop surrounds the labels' foreground; without any foreground it is the whole image.
    """
    labels = region_of(labels) if isinstance(labels, sitk.Image) else labels
    return prepare_part(Part.whole(image), labels, preprocessing)


def prepare_part(part: Part, labels: Region, preprocessing: Preprocessing) -> Prepared:
    """`prepare` for a part of the image, to the last bit as for the whole.

    Args:
        part: of the image; it holds the `needed_box` of the labels.
        labels: whole numbers, 0 is the background.
        preprocessing: the model's.
    """
    grid = part.grid
    layout = Layout.of(grid, preprocessing)
    box = layout.crop(labels.box)
    if intersection(part.voxels.box, box) != box:
        raise ValueError(f"The voxels {part.voxels.box} do not hold the crop {box}.")
    notes = [layout.note] if layout.note else []
    working = oriented(grid.crop(box), layout.permutation)
    if layout.resamples:
        working = resampled_grid(working, layout.spacing)
        notes.append(f"Worked at a spacing of {times(layout.spacing)} mm; the result is on the image's own grid.")
    frame = Frame(grid, layout.permutation, box, working, _padding(working.size[::-1], preprocessing))
    return Prepared(
        voxels=frame.bring(part.voxels, linear=True),
        labels=frame.bring(labels, linear=False).astype(np.uint8),
        intensities=preprocessing.intensities(1 + len(part.channels)),
        slice_axis=layout.axes[2][0],
        notes=tuple(notes),
        frame=frame,
        channels=tuple(frame.bring(channel, linear=True) for channel in part.channels),
        window=preprocessing.window,
    )


def needed_box(grid: Grid, masks: Sequence[Box], preprocessing: Preprocessing) -> Box:
    """What a model sees of an image, so that it need not be given more.

    Args:
        grid: of the whole image.
        masks: the box of each mask that is refined; empty ones do not count, without any the whole image is seen.
        preprocessing: the model's.
    """
    filled = [box for box in masks if not is_empty(box)]
    if not filled:
        return grid.whole_box()
    layout = Layout.of(grid, preprocessing)
    # A model of one structure sees each mask on its own, one of several all together.
    return union(layout.crop(box) for box in (*filled, union(filled)))


def _padding(shape: tuple[int, ...], preprocessing: Preprocessing) -> tuple[tuple[int, int], ...]:
    """Voxels to add before and after each array axis to reach the window and the multiple."""
    window = (0, *preprocessing.window) if preprocessing.dimensions == 2 else preprocessing.window
    padding = []
    for axis, (size, smallest) in enumerate(zip(shape, window, strict=True)):
        free = preprocessing.sliding or (preprocessing.dimensions == 2 and axis == 0)
        multiple = 1 if free else preprocessing.multiple
        missing = math.ceil(max(size, smallest) / multiple) * multiple - size
        padding.append((missing // 2, missing - missing // 2))
    return tuple(padding)
