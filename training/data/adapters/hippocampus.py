"""MSD Task04 Hippocampus (CC BY-SA 4.0): coarse masks are warps of the expert's, calibrated to a mean DSC of 0.6."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from training.data.adapters.files import published_images, require, write_labels
from training.data.cases import Case, DataSet, case_id, split_of
from training.data.coarse import CoarseSettings, calibrate_warp, simulate

TARGET_DICE = 0.6
CALIBRATION_CASES = 40


def adapt(source: Path, target: Path) -> DataSet:
    """Write a coarse mask for every case; the warp is calibrated on training cases only."""
    images = [path for path in published_images(source) if not path.name.startswith(".")]
    labels = {case_id(path): require(source / "labelsTr" / path.name) for path in images}
    training = [name for name in labels if split_of(name) == "train"][:CALIBRATION_CASES]
    strength = calibrate_warp([_read(labels[name]) for name in training], TARGET_DICE)
    cases = []
    for number, path in enumerate(images):
        name = case_id(path)
        coarse = simulate(_read(labels[name]), CoarseSettings(warp=strength), np.random.default_rng((2024, number)))
        coarse_path = write_labels(target / "coarseTr" / path.name, coarse, sitk.ReadImage(str(labels[name])))
        cases.append(Case(name, path, labels[name], coarse_path, patient=name, split=split_of(name)))
    names = {1: "anterior", 2: "posterior"}
    return DataSet("MSD Hippocampus", names, tuple(cases), "CC BY-SA 4.0", {"warp": strength})


def _read(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path))).astype(np.uint8)
