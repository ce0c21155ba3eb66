"""Whether a result depends on how its image is stored: axes permuted and flipped, the patient turned by 10 degrees."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from NoisyLabelSegLib import metrics
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import read_image, same_grid
from NoisyLabelSegLib.inference.model import load_model
from NoisyLabelSegLib.pipeline import refine
from NoisyLabelSegLib.segmentations import Segmentation, read_segmentation
from training.benchmarks.refine import MODELS, SAMPLES

Change = Callable[[sitk.Image], sitk.Image]


def main() -> None:
    """Print a line a model: the least Dice to the result of the image as it was given, over 48 orders and 2 turns."""
    for name, sample in MODELS.items():
        try:
            least, worst, exact, count = compare(name, SAMPLES / sample)
        except InputError as error:
            print(f"{name}: {error}")
            continue
        print(f"{name}: {count} variants, least Dice {least:.4f} ({worst}), geometry exact in {exact} of {count}")


def compare(name: str, folder: Path) -> tuple[float, str, int, int]:
    """The least Dice over a sample's variants, where, how many results lay exactly on the image's grid, of how many."""
    image, given = read_image(folder / "image.nii.gz"), read_segmentation(folder / "coarse.seg.nrrd")
    model = load_model(name, "cpu")
    reference = refine(image, given, model).stages[-1]
    scores, exact = {}, 0
    for variant, forward, back in _variants(image):
        result = refine(forward(image), Segmentation(forward(given.image), given.segments), model).stages[-1]
        exact += same_grid(result.image, forward(image), tolerance=1e-9)
        restored = sitk.GetArrayFromImage(back(result.image))
        original = sitk.GetArrayFromImage(reference.image)
        scores[variant] = min(metrics.dice(restored == s.label, original == s.label) for s in given.segments)
    worst = min(scores, key=lambda variant: scores[variant])
    return scores[worst], worst, exact, len(scores)


def _variants(image: sitk.Image) -> Iterator[tuple[str, Change, Change]]:
    """Name, the way there and the way back of every variant."""
    code = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection())
    for axes in itertools.permutations(("RL", "AP", "IS")):
        for letters in itertools.product(*axes):
            other = "".join(letters)
            yield other, partial(_oriented, code=other), partial(_oriented, code=code)
    for axis in (0, 2):
        yield f"turned about axis {axis}", partial(_turned, axis=axis), sitk.Image


def _oriented(image: sitk.Image, code: str) -> sitk.Image:
    return sitk.DICOMOrient(image, code)


def _turned(image: sitk.Image, axis: int, degrees: float = 10) -> sitk.Image:
    """The same voxels with the patient lying turned by ``degrees``."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    rotation = np.eye(3)
    first, second = (a for a in range(3) if a != axis)
    rotation[[first, first, second, second], [first, second, first, second]] = cos, -sin, sin, cos
    turned = sitk.Image(image)
    turned.SetDirection((rotation @ np.array(image.GetDirection()).reshape(3, 3)).ravel().tolist())
    return turned
