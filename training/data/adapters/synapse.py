"""Synapse's abdominal CT (BTCV, syn3193805), thirty portal-venous scans: eight of its thirteen organs.

``RawData.zip`` as published: ``RawData/Training`` with ``img/imgNNNN.nii.gz`` and ``label/labelNNNN.nii.gz``. The eight
organs and the twelve test scans are those that nearly all papers have taken since TransUNet; about a sixth of the other
eighteen is for validation.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from NoisyLabelSegLib.errors import InputError
from training.data.adapters.files import require, write_labels
from training.data.cases import Case, DataSet, split_of

ORGANS = {
    8: "aorta",
    4: "gallbladder",
    1: "spleen",
    3: "left kidney",
    2: "right kidney",
    6: "liver",
    11: "pancreas",
    7: "stomach",
}
"""By the published values; in what is written they are counted from 1 in this order, and all other organs are 0."""
LAST = 13
TEST = {1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38}


def adapt(source: Path, target: Path) -> DataSet:
    """Write label maps of the eight organs."""
    places = (source, source / "Training", source / "RawData" / "Training", source / "Abdomen" / "RawData" / "Training")
    folder = next((place for place in places if (place / "img").is_dir()), source)
    images = sorted((folder / "img").glob("img[0-9][0-9][0-9][0-9].nii.gz"))
    if not images:
        raise InputError(
            f"There are no 'img/img0001.nii.gz' files in '{source}': unpack RawData.zip and give its folder."
        )
    cases = tuple(_case(image, folder, target) for image in images)
    return DataSet("Synapse", dict(enumerate(ORGANS.values(), 1)), cases)


def _case(image: Path, folder: Path, target: Path) -> Case:
    number = image.name.removeprefix("img").removesuffix(".nii.gz")
    published = require(folder / "label" / f"label{number}.nii.gz")
    map_ = sitk.ReadImage(str(published))
    values = sitk.GetArrayFromImage(map_)
    if not np.isin(values, range(LAST + 1)).all():
        raise InputError(f"'{published}' has values that are none of 0 to {LAST}: is it of this data set?")
    eight = np.zeros(LAST + 1, np.uint8)
    eight[list(ORGANS)] = range(1, len(ORGANS) + 1)
    label = write_labels(target / "labelsTr" / f"case{number}.nii.gz", eight[values.astype(np.uint8)], map_)
    name = f"case{number}"
    split = "test" if int(number) in TEST else split_of(name, val=1 / 6, test=0.0)
    return Case(name, image, label, patient=name, split=split)
