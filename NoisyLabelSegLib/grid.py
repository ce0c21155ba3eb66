"""Where an image's voxels lie in space, without the voxels themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import product
from math import isfinite, prod
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike, NDArray

from NoisyLabelSegLib.bundle.strict_json import convert
from NoisyLabelSegLib.errors import InputError

if TYPE_CHECKING:
    from NoisyLabelSegLib.regions import Box


@dataclass(frozen=True)
class Grid:
    """Voxels along the axes I, J and K; points are LPS in millimetres.

    Attributes:
        size: number of voxels.
        spacing: in mm.
        origin: the centre of voxel (0, 0, 0).
        direction: nine numbers, row by row; the columns are the directions of I, J and K.

    Raises:
        InputError: no voxels, a spacing that is not positive, axes that lie in a plane, or a number that is not finite.
    """

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.direction) != 9 or not all(map(isfinite, (*self.spacing, *self.origin, *self.direction))):
            raise InputError("The image's geometry is not made of finite numbers.")
        if min(self.size) < 1 or min(self.spacing) <= 0:
            raise InputError(f"An image of {self.size} voxels of {self.spacing} mm has no extent.")
        if abs(np.linalg.det(np.reshape(self.direction, (3, 3)))) < 1e-6:
            raise InputError("The image's axes do not span space.")

    @classmethod
    def of(cls, image: sitk.Image) -> Grid:
        """The grid of a 3D image."""
        return cls(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Grid:
        """Read what `to_json` gave; an unknown, missing or wrong key is an `InputError`."""
        return convert(cls, dict(values), "The grid")

    def to_json(self) -> dict[str, Any]:
        """JSON values, exact to the last bit."""
        return {key: list(value) for key, value in asdict(self).items()}

    @property
    def voxel_mm3(self) -> float:
        """A voxel's volume."""
        return prod(self.spacing)

    def whole_box(self) -> Box:
        """All voxels, in array order."""
        return tuple(slice(0, n) for n in self.size[::-1])

    def crop(self, box: Box) -> Grid:
        """The grid of the voxels in a box, which is in array order."""
        start = tuple(side.start for side in box[::-1])
        i, j, k = (side.stop - side.start for side in box[::-1])
        x, y, z = self.to_physical(start).tolist()
        return Grid((i, j, k), self.spacing, (x, y, z), self.direction)

    def to_physical(self, ijk: ArrayLike) -> NDArray[np.float64]:
        """The places (..., 3) in mm of voxels or of points between them, (..., 3)."""
        # One product after the other, as ITK does it: a matrix product may round otherwise.
        i, j, k = np.moveaxis(np.asarray(ijk, float), -1, 0)[..., None]
        first, second, third = self._matrix().T
        return np.asarray(self.origin + i * first + j * second + k * third)

    def to_index(self, points: ArrayLike) -> NDArray[np.float64]:
        """What `to_physical` makes the given points of."""
        return np.asarray((np.asarray(points, float) - self.origin) @ np.linalg.inv(self._matrix()).T)

    def same_as(self, other: Grid, tolerance: float = 1e-3) -> bool:
        """Whether voxel by voxel both lie at the same place.

        Sizes must agree, and no voxel centre may be more than `tolerance` voxels, along any axis, from its counterpart;
        comparing the eight corners covers spacing, origin and direction at once.
        """
        if self.size != other.size:
            return False
        corners = self._corners()
        return bool(np.abs(self.to_index(other.to_physical(corners)) - corners).max() <= tolerance)

    def occupies_the_same(self, other: Grid) -> bool:
        """Whether both have the same corners, whichever axis comes first, to a hundredth of a voxel.

        3D Slicer turns left-handed axes when it loads a volume.
        """
        places = (np.round(grid.to_physical(grid._corners()), 3).tolist() for grid in (self, other))
        mine, others = (np.array(sorted(corners)) for corners in places)
        return bool(np.abs(mine - others).max() <= 0.01 * min(self.spacing))

    def empty_image(self, pixel: int = sitk.sitkUInt8) -> sitk.Image:
        """An image of zeros."""
        return self._place(sitk.Image(self.size, pixel))

    def image(self, values: NDArray[Any]) -> sitk.Image:
        """An image of an array (K, J, I), which is copied."""
        return self._place(sitk.GetImageFromArray(np.ascontiguousarray(values)))

    def _place(self, image: sitk.Image) -> sitk.Image:
        image.SetSpacing(self.spacing)
        image.SetOrigin(self.origin)
        image.SetDirection(self.direction)
        return image

    def _corners(self) -> NDArray[np.float64]:
        """The eight outermost voxels, (8, 3) in the order I, J, K."""
        return np.array(list(product(*((0, n - 1) for n in self.size))), float)

    def _matrix(self) -> NDArray[np.float64]:
        """From index steps to millimetres."""
        return np.reshape(self.direction, (3, 3)) * self.spacing
