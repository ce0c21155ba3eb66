"""ACDC cine MR (CC BY-NC-SA 4.0: for measuring only).

Coarse masks are the experts', shifted at the border and with missed slices.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from training.data.adapters.files import published_images, require, write_labels
from training.data.cases import Case, DataSet, case_id, split_of
from training.data.coarse import CoarseSettings, simulate

COARSE = CoarseSettings(warp=0.08, grow=2, blobs=1.5, drop=0.05)


def adapt(source: Path, target: Path) -> DataSet:
    """Write a coarse mask for every volume; both frames of a patient stay in one split."""
    cases = []
    for number, path in enumerate(published_images(source)):
        name = case_id(path)
        patient = name.split("_")[0]
        label = require(source / "labelsTr" / path.name)
        image = sitk.ReadImage(str(label))
        expert = sitk.GetArrayFromImage(image).astype(np.uint8)
        coarse = simulate(expert, COARSE, np.random.default_rng((2024, number)))
        coarse_path = write_labels(target / "coarseTr" / path.name, coarse, image)
        cases.append(Case(name, path, label, coarse_path, patient=patient, split=split_of(patient)))
    labels = {1: "right ventricle", 2: "myocardium", 3: "left ventricle"}
    return DataSet("ACDC", labels, tuple(cases), "CC BY-NC-SA 4.0", asdict(COARSE))
