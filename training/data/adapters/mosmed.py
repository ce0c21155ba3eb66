"""MosMedData+, lung infections in slices of CT, as LViT publishes it: ``{Train,Val,Test}_Folder/{img,labelcol}``.

A mask has its image's name, or the image's with ``mask_`` before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.data.adapters.pictures import Picture, adapt_pictures, pictures_of, same_name
from training.data.cases import DataSet, Split

NAME = "MosMedData+"
FOLDERS: dict[Split, str] = {"train": "Train_Folder", "val": "Val_Folder", "test": "Test_Folder"}


def adapt(source: Path, target: Path) -> DataSet:
    """Write slices and infections; who they are of is not published."""
    return DataSet(NAME, {1: "infection"}, adapt_pictures(NAME, _pictures(source), target))


def _pictures(source: Path) -> Iterator[Picture]:
    for split, folder in FOLDERS.items():
        masks = source / folder / "labelcol"
        for image in pictures_of(source / folder / "img"):
            other = [path for path in pictures_of(masks) if path.stem == f"mask_{image.stem}"]
            yield Picture(image.stem, image, other[0] if other else same_name(masks, image.stem), split)
