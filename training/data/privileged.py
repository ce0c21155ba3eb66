"""A weak modality made of a real strong one by a stated model: a CT of lower resolution, contrast and dose.

It stands in where pairs of a weak and a strong scan are not at hand; it is no scan, and what is measured on it says so
(`DataSet.simulation` keeps every number). In this order, slice by slice:

1. Resolution: a Gaussian point spread function in the plane, of a given full width at half maximum.
2. Contrast: differences from soft tissue are multiplied by a factor.
3. Dose: values become attenuation (water: 0.02 / mm, about that of 60 keV) and are projected along parallel rays; each
   ray also passes through a body around the slice, given as a length of water. Its photons are a Poisson number about
   I₀·exp(-∫μ), electronic noise is added, and what the logarithm makes of their difference from that mean is filtered
   with the ramp (Ram-Lak) and back-projected. Only this noise is added to the slice: truncation and errors of the
   reconstruction itself do not enter. Its variance is as 1/I₀, its spectrum rises with frequency.

Stored 8-bit crops (LIDC) have lost their Hounsfield units and spacing: a nominal window and voxel size stand for them.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage, sparse

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import read_image, write_image
from training.data.cases import Case, DataSet, write_dataset

WATER = 0.02  # Attenuation per mm.
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class WeakModality:
    """How much weaker an image is made; the defaults of the first three change nothing.

    Attributes:
        dose: photons of each ray before the body (I₀); inf: no noise.
        contrast: factor of the difference from soft tissue, above 0 to 1.
        blur: full width at half maximum of the point spread function, voxels.
        electronic: standard deviation of the detector's own noise, photons.
        low, high: Hounsfield units of the values 0 and 255.
        soft: Hounsfield units about which contrast is compressed.
        voxel: in-plane size, mm.
        body: water around the slice that every ray also passes through, mm.
        views: directions of the rays over 180°.
    """

    dose: float = math.inf
    contrast: float = 1.0
    blur: float = 0.0
    electronic: float = 5.0
    low: float = -1000.0
    high: float = 400.0
    soft: float = 40.0
    voxel: float = 0.7
    body: float = 200.0
    views: int = 180

    def __post_init__(self) -> None:
        if not (self.dose > 0 and 0 < self.contrast <= 1 and 0 <= self.blur < math.inf):
            raise InputError("A weak modality needs a dose above 0, a contrast above 0 to 1 and a blur of at least 0.")

    @property
    def unit(self) -> float:
        """Hounsfield units of one step of the values."""
        return (self.high - self.low) / 255


def degrade(image: NDArray[Any], settings: WeakModality, rng: np.random.Generator) -> NDArray[np.float64]:
    """Make slices weaker: see the module's text.

    Args:
        image: (slices, rows, columns), values as the settings' `low` and `high` have them.
        settings: how much.
        rng: every random number comes from it.

    Returns:
        The same shape and scale, not rounded; noise may leave the image's range.
    """
    weak = image.astype(np.float64)
    width = settings.blur / math.sqrt(8 * math.log(2))
    weak = ndimage.gaussian_filter(weak, (0, width, width))
    soft = (settings.soft - settings.low) / settings.unit
    weak += (settings.contrast - 1) * (weak - soft)
    if math.isinf(settings.dose):
        return weak
    attenuation = WATER * np.clip(1 + (settings.low + settings.unit * weak) / 1000, 0, None)
    return weak + quantum_noise(attenuation, settings, rng) * 1000 / WATER / settings.unit


def quantum_noise(attenuation: Floats, settings: WeakModality, rng: np.random.Generator) -> Floats:
    """The noise, per mm, of slices (slices, rows, columns) of attenuation reconstructed from so few photons."""
    slices, *shape = attenuation.shape
    pixels, noise = attenuation.reshape(slices, -1).T, np.zeros((math.prod(shape), slices))
    for rays in projections((shape[0], shape[1]), settings.views):
        through = settings.voxel * (rays.T @ pixels) + WATER * settings.body
        noise += rays @ ramp(_measured(through, settings, rng) - through, settings.voxel)
    return (noise * math.pi / settings.views).T.reshape(attenuation.shape)


def projections(shape: tuple[int, int], views: int) -> Iterator[sparse.csr_matrix]:
    """For each direction the weights (pixels, rays) of a pixel in the two rays nearest to it, one pixel apart.

    The matrix spreads rays back over the slice; transposed and times the voxel's size it gives line integrals.
    """
    rows, columns = np.indices(shape).reshape(2, -1) - (np.array(shape)[:, None] - 1) / 2
    count = math.ceil(math.hypot(*shape)) + 2
    for angle in np.arange(views) * math.pi / views:
        place = columns * math.cos(angle) + rows * math.sin(angle) + (count - 1) / 2
        first = np.floor(place).astype(np.int64)
        weights = np.stack([1 - (place - first), place - first], axis=1)
        rays, starts = np.stack([first, first + 1], axis=1), np.arange(0, weights.size + 1, 2)
        yield sparse.csr_matrix((weights.ravel(), rays.ravel(), starts), (place.size, count))


def ramp(projection: Floats, voxel: float) -> Floats:
    """Filter rays (rays, slices), ``voxel`` mm apart, with the Ram-Lak ramp."""
    count = len(projection)
    offsets = np.arange(1 - count, count)
    odd = offsets % 2 != 0
    kernel = np.where(odd, -1 / (math.pi * np.where(odd, offsets, 1)) ** 2, 0)
    kernel[count - 1] = 1 / 4
    size = len(kernel) + count - 1
    filtered = np.fft.irfft(np.fft.rfft(kernel, size)[:, None] * np.fft.rfft(projection, size, axis=0), size, axis=0)
    return filtered[count - 1 : 2 * count - 1] / voxel


def weaken_dataset(dataset: DataSet, folder: Path, settings: WeakModality, seed: int) -> DataSet:
    """Write a data set whose images are weaker copies of the given ones, which become the strong images.

    Noise follows from the seed and the case's name.

    Raises:
        InputError: a case has several channels or a strong image already.
    """
    (folder / "weakTr").mkdir(parents=True, exist_ok=True)
    cases = tuple(_weakened(case, folder, settings, seed) for case in dataset.cases)
    told = {key: value for key, value in asdict(settings).items() if math.isfinite(value)}
    weak = replace(
        dataset,
        name=f"{dataset.name}, simulated weak modality",
        cases=cases,
        simulation={**dataset.simulation, **told, "seed": seed},
    )
    write_dataset(folder, weak)
    return weak


def _weakened(case: Case, folder: Path, settings: WeakModality, seed: int) -> Case:
    if case.channels or case.strong:
        raise InputError(f"The case '{case.id}' has several channels or a strong image: it cannot be made weaker.")
    image = read_image(case.image)
    values = sitk.GetArrayViewFromImage(image)
    low, high = values.min(), values.max()
    if low < -255 or high > 510:  # as Hounsfield units go
        raise InputError(
            f"The case '{case.id}' has values of {low:g} to {high:g}: only images of about 0 to 255 can be made "
            "weaker, for which Hounsfield units are assumed."
        )
    rng = np.random.default_rng((seed, zlib.crc32(case.id.encode())))
    voxels = np.round(degrade(sitk.GetArrayViewFromImage(image), settings, rng)).astype(np.int16)
    weak = sitk.GetImageFromArray(voxels)
    weak.CopyInformation(image)
    path = folder / "weakTr" / f"{case.id}.nii.gz"
    write_image(path, weak)
    return replace(case, image=path, strong=case.image)


def _measured(through: Floats, settings: WeakModality, rng: np.random.Generator) -> Floats:
    """The line integrals that a detector sees; a ray without any photon counts as one with one."""
    photons = rng.poisson(settings.dose * np.exp(-through)) + rng.normal(0, settings.electronic, through.shape)
    return -np.log(np.maximum(photons, 1) / settings.dose)
