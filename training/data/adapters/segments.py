"""Images and what was drawn on them in 3D Slicer: ``NAME.nii.gz`` or ``NAME.nrrd`` with ``NAME.seg.nrrd`` beside it.

The segments' names say what is drawn and by whom, see `NoisyLabelSegLib.drawn_segments`. There is no expert's label.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from NoisyLabelSegLib.cases import check_ids
from NoisyLabelSegLib.drawn_segments import MOST_CLASSES, NOBODY, drawings_of, structures_of
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import read_image
from NoisyLabelSegLib.inference.checks import on_grid
from NoisyLabelSegLib.segmentations import read_segmentation
from training.data.adapters.files import write_labels
from training.data.adapters.nnunet import patient_of
from training.data.cases import Case, DataSet, Drawing, split_of


def adapt(source: Path, target: Path) -> DataSet:
    """Write the drawings as label maps; images without any are left out. Patients are those of `nnunet.patient_of`.

    Raises:
        InputError: nothing drawn, an image that is missing, drawings beside it, or segments that cannot be used.
    """
    files = sorted(source.glob("*.seg.nrrd"))
    if not files:
        raise InputError(f"There are no '*.seg.nrrd' files in '{source}': save the segmentations there in 3D Slicer.")
    check_ids([_name(file) for file in files], source)
    names: dict[str, None] = {}
    for file in files:
        drawn = read_segmentation(file)
        with _told_of(file):
            names |= dict.fromkeys(structures_of(drawn.names))
    if len(names) >= MOST_CLASSES:
        raise InputError(f"{len(names)} structures are drawn in '{source}', and {MOST_CLASSES - 1} at most can be.")
    values = {name: number for number, name in enumerate(names, 1)}
    cases = tuple(_case(file, values, target) for file in files)
    return DataSet(source.resolve().name, {number: name for name, number in values.items()}, cases)


def _case(file: Path, values: Mapping[str, int], target: Path) -> Case:
    name = _name(file)
    images = [path for ending in (".nii.gz", ".nrrd") if (path := file.with_name(name + ending)).is_file()]
    if not images:
        raise InputError(f"The image of '{file}' is missing: put '{name}.nii.gz' or '{name}.nrrd' beside it.")
    image, segmentation = read_image(images[0]), read_segmentation(file)
    with _told_of(file):
        segmentation, notes = on_grid(segmentation, image)
        found = drawings_of(segmentation, values)
    for note in notes:
        print(f"{name}: {note}", file=sys.stderr)
    drawings = []
    for number, drawn in enumerate(found, 1):
        path = write_labels(target / "drawings" / f"{name}_{number}.nii.gz", drawn.labels, image)
        drawings.append(Drawing(path, drawn.annotator, drawn.kind, NOBODY, drawn.means))
    patient = patient_of(Case(name, images[0], patient=name))
    return Case(name, images[0], patient=patient, split=split_of(patient), drawings=tuple(drawings))


def _name(file: Path) -> str:
    return file.name.removesuffix(".seg.nrrd")


@contextmanager
def _told_of(file: Path) -> Iterator[None]:
    """An error's sentence says in which file."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{file.name}: {error}") from error
