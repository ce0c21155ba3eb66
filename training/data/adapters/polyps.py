"""Polyps in endoscopy, as PraNet publishes five sets: ``TrainDataset`` and ``TestDataset/{CVC-300,...,Kvasir}``.

Each holds ``images`` and ``masks``, or ``image`` and ``mask``, of the same names. A tenth of the training part is for
validation; a case's name begins with its set's.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.data.adapters.pictures import Picture, adapt_pictures, pictures_of, same_name
from training.data.cases import DataSet, split_of

NAME = "polyps"


def adapt(source: Path, target: Path) -> DataSet:
    """Write channels and polyps."""
    return DataSet(NAME, {1: "polyp"}, adapt_pictures(NAME, _pictures(source), target))


def _pictures(source: Path) -> Iterator[Picture]:
    for folder in (source / "TrainDataset", *sorted((source / "TestDataset").glob("*"))):
        masks = folder / ("masks" if (folder / "masks").is_dir() else "mask")
        for image in (*pictures_of(folder / "images"), *pictures_of(folder / "image")):
            name = f"{folder.name}_{image.stem}"
            split = split_of(name, val=0.1, test=0.0) if folder.name == "TrainDataset" else "test"
            yield Picture(name, image, same_name(masks, image.stem), split)
