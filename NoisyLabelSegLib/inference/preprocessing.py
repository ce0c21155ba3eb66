"""From an image and masks on their own grid to what a network was trained on, and exactly back.

The steps, all recorded in the bundle: axes into patient order, slices along the acquisition axis (2D models), a crop
around the mask with a margin, resampling, padding to the network's window, intensities. `Prepared.restore` undoes them
one by one, so that a result lies on the input's own grid to the last voxel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from NoisyLabelSegLib.bundle.strict_json import convert
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.regions import Box, Region, is_empty, region_of

AXIS_NAMES = ("sagittal", "coronal", "axial")
HAIR = 1e-3  # Of a voxel.
ANISOTROPY = 1.25  # Above this ratio of spacings the coarsest axis is taken for the one the scanner stepped along.


@dataclass(frozen=True)
class Intensity:
    """How intensities are brought to the network's range.

    Attributes:
        rule: "min-max" maps the region's minimum and maximum to 0 and 1; "z-score" subtracts the mean and divides by
            the standard deviation; "window" maps `low` ... `high` to 0 ... 1 and clips.
        scope: the region that is measured: each "slice" of the crop, or the whole crop ("case").
        low, high: the window, in the image's unit (HU for CT).
        mean, std: a training set's statistics for "z-score", used instead of measuring (the paper's way).
    """

    rule: Literal["min-max", "z-score", "window"] = "z-score"
    scope: Literal["slice", "case"] = "case"
    low: float | None = None
    high: float | None = None
    mean: float | None = None
    std: float | None = None

    def __post_init__(self) -> None:
        if self.rule not in ("min-max", "z-score", "window") or self.scope not in ("slice", "case"):
            raise InputError(f"There is no intensity rule '{self.rule}' over a '{self.scope}'.")
        given = [value for value in (self.low, self.high, self.mean, self.std) if value is not None]
        if not all(isinstance(value, (int, float)) and math.isfinite(value) for value in given):
            raise InputError("The intensity rule's low, high, mean and std must be finite numbers.")
        if self.rule == "window" and (self.low is None or self.high is None or not self.low < self.high):
            raise InputError("The intensity rule 'window' needs low < high.")
        if (self.mean is None) != (self.std is None) or (self.std is not None and self.std <= 0):
            raise InputError("The intensity rule 'z-score' takes mean and a positive std together.")

    def __call__(self, voxels: NDArray[Any]) -> NDArray[np.float32]:
        """Map an array (slices first) of any numeric type; a constant region becomes zeros."""
        voxels = voxels.astype(np.float32)
        if self.rule == "window":
            assert self.low is not None and self.high is not None
            return np.clip((voxels - self.low) / (self.high - self.low), 0, 1)
        axes = tuple(range(1, voxels.ndim)) if self.scope == "slice" else tuple(range(voxels.ndim))
        if self.rule == "min-max":
            shift = voxels.min(axis=axes, keepdims=True)
            scale = voxels.max(axis=axes, keepdims=True) - shift
        elif self.mean is not None and self.std is not None:
            return np.asarray((voxels - self.mean) / self.std, np.float32)
        else:
            shift, scale = voxels.mean(axis=axes, keepdims=True), voxels.std(axis=axes, keepdims=True)
        # The mean of equal values may be rounded: their standard deviation is then not quite zero.
        constant = voxels.min(axis=axes, keepdims=True) == voxels.max(axis=axes, keepdims=True)
        return np.where(constant, np.float32(0), (voxels - shift) / np.where(constant, np.float32(1), scale))


@dataclass(frozen=True)
class Preprocessing:
    """A model's preprocessing, as its bundle records it.

    Attributes:
        dimensions: 2 for a slice-wise network, 3 for a volumetric one.
        window: smallest crop in working voxels: (rows, columns) in 2D, (slices, rows, columns) in 3D.
        margin: working voxels kept around the mask on each side; across the slices of a 2D model a quarter of it
            (``margin // 4``) of the image's own slices.
        spacing: working spacing in mm along the axes of `window`; empty keeps the image's own.
        multiple: crop sizes are rounded up to this.
        intensity: see `Intensity`.
    """

    dimensions: Literal[2, 3]
    window: tuple[int, ...]
    margin: int = 8
    spacing: tuple[float, ...] = ()
    multiple: int = 16
    intensity: Intensity = field(default_factory=Intensity)

    def __post_init__(self) -> None:
        if self.dimensions not in (2, 3):
            raise InputError(f"Preprocessing has 2 or 3 dimensions, not {self.dimensions}.")
        if len(self.window) != self.dimensions or not all(1 <= size <= 1024 for size in self.window):
            raise InputError(f"The window {list(self.window)} does not fit {self.dimensions} dimensions.")
        if self.spacing and (len(self.spacing) != self.dimensions or not all(0.01 <= s <= 100 for s in self.spacing)):
            raise InputError(f"The spacing {list(self.spacing)} mm does not fit {self.dimensions} dimensions.")
        if not (0 <= self.margin <= 512 and 1 <= self.multiple <= 256):
            raise InputError(f"A margin of {self.margin} and sizes in multiples of {self.multiple} are out of range.")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Preprocessing:
        """Read a bundle's mapping; an unknown, missing or wrong key is an `InputError`."""
        return convert(cls, dict(values), "The preprocessing")


@dataclass(frozen=True)
class Prepared:
    """A crop ready for a network, and the way back.

    Attributes:
        voxels: the crop, (slices, rows, columns), in the image's own intensities.
        labels: uint8 of the same shape.
        intensity: the rule that turns voxels into the network's input.
        slice_axis: the voxel axis (0 = I, 1 = J, 2 = K) of the given image that became the slices.
        notes: what a person should know about the choices made.
    """

    voxels: NDArray[Any]
    labels: NDArray[np.uint8]
    intensity: Intensity
    slice_axis: int
    notes: tuple[str, ...]
    frame: Frame

    @property
    def image(self) -> NDArray[np.float32]:
        """The network's input, float32, of the shape of `voxels`."""
        return self.intensity(self.voxels)

    def restore(self, values: NDArray[Any], fill: float = 0) -> sitk.Image:
        """Put an array of `voxels`' shape back on the given image's grid: see `Frame.restore`."""
        return self.frame.restore(values, fill)


@dataclass(frozen=True)
class Frame:
    """Where a crop lies in the image it was taken from: brings images of that grid into the crop, and arrays back.

    Attributes:
        given: the image whose grid counts (its voxels are not used).
        permutation: order of the patient axes L, P, S in the working frame; the last one holds the slices.
        start, size: the crop in the given image, IJK.
        working: an image with the crop's working grid (its voxels are not used).
        padding: voxels before and after each array axis.
    """

    given: sitk.Image
    permutation: tuple[int, ...]
    start: tuple[int, ...]
    size: tuple[int, ...]
    working: sitk.Image
    padding: tuple[tuple[int, int], ...]

    @property
    def box(self) -> Box:
        """The crop in the given image's array."""
        return tuple(slice(s, s + n) for s, n in zip(self.start[::-1], self.size[::-1], strict=True))

    def bring(self, image: sitk.Image, *, linear: bool) -> NDArray[Any]:
        """Crop an image of the given grid as an array (slices, rows, columns); label maps are padded with 0."""
        return self._bring(sitk.RegionOfInterest(image, self.size, self.start), linear)

    def bring_labels(self, labels: Region) -> NDArray[np.uint8]:
        """Crop a label map of the given grid, as `bring` does."""
        crop = sitk.GetImageFromArray(labels.cut(self.box))
        crop.CopyInformation(self._crop_grid())
        return self._bring(crop, linear=False).astype(np.uint8)

    def _bring(self, crop: sitk.Image, linear: bool) -> NDArray[Any]:
        region = orient(crop, self.permutation)
        if not _same_lattice(region, self.working):
            region = sitk.Cast(region, sitk.sitkFloat32) if linear else region
            region = _resample(region, self.working, sitk.sitkLinear if linear else sitk.sitkNearestNeighbor)
        voxels = sitk.GetArrayFromImage(region)
        return np.pad(voxels, self.padding, mode="edge") if linear else np.pad(voxels, self.padding)

    def restore(self, values: NDArray[Any], fill: float = 0) -> sitk.Image:
        """Put a crop's array back on the given image's grid, ``fill`` outside the crop.

        Floating-point maps are interpolated linearly where the working grid differs from the given one, others by
        nearest neighbour.
        """
        region = self._restore(values)
        whole = sitk.Image(self.given.GetSize(), region.GetPixelID())
        whole = sitk.Paste(whole + fill if fill else whole, region, region.GetSize(), (0, 0, 0), self.start)
        whole.CopyInformation(self.given)
        return whole

    def restore_region(self, values: NDArray[Any]) -> Region:
        """`restore`, but only the crop's box."""
        return Region(self.box, sitk.GetArrayFromImage(self._restore(values)))

    def _restore(self, values: NDArray[Any]) -> sitk.Image:
        """An array of the crop as an image with the crop's voxels of the given grid."""
        inner = tuple(slice(low, size - high) for (low, high), size in zip(self.padding, values.shape, strict=True))
        region = sitk.GetImageFromArray(np.ascontiguousarray(values[inner]))
        region.CopyInformation(self.working)
        grid = orient(self._crop_grid(), self.permutation)
        if not _same_lattice(region, grid):
            linear = np.issubdtype(values.dtype, np.floating)
            region = _resample(region, grid, sitk.sitkLinear if linear else sitk.sitkNearestNeighbor)
        inverse = tuple(int(i) for i in np.argsort(self.permutation))
        return sitk.DICOMOrient(sitk.PermuteAxes(region, inverse), _orientation(self.given))

    def _crop_grid(self) -> sitk.Image:
        return sitk.RegionOfInterest(self.given, self.size, self.start)


def orient(image: sitk.Image, permutation: Sequence[int]) -> sitk.Image:
    """Turn an image's axes into L, P, S and then into the order of ``permutation``: no voxel is interpolated."""
    return sitk.PermuteAxes(sitk.DICOMOrient(image, "LPS"), tuple(permutation))


def prepare(image: sitk.Image, labels: sitk.Image | Region, preprocessing: Preprocessing) -> Prepared:
    """Bring an image and a label map (on the same grid, or a region of it) to a network's input.

    The crop surrounds the labels' foreground; without any foreground it is the whole image.
    """
    if isinstance(labels, sitk.Image):
        labels = region_of(labels)
    permutation, note = _slices_last(image, preprocessing.dimensions)
    notes = [note] if note else []
    axes = _axes(image, permutation)
    source_spacing = np.array([image.GetSpacing()[axis] for axis, _ in axes])
    spacing = _working_spacing(source_spacing, preprocessing)
    start, size = _region(image, labels.box, axes, spacing / source_spacing, preprocessing)
    working = orient(sitk.RegionOfInterest(image, size, start), permutation)
    if not np.allclose(spacing, source_spacing, rtol=0.01):
        working = _resampled_grid(working, spacing)
        notes.append(f"Worked at a spacing of {_times(spacing)} mm; the result is on the image's own grid.")
    frame = Frame(image, permutation, start, size, working, _padding(working.GetSize()[::-1], preprocessing))
    return Prepared(
        voxels=frame.bring(image, linear=True),
        labels=frame.bring_labels(labels),
        intensity=preprocessing.intensity,
        slice_axis=axes[2][0],
        notes=tuple(notes),
        frame=frame,
    )


def _slices_last(image: sitk.Image, dimensions: int) -> tuple[tuple[int, ...], str]:
    """Order of the patient axes (L, P, S) that puts the acquisition axis last, and a sentence about it.

    An image of one slice is that slice, whatever its spacing; else the scanner stepped along the coarsest axis.
    """
    if dimensions == 3:
        return (0, 1, 2), ""
    axes = [axis for axis, _ in _axes(image, (0, 1, 2))]
    size, spacing = np.array(image.GetSize())[axes], np.array(image.GetSpacing())[axes]
    single = np.flatnonzero(size == 1)
    order = np.sort(spacing)
    if single.size:
        axis = int(max(single, key=lambda a: (spacing[a], a)))  # of several the coarsest, of equal ones the last
        note = f"The image is a single {AXIS_NAMES[axis]} slice."
    elif order[2] > ANISOTROPY * order[1]:
        axis = int(np.argmax(spacing))
        note = f"Slices are {AXIS_NAMES[axis]}: the spacing is largest ({spacing[axis]:g} mm) across them."
    else:
        axis, note = 2, f"Spacing {_times(spacing)} mm shows no acquisition plane: axial slices were used."
    return (*(a for a in range(3) if a != axis), axis), note


def _axes(image: sitk.Image, permutation: Sequence[int]) -> tuple[tuple[int, bool], ...]:
    """For each axis after `orient`: the image's own axis it came from, and whether it was reversed."""
    code = _orientation(image)
    found = []
    for patient_axis in permutation:
        axis = next(i for i, letter in enumerate(code) if letter in ("RL", "AP", "IS")[patient_axis])
        found.append((axis, code[axis] != "LPS"[patient_axis]))
    return tuple(found)


def _orientation(image: sitk.Image) -> str:
    return sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection())


def _working_spacing(source: NDArray[np.float64], preprocessing: Preprocessing) -> NDArray[np.float64]:
    """Working spacing in ITK axis order; a 2D model leaves the spacing across slices alone."""
    if not preprocessing.spacing:
        return source
    wanted = np.array(preprocessing.spacing[::-1])
    return np.array([*wanted, source[2]]) if preprocessing.dimensions == 2 else wanted


def _region(
    image: sitk.Image,
    box: Box,
    axes: tuple[tuple[int, bool], ...],
    working_voxel: NDArray[np.float64],
    preprocessing: Preprocessing,
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Start and size (IJK) of the crop: the mask's box and margin, at least the window, within the image.

    It is computed in the oriented image, so that rounding is the same however the image lies on disk.
    """
    if is_empty(box):
        return (0, 0, 0), image.GetSize()
    own, reverse = [axis for axis, _ in axes], np.array([flipped for _, flipped in axes])
    whole = np.array(image.GetSize())[own]
    low, high = (np.array([getattr(side, end) for side in box[::-1]])[own] for end in ("start", "stop"))
    low, high = np.where(reverse, whole - high, low), np.where(reverse, whole - low, high)
    window = np.array(preprocessing.window[::-1], dtype=float)
    margin = preprocessing.margin * working_voxel
    if preprocessing.dimensions == 2:
        window = np.append(window, 1)
        margin[2] = preprocessing.margin // 4  # Across slices a margin of a few slices lets a lesion grow at its ends.
    size = np.maximum(high - low + 2 * margin, window * working_voxel)
    start = np.floor((low + high - size) / 2 + 0.5)
    stop = np.minimum(start + np.ceil(size), whole)
    start = np.maximum(start, 0)
    start, size, order = np.where(reverse, whole - stop, start), stop - start, np.argsort(own)
    return tuple(int(v) for v in start[order]), tuple(int(v) for v in size[order])


def _padding(shape: tuple[int, ...], preprocessing: Preprocessing) -> tuple[tuple[int, int], ...]:
    """Voxels to add before and after each array axis to reach the window and the multiple."""
    window = (0, *preprocessing.window) if preprocessing.dimensions == 2 else preprocessing.window
    padding = []
    for axis, (size, smallest) in enumerate(zip(shape, window, strict=True)):
        multiple = 1 if preprocessing.dimensions == 2 and axis == 0 else preprocessing.multiple
        missing = math.ceil(max(size, smallest) / multiple) * multiple - size
        padding.append((missing // 2, missing - missing // 2))
    return tuple(padding)


def _resampled_grid(region: sitk.Image, spacing: NDArray[np.float64]) -> sitk.Image:
    """An empty image over the region's physical extent at another spacing, centred on it but for a hair.

    Exactly centred voxels can lie midway between the region's, where rounding alone would decide which one is nearest,
    otherwise for the same image in another orientation.
    """
    old_size, old_spacing = np.array(region.GetSize()), np.array(region.GetSpacing())
    size = np.maximum(np.round(old_size * old_spacing / spacing), 1).astype(int)
    centre = region.TransformContinuousIndexToPhysicalPoint(((old_size - 1) / 2).tolist())
    direction = np.array(region.GetDirection()).reshape(3, 3)
    grid = sitk.Image([int(s) for s in size], sitk.sitkUInt8)
    grid.SetSpacing(spacing.tolist())
    grid.SetDirection(region.GetDirection())
    grid.SetOrigin((np.array(centre) - direction @ (((size - 1) / 2 - HAIR) * spacing)).tolist())
    return grid


def _resample(image: sitk.Image, grid: sitk.Image, interpolator: int) -> sitk.Image:
    # Points in the outer half voxel lie beyond the last sample: the nearest one holds there, not a default value.
    method = sitk.ResampleImageFilter()
    method.SetReferenceImage(grid)
    method.SetInterpolator(interpolator)
    method.SetUseNearestNeighborExtrapolator(True)
    return method.Execute(image)


def _same_lattice(a: sitk.Image, b: sitk.Image) -> bool:
    return (
        a.GetSize() == b.GetSize()
        and np.allclose(a.GetSpacing(), b.GetSpacing())
        and np.allclose(a.GetOrigin(), b.GetOrigin())
    )


def _times(spacing: Sequence[float] | NDArray[np.float64]) -> str:
    return " x ".join(f"{value:.3g}" for value in spacing)
