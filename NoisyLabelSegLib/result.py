"""What a request gives back: the same object for the graphical interface, the command line and Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import SimpleITK as sitk

from NoisyLabelSegLib.assembly import paste
from NoisyLabelSegLib.outcome import Map
from NoisyLabelSegLib.segmentations import Segmentation
from NoisyLabelSegLib.suspects import Suspect


class Maps(Mapping[str, sitk.Image]):
    """Images by a name, kept as regions of a grid and put on it when asked for: a whole map may be large."""

    def __init__(self, grid: sitk.Image, maps: Mapping[str, Map]) -> None:
        self._grid, self._maps = grid, maps

    def __getitem__(self, key: str) -> sitk.Image:
        return paste(self._maps[key].region, self._grid, self._maps[key].outside)

    def __iter__(self) -> Iterator[str]:
        return iter(self._maps)

    def __len__(self) -> int:
        return len(self._maps)


@dataclass(frozen=True)
class Result:
    """A refinement, or a segmentation and its uncertainty, on the grid of the given image.

    Attributes:
        image: the given image, untouched.
        stages: one segmentation a stage; ``stages[0]`` is the given one (on the image's grid), ``stages[-1]`` the
            result. All have the same segments in the same order; where nothing was given, those of the first are empty.
        probabilities: for each segment that was worked on, by its identifier (see `segmentations.identifiers`), the
            float32 probability map (0 to 1) behind the last stage.
        statistics: a row for each segment and stage, with the keys ``segment`` (name), ``stage``, ``volume_mm3``,
            ``dice_to_given`` (None when nothing was given), ``hd95_to_given_mm`` and ``hd95_to_previous_mm`` (None at
            stage 0 or where one of both masks is empty, the former also when nothing was given) and ``changed_voxels``
            (against the previous stage).
        provenance: image and mask names, settings, model (name, version, sha256, licence, intended use, not for),
            software versions, device really used, seconds, time: JSON values only.
        notes: sentences that the person should read: first that a result barely resembles the given mask, then what
            was resampled, assumed, unusual.
        slice_axis: the voxel axis (0 = I, 1 = J, 2 = K) along which slices are best looked at.
        maps: of an uncertainty the float32 images ``entropy`` (0 is sure, 1 is as good as chance), ``confidence`` (the
            probability of the most probable class) and, where labels were given, ``suspect`` (0 to 1).
        suspects: the given labels that look wrong, the most suspect first, with the keys ``rank``, ``score`` (0
            to 1), ``given`` and ``suggested`` (names), ``given_label`` and ``suggested_label`` (the model's
            values, 0 is the background), ``voxels``, ``volume_mm3``, ``index`` (I, J, K, from 0, of a voxel in the
            middle) and ``ras_mm`` (the same in mm to the patient's right, front and head): JSON values only.
        regions: their voxels, and those of the ones that are too many to be listed.
    """

    image: sitk.Image
    stages: tuple[Segmentation, ...]
    probabilities: Mapping[str, sitk.Image]
    statistics: tuple[Mapping[str, Any], ...]
    provenance: Mapping[str, Any]
    notes: tuple[str, ...] = field(default=())
    slice_axis: int = 2
    maps: Mapping[str, sitk.Image] = field(default_factory=dict)
    suspects: tuple[Mapping[str, Any], ...] = ()
    regions: tuple[Suspect, ...] = ()
