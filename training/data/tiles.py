"""Windows laid over whole cases, so that what is found in them can be put back on the cases' own grids.

A case is cropped as in training: around its mask, or, where training takes patches, not at all. Windows overlap by a
quarter or more where one does not hold the crop, and nothing is moved or varied. Intensities are mapped over the crop,
as at inference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import SimpleITK as sitk
from monai.data.utils import dense_patch_slices
from numpy.typing import NDArray

from NoisyLabelSegLib.inference.frame import Frame
from NoisyLabelSegLib.inference.preprocessing import Intensity, Preprocessing
from training.data.cases import Case
from training.data.on_disk import OnDisk
from training.data.patches import Patches, Volume, as_seen, in_memory
from training.data.windows import Crop, Starts, load_placed

Place = tuple[slice, ...]
OVERLAP = 1 / 4


class Tiles(Patches):
    """`Windows` that cover each case; for the arguments see there.

    Args:
        whole: cases are not cropped.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        preprocessing: Preprocessing,
        starts: Starts,
        seed: int,
        strong: Intensity | None = None,
        *,
        whole: bool,
    ) -> None:
        self.whole = whole
        self.frames: list[Frame] = []
        self._known: dict[tuple[int, ...], list[Place]] = {}
        super().__init__(cases, preprocessing, starts, None, seed, strong)

    def _crops(self, cases: Sequence[Case]) -> Sequence[Crop]:
        def maker(case: Case) -> Any:
            return lambda: self._volume(case)

        crops = OnDisk(Volume, [maker(case) for case in cases])
        for _ in crops:  # which makes them, and their frames, in order
            pass
        return crops

    def _volume(self, case: Case) -> Volume:
        asked: dict[str, Any] = {"training": True, "whole": self.whole, "strong": self.strong is not None}
        crop, frame = load_placed(case, self.preprocessing, self.starts, **asked)
        self.frames.append(frame)
        return as_seen(crop, case.id, self.preprocessing, self.strong)

    def _samples(self, number: int) -> Sequence[int | None]:
        return range(len(self._places(self.crops[number].expert.shape)))

    def _places(self, shape: tuple[int, ...]) -> list[Place]:
        """The windows in a crop (slices, rows, columns); of a 2D network's each has one slice."""
        if shape not in self._known:
            self._known[shape] = self._laid(shape)
        return self._known[shape]

    def _laid(self, shape: tuple[int, ...]) -> list[Place]:
        size = (1,) * (3 - self.preprocessing.dimensions) + self.preprocessing.window
        steps = [max(1, round(n * (1 - OVERLAP))) for n in size]
        return dense_patch_slices(shape, size, steps)

    def place(self, index: int) -> tuple[int, Place]:
        """The number of a sample's case, and where it lies in the crop."""
        number, window = self.items[index]
        assert window is not None
        return number, self._places(self.crops[number].expert.shape)[window]

    def _view(self, crop: Crop, z: int | None, rng: np.random.Generator) -> Crop:
        assert z is not None
        place = self._places(crop.expert.shape)[z]
        flat = (place[0].start, *place[1:]) if self.preprocessing.dimensions == 2 else place
        return in_memory(crop.cut((..., *flat)))

    def restore(self, number: int, values: NDArray[np.float32], outside: float) -> sitk.Image:
        """A map of a crop on the image of its case; see `Frame.restore`."""
        return self.frames[number].restore(values, outside)
