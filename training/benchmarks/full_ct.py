"""A small lesion in a whole synthetic CT: what a request costs beyond the network. Run in a process of its own."""

from __future__ import annotations

import resource
import sys
import time

import numpy as np
import SimpleITK as sitk

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.inference.model import load_model
from NoisyLabelSegLib.pipeline import refine
from NoisyLabelSegLib.segmentations import Segment, Segmentation

SHAPE, SPACING = (200, 512, 512), (0.7, 0.7, 1.5)
LESION = (slice(100, 105), slice(250, 260), slice(250, 260))
MODEL = "lidc-nodule-refine"


def main() -> None:
    """Print seconds and the process's peak memory."""
    try:
        model = load_model(MODEL, "cpu")
    except InputError as error:
        print(f"{MODEL}: {error}")
        return
    image, given = _scan()
    before, start = _megabytes(), time.perf_counter()
    result = refine(image, given, model)
    seconds, size = time.perf_counter() - start, " x ".join(map(str, image.GetSize()))
    print(
        f"{MODEL}, {size} voxels: {seconds:.1f} s ({len(result.stages) - 1} stages), "
        f"peak {_megabytes():.0f} MB, {before:.0f} MB of it before"
    )


def _scan() -> tuple[sitk.Image, Segmentation]:
    """Noise with a bright box, and a mask of the box, one voxel off."""
    voxels = np.random.default_rng(0).integers(-1000, -700, SHAPE, dtype=np.int16)
    voxels[LESION] += 900
    labels = np.zeros(SHAPE, np.uint8)
    labels[tuple(slice(part.start + 1, part.stop + 1) for part in LESION)] = 1
    image, mask = (sitk.GetImageFromArray(array) for array in (voxels, labels))
    image.SetSpacing(SPACING)
    mask.CopyInformation(image)
    return image, Segmentation(mask, (Segment("nodule", 1),))


def _megabytes() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024**2 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
