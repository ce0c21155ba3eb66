"""One label map of several full drawings: the majority's, STAPLE's (Warfield et al., TMI 2004), or one of them.

Labels of one random rater are labels with real noise; what they replace counts as clean.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import read_image
from training.data.adapters.files import write_labels
from training.data.cases import Case, DataSet, write_dataset
from training.data.drawings import read_drawings, strategy_of
from training.data.raters import consensus

Fusion = Literal["majority", "staple", "random"]
Labels = NDArray[np.uint8]
NAMES = {"majority": "fused by majority", "staple": "fused by STAPLE", "random": "one random rater"}


def fuse_dataset(dataset: DataSet, folder: Path, by: Fusion, seed: int = 0) -> DataSet:
    """Write a copy whose training labels are made of each case's full drawings; other parts keep theirs.

    Args:
        dataset: its training cases have full drawings.
        folder: for the copy.
        by: see `fuse`.
        seed: of who is drawn at random in each case.

    Raises:
        InputError: a training case has no full drawing.
    """
    cases = tuple(_fused(case, folder, by, seed) if case.split == "train" else case for case in dataset.cases)
    fused = replace(dataset, name=f"{dataset.name}, {NAMES[by]}", cases=cases)
    write_dataset(folder, fused)
    return fused


def fuse(drawings: Labels, by: Fusion, rng: np.random.Generator) -> Labels:
    """A label map ``(slices, rows, columns)`` of several, ``(drawings, slices, rows, columns)``.

    The majority is more than half of them; what no class has the majority of, or STAPLE cannot decide, is background.
    """
    if by == "random":
        return rng.choice(drawings)
    if by == "majority" or (drawings == drawings[0]).all():
        return consensus(drawings)
    staple = sitk.MultiLabelSTAPLEImageFilter()
    staple.SetLabelForUndecidedPixels(0)
    return sitk.GetArrayFromImage(staple.Execute([sitk.GetImageFromArray(one) for one in drawings])).astype(np.uint8)


def _fused(case: Case, folder: Path, by: Fusion, seed: int) -> Case:
    full = [drawing for drawing in case.drawings if drawing.kind == "full"]
    if not full:
        raise InputError(f"The training case '{case.id}' has no full drawing that labels could be made of.")
    image = read_image(case.image)
    # A code is the class plus one; where a drawing says nothing, as it does of background.
    codes = [read_drawings(replace(case, drawings=(one,)), image, [strategy_of(one)])[0] for one in full]
    rng = np.random.default_rng((seed, zlib.crc32(case.id.encode())))
    labels = fuse(np.maximum(np.stack(codes) - 1, 0).astype(np.uint8), by, rng)
    written = write_labels(folder / "fusedTr" / f"{case.id}.nii.gz", labels, image)
    clean = (case.clean or case.label) if by == "random" else case.clean
    return replace(case, label=written, clean=clean, verified=False)
