"""ISIC 2016, part 1, dermoscopy: ``ISBI2016_ISIC_Part1_{Training,Test}_{Data,GroundTruth}`` as published (CC0).

The published test part stays one; a tenth of the training part is for validation.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.data.adapters.pictures import Picture, adapt_pictures, pictures_of, same_name
from training.data.cases import DataSet, split_of

NAME = "ISIC 2016"


def adapt(source: Path, target: Path) -> DataSet:
    """Write channels and lesions."""
    return DataSet(NAME, {1: "lesion"}, adapt_pictures(NAME, _pictures(source), target), "CC0-1.0")


def _pictures(source: Path) -> Iterator[Picture]:
    for part in ("Training", "Test"):
        folder = source / f"ISBI2016_ISIC_Part1_{part}_GroundTruth"
        for image in pictures_of(source / f"ISBI2016_ISIC_Part1_{part}_Data"):
            split = "test" if part == "Test" else split_of(image.stem, val=0.1, test=0.0)
            yield Picture(image.stem, image, same_name(folder, f"{image.stem}_Segmentation"), split)
