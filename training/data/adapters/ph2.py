"""PH2, dermoscopy (research only: measure with it, ship no weights).

As published, ``IMD002/IMD002_Dermoscopic_Image/IMD002.bmp`` and ``IMD002/IMD002_lesion/IMD002_lesion.bmp`` in
``PH2 Dataset images``, or as ``imagesTr/IMD002.png`` and ``labelsTr/IMD002.png``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.data.adapters.files import require
from training.data.adapters.pictures import Picture, adapt_pictures, pictures_of, same_name
from training.data.cases import DataSet, split_of

NAME = "PH2"


def adapt(source: Path, target: Path) -> DataSet:
    """Write channels and lesions; a lesion is a patient of its own."""
    return DataSet(NAME, {1: "lesion"}, adapt_pictures(NAME, _pictures(source), target), "research only")


def _pictures(source: Path) -> Iterator[Picture]:
    for image in pictures_of(source / "imagesTr"):
        yield Picture(image.stem, image, same_name(source / "labelsTr", image.stem), split_of(image.stem))
    for folder in sorted((source / "PH2 Dataset images").glob("IMD*")):
        name = folder.name
        image = require(folder / f"{name}_Dermoscopic_Image" / f"{name}.bmp")
        yield Picture(name, image, require(folder / f"{name}_lesion" / f"{name}_lesion.bmp"), split_of(name))
