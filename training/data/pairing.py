"""Pairs of a weak and a strong image: the strong one on the weak one's grid, and whether both show a body in one place.

Nothing is registered here. A body is what Otsu's threshold parts from the background in the square root of the values
(from -1024 up, so that a CT's padding is air; up to the 99th percentile, so that neither a PET's hot spots nor metal
count): one rule for CT, MR, ADC and PET. Only where the strong image has a field of view are bodies compared.

A pair is refused where moving the strong image would at least halve what the bodies do not share (one minus Dice, and
one minus the masks' correlation, which a shift to where all is body does not raise), or where the smaller body hardly
lies in the larger one. One body within another (a brain without its skull in a head)
gains nothing from being moved and passes; so does a shift along a trunk, whose outline it does not change.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.signal import correlate

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.images import read_image, require_finite, resample_to, same_grid
from NoisyLabelSegLib.inference.frame import resampled_grid
from training.data.cases import Case
from training.data.suv import is_pet_series, read_suv

Mask = NDArray[np.bool_]
Agreement = NDArray[np.float64]
GOOD, LEAST = 0.95, 0.3
"""Dice of the bodies that is good enough; the share of the smaller body below which a pair is refused."""
TOLERANCE = 10.0
"""Shifts up to this, in mm, are not told from differences between the modalities."""
STEPS = 64
"""Bodies are compared on a grid of at most about so many voxels along an axis."""


def read_strong(path: Path) -> sitk.Image:
    """Read a strong image; a folder with a PET series in DICOM becomes SUV, see `training.data.suv`."""
    image = read_suv(path) if path.is_dir() and is_pet_series(path) else read_image(path)
    require_finite(image, str(path))
    return image


def strong_of(case: Case, image: sitk.Image) -> sitk.Image:
    """A case's strong image on the grid of its weak one, ``image``; its least value fills what lies outside of it.

    Raises:
        InputError: it cannot be read, or `require_aligned` refuses the pair.
    """
    assert case.strong is not None
    strong = read_strong(case.strong)
    require_aligned(case.id, image, strong)
    if same_grid(strong, image):
        return strong
    least = float(sitk.GetArrayViewFromImage(strong).min())
    return resample_to(sitk.Cast(strong, sitk.sitkFloat32), image, "linear", least)


def require_aligned(name: str, weak: sitk.Image, strong: sitk.Image) -> None:
    """Refuse a pair whose bodies do not lie in the same place: see the module's text.

    Raises:
        InputError: names the case and the shift in mm.
    """
    grid = _coarse(Grid.of(weak))
    seen = sitk.GetArrayFromImage(resample_to(Grid.of(strong).empty_image() + 1, grid.empty_image(), "nearest")) > 0
    if not seen.any():
        raise InputError(f"The strong image of '{name}' lies beside its weak one: {_ADVICE}.")
    ours, theirs = body(_brought(weak, grid), np.ones_like(seen)), body(_brought(strong, grid), seen)
    shared, smaller = np.count_nonzero(ours & theirs), min(np.count_nonzero(ours & seen), np.count_nonzero(theirs))
    if 2 * shared >= GOOD * (np.count_nonzero(ours & seen) + np.count_nonzero(theirs)):
        return
    here, best, steps = _best_shift(ours, theirs, seen)
    moved = np.reshape(grid.direction, (3, 3)) @ (steps[::-1] * grid.spacing)
    gains = np.linalg.norm(moved) > TOLERANCE and bool((1 - best < (1 - here) / 2).all())
    if gains or shared < LEAST * smaller:
        how = f"{np.linalg.norm(moved):.0f} mm ({_told(moved)})"
        raise InputError(
            f"The strong image of '{name}' is not where its weak one is: their bodies have a Dice of {here[0]:.2f}, "
            f"and of {best[0]:.2f} when the strong one is moved by {how}: {_ADVICE}."
        )


def body(image: sitk.Image, seen: Mask) -> Mask:
    """What is not background among the voxels that are ``seen``; see the module's text."""
    values = np.clip(sitk.GetArrayFromImage(image).astype(np.float32), -1024, None)
    low, high = values[seen].min(), np.percentile(values[seen], 99)
    root = sitk.GetImageFromArray(np.sqrt(np.clip(values, low, max(low, high)) - low))
    counted = sitk.GetImageFromArray(seen.astype(np.uint8))
    return sitk.GetArrayFromImage(sitk.OtsuThreshold(root, counted, 0, 1, 128, True, 1)) > 0


def _coarse(grid: Grid) -> Grid:
    extent = np.multiply(grid.size, grid.spacing)
    return resampled_grid(grid, np.maximum(grid.spacing, extent / STEPS))


def _brought(image: sitk.Image, grid: Grid) -> sitk.Image:
    least = float(sitk.GetArrayViewFromImage(image).min())
    return resample_to(sitk.Cast(image, sitk.sitkFloat32), grid.empty_image(), "linear", least)


def _best_shift(ours: Mask, theirs: Mask, seen: Mask) -> tuple[Agreement, Agreement, NDArray[np.intp]]:
    """Dice and correlation of the bodies where they are, those at the shift of largest correlation, and that shift.

    Both are of what the strong image sees of the weak one's grid; at least half of its body stays on that grid.
    """
    weak, strong, field = (mask.astype(np.float32) for mask in (ours, theirs, seen))
    whole = np.ones_like(weak)
    pairs = ((weak, strong), (weak, field), (whole, strong), (whole, field))
    shared, first, second, count = (np.round(correlate(a, b, method="fft")).astype(np.float64) for a, b in pairs)
    spread = first * (count - first) * second * (count - second)
    agreement = np.stack(
        [
            2 * shared / np.maximum(first + second, 1),
            (count * shared - first * second) / np.sqrt(np.maximum(spread, 1)),
        ]
    )
    agreement[:, second < theirs.sum() / 2] = 0
    best = int(agreement[1].argmax())
    still = [n - 1 for n in ours.shape]
    here, there = (agreement.reshape(2, -1)[:, i] for i in (np.ravel_multi_index(still, count.shape), best))
    return here, there, np.array(np.unravel_index(best, count.shape)) - still


def _told(moved: NDArray[np.float64]) -> str:
    ways = (("left", "right"), ("back", "front"), ("up", "down"))  # positive and negative L, P, S
    told = [f"{abs(mm):.0f} mm {way[int(mm < 0)]}" for mm, way in zip(moved, ways, strict=True) if abs(mm) >= 0.5]
    return ", ".join(told) or "nowhere"


_ADVICE = "register the strong image to the weak one, or leave it out"
