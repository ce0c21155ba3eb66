"""ACDC cine MR (CC BY-NC-SA 4.0: for measuring only).

Coarse masks are the experts', shifted at the border and with missed slices. The published scribbles (0 background
stroke, 1 to 3 structures, 4 nothing) are two drawings of "scribbles": what is drawn as a structure, and the background
stroke as what is none of them. In a third one, of "strokes", the background's is a class as any other.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from training.data.adapters.files import published_images, require, write_labels
from training.data.cases import Case, DataSet, Drawing, case_id, split_of
from training.data.coarse import CoarseSettings, simulate

LABELS = {1: "right ventricle", 2: "myocardium", 3: "left ventricle"}
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
        drawings = scribbles(source / "scribblesTr" / path.name)
        cases.append(Case(name, path, label, coarse_path, patient=patient, split=split_of(patient), drawings=drawings))
    return DataSet("ACDC", LABELS, tuple(cases), "CC BY-NC-SA 4.0", asdict(COARSE))


def scribbles(path: Path) -> tuple[Drawing, ...]:
    """A case's scribbles, where they lie beside it, as drawings; see the module's text."""
    if not path.is_file():
        return ()
    structures = tuple(LABELS)
    return (
        Drawing(path, "scribbles", "positive", 4, {0: ()}),
        Drawing(path, "scribbles", "complementary", 4, {0: structures, **dict.fromkeys(structures, ())}),
        Drawing(path, "strokes", "positive", 4),
    )
