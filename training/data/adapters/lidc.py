"""LIDC-IDRI nodule crops with four raters (CC BY 3.0).

Expert is the consensus of at least 3 of 4, coarse is the most deviating rater. The four masks are full drawings, too,
of "rater 0" to "rater 3": rater k is not the same person in all cases, so what is learnt of one is what raters have in
common, not how somebody errs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from training.data.adapters.files import published_images, require, write_labels
from training.data.cases import Case, DataSet, Drawing, case_id, split_of
from training.data.raters import consensus, most_deviating

RATERS = 4


def adapt(source: Path, target: Path) -> DataSet:
    """Write expert and coarse masks of every nodule; nodules without any consensus are left out."""
    cases = []
    for image_path in published_images(source):
        name = case_id(image_path)
        paths = [require(source / "ratersTr" / f"{name}_rater{k}.nii.gz") for k in range(RATERS)]
        images = [sitk.ReadImage(str(path)) for path in paths]
        raters = np.stack([sitk.GetArrayFromImage(image) > 0 for image in images])
        expert = consensus(raters)
        if not expert.any():
            continue
        coarse = most_deviating(raters, expert)
        patient = name.split("_")[0]
        cases.append(
            Case(
                id=name,
                image=image_path,
                label=write_labels(target / "labelsTr" / f"{name}.nii.gz", expert.astype(np.uint8), images[0]),
                coarse=write_labels(target / "coarseTr" / f"{name}.nii.gz", coarse.astype(np.uint8), images[0]),
                raters=tuple(paths),
                patient=patient,
                split=split_of(patient),
                drawings=tuple(Drawing(path, f"rater {k}", "full") for k, path in enumerate(paths)),
            )
        )
    return DataSet("LIDC-IDRI nodules", {1: "nodule"}, tuple(cases), "CC BY 3.0")
