"""One label map of several full drawings: the majority's, or SimpleITK's STAPLE (Warfield et al., TMI 2004)."""

from __future__ import annotations

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

Fusion = Literal["majority", "staple"]
Labels = NDArray[np.uint8]


def fuse_dataset(dataset: DataSet, folder: Path, by: Fusion) -> DataSet:
    """Write a copy whose training labels are made of each case's full drawings; other parts keep theirs.

    Raises:
        InputError: a training case has no full drawing.
    """
    cases = tuple(_fused(case, folder, by) if case.split == "train" else case for case in dataset.cases)
    fused = replace(dataset, name=f"{dataset.name}, fused by {by}", cases=cases)
    write_dataset(folder, fused)
    return fused


def fuse(drawings: Labels, by: Fusion) -> Labels:
    """A label map ``(slices, rows, columns)`` of several, ``(drawings, slices, rows, columns)``.

    The majority is more than half of them; what no class has the majority of, or STAPLE cannot decide, is background.
    """
    if by == "majority" or (drawings == drawings[0]).all():
        return consensus(drawings)
    staple = sitk.MultiLabelSTAPLEImageFilter()
    staple.SetLabelForUndecidedPixels(0)
    return sitk.GetArrayFromImage(staple.Execute([sitk.GetImageFromArray(one) for one in drawings])).astype(np.uint8)


def _fused(case: Case, folder: Path, by: Fusion) -> Case:
    full = [drawing for drawing in case.drawings if drawing.kind == "full"]
    if not full:
        raise InputError(f"The training case '{case.id}' has no full drawing that labels could be made of.")
    image = read_image(case.image)
    # A code is the class plus one; where a drawing says nothing, as it does of background.
    codes = [read_drawings(replace(case, drawings=(one,)), image, [strategy_of(one)])[0] for one in full]
    labels = fuse(np.maximum(np.stack(codes) - 1, 0).astype(np.uint8), by)
    return replace(case, label=write_labels(folder / "fusedTr" / f"{case.id}.nii.gz", labels, image))
