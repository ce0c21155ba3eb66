"""A report's pictures: the slices that tell most, each stage's outline, what was added and removed, as PNG files."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from NoisyLabelSegLib.result import Result
from NoisyLabelSegLib.segmentations import Segment

PICTURE_PIXELS = 240
SLICES_SHOWN = 4
MINIMUM_CROP_VOXELS = 48
HATCH_PIXELS = 7

# Pictures are indexed by a palette: grey levels first, then colours of Okabe and Ito (Color Universal Design, 2008),
# which colour-blind readers can tell apart.
GREY_LEVELS = 248
OUTLINE, HALO, KEPT, ADDED, REMOVED = range(GREY_LEVELS, GREY_LEVELS + 5)
COLOURS = {OUTLINE: "#F0E442", HALO: "#000000", KEPT: "#FFFFFF", ADDED: "#0072B2", REMOVED: "#E69F00"}
PALETTE = bytes(round(level * 255 / (GREY_LEVELS - 1)) for level in range(GREY_LEVELS) for _ in "RGB") + b"".join(
    bytes.fromhex(COLOURS[index][1:]) for index in sorted(COLOURS)
)

Mask = NDArray[np.bool_]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Plane:
    """The working plane as radiologists hang it: the patient's right or front on the left, front or head at the top."""

    name: str
    axis: int
    rows: int
    columns: int
    top: str
    bottom: str
    left: str
    right: str

    def array(self, image: sitk.Image) -> NDArray[Any]:
        """The voxels as (slice, row, column), rows downwards, columns to the right."""
        array = np.moveaxis(sitk.GetArrayFromImage(sitk.DICOMOrient(image, "LPS")), 2 - self.axis, 0)
        return array if self.top == "A" else array[:, ::-1]


_PLANES = (
    Plane("Sagittal", axis=0, rows=2, columns=1, top="S", bottom="I", left="A", right="P"),
    Plane("Coronal", axis=1, rows=2, columns=0, top="S", bottom="I", left="R", right="L"),
    Plane("Axial", axis=2, rows=1, columns=0, top="A", bottom="P", left="R", right="L"),
)


@dataclass(frozen=True)
class View:
    """The image as seen in its working plane; spacing is that of rows and columns, in mm."""

    plane: Plane
    image: NDArray[Any]
    spacing: tuple[float, float]
    flipped: bool

    @classmethod
    def of(cls, result: Result) -> View:
        orient = sitk.DICOMOrientImageFilter()
        orient.SetDesiredCoordinateOrientation("LPS")
        spacing = orient.Execute(result.image).GetSpacing()
        plane = _PLANES[orient.GetPermuteOrder().index(result.slice_axis)]
        steps = (spacing[plane.rows], spacing[plane.columns])
        return cls(plane, plane.array(result.image), steps, bool(orient.GetFlipAxes()[plane.axis]))

    def number(self, index: int) -> int:
        """The number, from 1, that a slice has on the image's own grid."""
        return len(self.image) - index if self.flipped else index + 1


@dataclass(frozen=True)
class HungMasks:
    """One segment's masks as (slice, row, column), a stage each."""

    segment: Segment
    stages: tuple[Mask, ...]

    @classmethod
    def of(cls, result: Result, order: int, plane: Plane) -> HungMasks:
        stages = tuple(plane.array(stage.mask(stage.segments[order])) > 0 for stage in result.stages)
        return cls(result.stages[0].segments[order], stages)

    def counts(self, where: Any = ...) -> tuple[int, int]:
        """Voxels added and removed from the given mask to the result."""
        before, after = self.stages[0][where], self.stages[-1][where]
        return int(np.count_nonzero(after & ~before)), int(np.count_nonzero(before & ~after))


@dataclass(frozen=True)
class SlicePictures:
    """One slice of one segment.

    Attributes:
        number: the slice on the image's own grid, from 1.
        added, removed: voxels of this slice that differ between the given mask and the result.
        files: PNG files: the image, the outline of each stage, the difference.
    """

    number: int
    added: int
    removed: int
    files: tuple[bytes, ...]


def slice_pictures(view: View, hung: HungMasks) -> Iterator[SlicePictures]:
    """The slices that tell most about one segment, in the order of their numbers."""
    chosen = sorted(_telling_slices(hung.stages), key=view.number)
    rows, columns = crop(np.logical_or.reduce(hung.stages).any(axis=0), view.spacing)
    greys = grey_levels(view.image[chosen, rows, columns])
    for index, plane_grey in zip(chosen, greys, strict=True):
        grey = enlarge(plane_grey, view.spacing)
        masks = [enlarge(stage[index, rows, columns], view.spacing) for stage in hung.stages]
        drawings = (grey, *(_outlined(grey, mask) for mask in masks), _difference(grey, masks[0], masks[-1]))
        yield SlicePictures(view.number(index), *hung.counts(index), tuple(map(encode_png, drawings)))


def _telling_slices(masks: Sequence[Mask], count: int = SLICES_SHOWN) -> list[int]:
    """Where most was given, where most changes, then others kept apart from these; the middle one if all are empty."""
    changed = np.count_nonzero(masks[0] ^ masks[-1], axis=(1, 2))
    area = np.count_nonzero(np.logical_or.reduce(masks), axis=(1, 2))
    occupied = np.flatnonzero(area)
    if not occupied.size:
        return [len(area) // 2]
    by_change = occupied[np.lexsort((-area[occupied], -changed[occupied]))]
    given = np.count_nonzero(masks[0], axis=(1, 2))
    most_given = [int(np.lexsort((-changed, -given))[0])] if given.any() else []
    gap = max(1, occupied.size // (2 * count))
    chosen = list(dict.fromkeys([*most_given, int(by_change[0])]))
    for index in (np.argmax(area), *by_change[1:]):
        if len(chosen) < count and all(abs(int(index) - other) >= gap for other in chosen):
            chosen.append(int(index))
    return chosen


def crop(footprint: Mask, spacing: tuple[float, float]) -> tuple[slice, slice]:
    """A window around the footprint with a margin, square in millimetres where the plane is large enough."""
    occupied = [np.flatnonzero(footprint.any(axis=1 - axis)) for axis in (0, 1)]
    if not occupied[0].size:
        return slice(None), slice(None)
    extents = [(voxels[-1] - voxels[0] + 1) * step for voxels, step in zip(occupied, spacing, strict=True)]
    side = max(MINIMUM_CROP_VOXELS * min(spacing), 1.5 * max(extents))
    window = []
    for voxels, step, length in zip(occupied, spacing, footprint.shape, strict=True):
        size = min(length, math.ceil(side / step))
        start = round((voxels[0] + voxels[-1] + 1 - size) / 2)
        start = min(max(start, 0), length - size)
        window.append(slice(start, start + size))
    return window[0], window[1]


def enlarge(plane: NDArray[Any], spacing: tuple[float, float]) -> NDArray[Any]:
    """Nearest neighbour onto square pixels, the longer side PICTURE_PIXELS long."""
    millimetres = [length * step for length, step in zip(plane.shape, spacing, strict=True)]
    pixels = [max(1, round(PICTURE_PIXELS * length / max(millimetres))) for length in millimetres]
    nearest = [((np.arange(n) + 0.5) * length / n).astype(int) for n, length in zip(pixels, plane.shape, strict=True)]
    return plane[np.ix_(*nearest)]


def inner_edge(mask: Mask, pixels: int = 2) -> Mask:
    return mask & ~ndimage.binary_erosion(mask, iterations=pixels)


def _outlined(grey: Pixels, mask: Mask) -> Pixels:
    """The picture with the mask's outline; the dark halo keeps it visible on bright tissue."""
    picture = grey.copy()
    picture[ndimage.binary_dilation(mask) & ~mask] = HALO
    picture[inner_edge(mask)] = OUTLINE
    return picture


def _difference(grey: Pixels, before: Mask, after: Mask) -> Pixels:
    """Kept, added and removed; the last two are hatched in opposite ways, so that a grey print tells them apart."""
    rows, columns = np.indices(grey.shape)
    added, removed = after & ~before, before & ~after
    picture = grey.copy()
    picture[ndimage.binary_dilation(before | after) & ~(before | after)] = HALO
    picture[inner_edge(before & after, 3)] = HALO  # the inner third pixel of it stays, for white on bright tissue
    picture[inner_edge(before & after)] = KEPT
    picture[inner_edge(added) | (added & ((rows + columns) % HATCH_PIXELS == 0))] = ADDED
    picture[inner_edge(removed) | (removed & ((rows - columns) % HATCH_PIXELS == 0))] = REMOVED
    return picture


def grey_levels(planes: NDArray[Any]) -> Pixels:
    """The 1st to 99th percentile of the planes as grey levels."""
    low, high = np.percentile(planes, (1, 99))
    scaled = (planes.astype(np.float64) - low) / ((high - low) or 1.0)
    return np.asarray(np.clip(scaled, 0, 1) * (GREY_LEVELS - 1), dtype=np.uint8)


def encode_png(pixels: Pixels) -> bytes:
    """An 8-bit PNG (ISO/IEC 15948); our own, because no library we need otherwise encodes one.

    Args:
        pixels: indices of our palette (rows, columns), or red, green and blue (rows, columns, 3).
    """

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = pixels.shape[:2]
    indexed = pixels.ndim == 2
    header = struct.pack(">IIBBBBB", width, height, 8, 3 if indexed else 2, 0, 0, 0)
    # Each line starts with its filter type, 0: none.
    lines = np.pad(pixels.reshape(height, -1), ((0, 0), (1, 0))).tobytes()
    palette = [(b"PLTE", PALETTE)] if indexed else []
    chunks = ((b"IHDR", header), *palette, (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in chunks)
