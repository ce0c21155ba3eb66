"""Training windows: what inference would crop, moved and varied.

Everything random about a sample follows from (seed, epoch, index) alone. A run that is killed and resumed therefore
sees the very same samples, with no generator's state to save.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandAffined,
    RandFlipd,
    RandGaussianNoised,
    RandScaleIntensityd,
)
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.inference.frame import Frame
from NoisyLabelSegLib.inference.preprocessing import Intensity, Preprocessing, prepare
from NoisyLabelSegLib.regions import Region, region_of
from training.data.cases import Case
from training.data.channels import read_channels
from training.data.coarse import CoarseSettings, simulate
from training.data.drawings import Codes, Strategy, drawn_foreground, read_drawings
from training.data.masks import expert_labels, start_labels
from training.data.pairing import strong_of


@dataclass(frozen=True)
class Augmentation:
    """How training windows are varied.

    Attributes:
        jitter: largest shift of the window, voxels.
        patches: windows a case and epoch, at random places of the whole image, see `training.data.patches`; 0 takes
            one, around the mask.
        flips: axes of the window that may be flipped; none across which labels differ (anterior against posterior).
        rotation: largest in-plane (2D) or about each axis (3D) angle, degrees.
        scale: largest relative change of size.
        affine: probability of rotating and scaling a window.
        in_plane: rotates and scales 3D windows within their slices only: for thick slices.
    """

    jitter: int = 8
    patches: int = 0
    flips: tuple[int, ...] = (0, 1)
    rotation: float = 15
    scale: float = 0.15
    affine: float = 0.5
    in_plane: bool = False


@dataclass(frozen=True)
class Starts:
    """How often a sample's first mask is of which kind; the shares need not sum to one.

    Attributes:
        coarse: the case's non-expert mask (or a fresh simulation of one, see `simulated`).
        expert: the expert's own mask, so that the truth becomes a fixed point.
        damaged: a lightly damaged expert mask, as late stages see it.
        empty: nothing.
        simulated: makes the coarse mask anew for every sample, where coarse masks are simulated anyway.
        damage: how "damaged" is made.
    """

    coarse: float = 1.0
    expert: float = 0.0
    damaged: float = 0.0
    empty: float = 0.0
    simulated: CoarseSettings | None = None
    damage: CoarseSettings = field(default_factory=lambda: CoarseSettings(warp=0.05, grow=1, blobs=1.0))


@dataclass(frozen=True)
class Crop:
    """A case: voxels (channels, slices, rows, columns), expert and coarse labels (slices, rows, columns).

    Attributes:
        strong: the strong image (1, slices, rows, columns), where it was asked for and there is one.
        drawn: codes of drawings (strategies, slices, rows, columns), where they were asked for.
    """

    voxels: NDArray[Any]
    expert: NDArray[np.uint8]
    coarse: NDArray[np.uint8]
    strong: NDArray[Any] | None = field(default=None, kw_only=True)
    drawn: NDArray[np.int32] | None = field(default=None, kw_only=True)

    def cut(self, view: Any) -> Crop:
        """The same part of every array; ``view`` indexes the last axes."""
        strong, drawn = (None if one is None else one[view] for one in (self.strong, self.drawn))
        return Crop(self.voxels[view], self.expert[view], self.coarse[view], strong=strong, drawn=drawn)


class Windows(Dataset[dict[str, torch.Tensor]]):
    """Samples ``image`` (CHW[D]), ``expert`` and ``start`` (HW[D], int64) for training or validation.

    Each also holds its ``index``, by which `names_of` tells the cases of a batch, and ``verified``, bool, see `Case`.
    With a strong modality a sample has ``strong`` (1HW[D]), which lies and moves as ``image`` does but has intensities,
    and variations of them, of its own, and ``paired``, bool: a case without a strong image has zeros and False. All
    else is as it is without one. With strategies of drawing a sample has ``drawn`` (RHW[D], int64), see
    `training.data.drawings`.

    Args:
        cases: the cases, each with a label and, unless masks are simulated, a coarse mask.
        preprocessing: as at inference; its window is the sample's size.
        starts: the mix of first masks.
        augmentation: how windows are varied; None for validation.
        seed: see the module's text.
        strong: how intensities of the strong modality are mapped; None: it is not asked for.
        drawings: which drawings are asked for; with some, training sees nothing of the experts' labels.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        preprocessing: Preprocessing,
        starts: Starts,
        augmentation: Augmentation | None,
        seed: int,
        strong: Intensity | None = None,
        drawings: Sequence[Strategy] = (),
    ) -> None:
        self.strong, self.drawings = strong, tuple(drawings)
        self.unpaired = [case.id for case in cases if strong and case.strong is None]
        self.preprocessing, self.starts, self.seed, self.augmentation = preprocessing, starts, seed, augmentation
        self.jitter = augmentation.jitter if augmentation else 0
        self.names, self.verified = [case.id for case in cases], [case.verified for case in cases]
        paired = strong is not None
        self.transforms = (
            _transforms(preprocessing.dimensions, augmentation, paired=paired, drawn=bool(drawings))
            if augmentation
            else None
        )
        self.crops = self._crops(cases)
        self.items = [(number, z) for number in range(len(cases)) for z in self._samples(number)]

    def _crops(self, cases: Sequence[Case]) -> Sequence[Crop]:
        """The cases in memory, wider than the window by the jitter."""
        target = tuple(size + 2 * self.jitter for size in self.preprocessing.window)
        wider = replace(self.preprocessing, window=target)
        how: dict[str, Any] = {"training": self.augmentation is not None, "strong": self.strong is not None}
        how["drawings"] = self.drawings
        return [_fitted(load(case, wider, self.starts, **how), target) for case in cases]

    def _samples(self, number: int) -> Sequence[int | None]:
        """A case's samples an epoch: in 2D its slices, in 3D one."""
        return range(len(self.crops[number].expert)) if self.preprocessing.dimensions == 2 else [None]

    def __len__(self) -> int:
        return len(self.items)

    def names_of(self, indices: torch.Tensor) -> list[str]:
        """The cases that samples are of, each once."""
        return list(dict.fromkeys(self.names[self.items[index][0]] for index in indices.tolist()))

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, torch.Tensor]:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        rng = np.random.default_rng((self.seed, epoch, index))
        number, z = self.items[index]
        view = self._view(self.crops[number], z, rng)
        start = self._start(view.expert, view.coarse, rng)
        sample = {"image": view.voxels, "expert": view.expert[None], "start": start[None]}
        if self.strong is not None:
            sample["strong"] = np.zeros_like(view.voxels[:1]) if view.strong is None else view.strong
        if view.drawn is not None:
            sample["drawn"] = view.drawn
        if self.transforms is not None:
            self.transforms.set_random_state(seed=int(rng.integers(2**31)))
            sample = self.transforms(sample)
        return {
            "image": torch.as_tensor(np.ascontiguousarray(sample["image"]), dtype=torch.float32),
            "expert": torch.as_tensor(np.ascontiguousarray(sample["expert"][0]), dtype=torch.int64),
            "start": torch.as_tensor(np.ascontiguousarray(sample["start"][0]), dtype=torch.int64),
            "index": torch.tensor(index),
            "verified": torch.tensor(self.verified[number]),
            **(_pair(sample["strong"], paired=view.strong is not None) if self.strong is not None else {}),
            **({"drawn": torch.as_tensor(sample["drawn"]).long()} if self.drawings else {}),
        }

    def _view(self, crop: Crop, z: int | None, rng: np.random.Generator) -> Crop:
        """A window of a case: image and strong image (CHW[D]) as the network takes them, labels (HW[D])."""
        whole: tuple[Any, ...] = (...,) if z is None else (..., z, slice(None), slice(None))
        offset = [self.jitter + int(v) for v in rng.integers(-self.jitter, self.jitter + 1, crop.expert[whole].ndim)]
        sides = (slice(o, o + size) for o, size in zip(offset, self.preprocessing.window, strict=True))
        return map_intensities(crop.cut(whole).cut((..., *sides)), self.preprocessing, self.strong)

    def _start(
        self, expert: NDArray[np.uint8], coarse: NDArray[np.uint8], rng: np.random.Generator
    ) -> NDArray[np.uint8]:
        shares = np.array([self.starts.coarse, self.starts.expert, self.starts.damaged, self.starts.empty])
        kind = rng.choice(4, p=shares / shares.sum())
        if kind == 0:
            fresh = self.starts.simulated if self.transforms is not None else None
            return simulate(expert, fresh, rng) if fresh else coarse
        if kind == 2:
            return simulate(expert, self.starts.damage, rng)
        return expert if kind == 1 else np.zeros_like(expert)


class EpochSampler(Sampler[tuple[int, int]]):
    """One process's share of an epoch as (epoch, index) pairs, in an order that follows from (seed, epoch).

    The order is cut to a multiple of the number of processes, so that all take the same number of steps.
    """

    def __init__(self, length: int, seed: int, epoch: int, rank: int = 0, processes: int = 1, skip: int = 0) -> None:
        order = np.random.default_rng((seed, epoch)).permutation(length)
        share = order[: length - length % processes][rank::processes]
        self.pairs = [(epoch, int(index)) for index in share[skip:]]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)


def _pair(strong: Any, *, paired: bool) -> dict[str, torch.Tensor]:
    """What a sample has of the strong modality; noise that was added to a missing image is taken away again."""
    voxels = torch.as_tensor(np.ascontiguousarray(strong), dtype=torch.float32)
    return {"strong": voxels if paired else torch.zeros_like(voxels), "paired": torch.tensor(paired)}


def load(
    case: Case,
    preprocessing: Preprocessing,
    starts: Starts,
    *,
    training: bool,
    whole: bool = False,
    strong: bool = False,
    drawings: Sequence[Strategy] = (),
) -> Crop:
    """Crop a case as inference would, around its first mask; with ``whole`` as it would without one.

    What is measured on a whole image is not measured on its padding, so that is left out where nothing is trained.
    With drawings the mask is what is drawn of structures, and in training it stands for the expert's, too.
    """
    wanted: dict[str, Any] = {"strong": strong, "drawings": drawings}
    crop, frame = load_placed(case, preprocessing, starts, training=training, whole=whole, **wanted)
    return crop.cut((..., *frame.inside)) if whole and not training else crop


def load_placed(
    case: Case,
    preprocessing: Preprocessing,
    starts: Starts,
    *,
    training: bool,
    whole: bool,
    strong: bool,
    drawings: Sequence[Strategy] = (),
) -> tuple[Crop, Frame]:
    """`load`, and where the crop lies in the case's image."""
    image, *others = read_channels(case)
    codes = read_drawings(case, image, drawings) if drawings else None
    expert, coarse = _masks(case, image, starts, codes, drawings, training=training)
    prepared = prepare(image, coarse * 0 if whole else coarse, preprocessing)
    more = (prepared.frame.bring(region_of(other), linear=True) for other in others)
    labels = (prepared.frame.bring(region_of(mask), linear=False).astype(np.uint8) for mask in (expert, coarse))
    crop = Crop(np.stack([prepared.voxels, *more]), *labels)
    if codes is not None:
        grid = Grid.of(image)
        brought = (prepared.frame.bring(Region(grid.whole_box(), code), linear=False) for code in codes)
        crop = replace(crop, drawn=np.stack([*brought]))
    if strong and case.strong is not None:
        other = prepared.frame.bring(region_of(strong_of(case, image)), linear=True)
        crop = replace(crop, strong=other[None])
    return crop, prepared.frame


def _masks(
    case: Case,
    image: sitk.Image,
    starts: Starts,
    codes: Codes | None,
    drawings: Sequence[Strategy],
    *,
    training: bool,
) -> tuple[sitk.Image, sitk.Image]:
    """The expert's and the first mask."""
    if codes is None:
        expert = expert_labels(case, image)
        return expert, start_labels(case, image, starts.simulated) or _no_start(case, expert, starts, training=training)
    drawn = Grid.of(image).image(drawn_foreground(codes, drawings))
    return (drawn if training or not case.has_expert else expert_labels(case, image)), drawn


def _no_start(case: Case, expert: sitk.Image, starts: Starts, *, training: bool) -> sitk.Image:
    """What places the window of a case without a first mask, where no sample starts from it.

    The expert's mask in training; what is measured must not know it and gets nothing: the image's centre.
    """
    if starts.coarse > 0:
        raise InputError(f"The case '{case.id}' has no coarse mask: add one to the data set or set starts.simulated.")
    return expert if training else sitk.Image(expert) * 0


def _fitted(crop: Crop, target: Sequence[int]) -> Crop:
    """Exactly as large as the window."""
    strong = None if crop.strong is None else _fit(crop.strong, target, edge=True)
    drawn = None if crop.drawn is None else _fit(crop.drawn, target, edge=False)
    labels = (_fit(array, target, edge=False) for array in (crop.expert, crop.coarse))
    return Crop(_fit(crop.voxels, target, edge=True), *labels, strong=strong, drawn=drawn)


def _fit(array: NDArray[Any], target: Sequence[int], *, edge: bool) -> NDArray[Any]:
    """Cut or pad the last axes about the centre to ``target``."""
    for axis, size in zip(range(array.ndim - len(target), array.ndim), target, strict=True):
        surplus = array.shape[axis] - size
        if surplus > 0:
            array = np.take(array, range(surplus // 2, surplus // 2 + size), axis=axis)
        elif surplus < 0:
            padding = [(0, 0)] * array.ndim
            padding[axis] = (-surplus // 2, -surplus - (-surplus // 2))
            array = np.pad(array, padding, mode="edge") if edge else np.pad(array, padding)
    return array


def map_intensities(crop: Crop, preprocessing: Preprocessing, strong: Intensity | None) -> Crop:
    """A crop with its images as networks take them, each channel by its own rule."""
    if strong is not None and crop.strong is not None:
        crop = replace(crop, strong=_mapped([strong], crop.strong))
    return replace(crop, voxels=_mapped(preprocessing.intensities(len(crop.voxels)), crop.voxels))


def _mapped(intensities: Sequence[Intensity], voxels: NDArray[Any]) -> NDArray[np.float32]:
    """The network's input of ``CHW[D]`` voxels; a slice counts as a volume of one."""
    volumes = voxels[:, None] if voxels.ndim == 3 else voxels
    mapped = [intensity(channel) for intensity, channel in zip(intensities, volumes, strict=True)]
    return np.stack(mapped).reshape(voxels.shape)


def _transforms(dimensions: int, augmentation: Augmentation, *, paired: bool, drawn: bool) -> Compose:
    images = ["image", "strong"] if paired else ["image"]
    labels = ["expert", "start", "drawn"] if drawn else ["expert", "start"]
    keys = [*images, *labels]
    angle, solid = float(np.deg2rad(augmentation.rotation)), dimensions == 3
    across = not (solid and augmentation.in_plane)
    return Compose(
        [
            *(RandFlipd(keys, prob=0.5, spatial_axis=axis) for axis in augmentation.flips),
            RandAffined(
                keys,
                prob=augmentation.affine,
                rotate_range=[angle, angle * across, angle * across] if solid else [angle],
                scale_range=[augmentation.scale * across, *[augmentation.scale] * 2][-dimensions:],
                mode=["bilinear"] * len(images) + ["nearest"] * len(labels),
                padding_mode=["border"] * len(images) + ["zeros"] * len(labels),
            ),
            # A transform's random numbers follow from its place: the strong image's last leave the others as they are.
            *(transform for key in images for transform in variations(key)),
        ]
    )


def variations(key: str) -> list[Any]:
    """Random intensities of an image that has about one standard deviation."""
    return [
        RandScaleIntensityd(key, factors=0.2, prob=0.5),
        RandAdjustContrastd(key, prob=0.3, gamma=(0.7, 1.4)),
        RandGaussianNoised(key, prob=0.2, std=0.05),
    ]
