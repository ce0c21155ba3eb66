"""A folder of images without labels, at any depth beneath it: what pre-training learns from.

Every file is read once. What cannot be used (damaged, 4D, colours) is left out, counted and listed in ``skipped.json``
beside ``dataset.json``: one file in thousands stops nothing. Folders of labels and hidden ones are passed over.
"""

from __future__ import annotations

import json
import re
import sys
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path

from NoisyLabelSegLib.cases import case_id
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import SUFFIXES, read_image, require_finite
from training.data.adapters.nnunet import patient_of
from training.data.cases import Case, DataSet, split_of
from training.texts import write_text

LONGEST = 100  # Letters of a case's name.
SIGNS = ".+@ -"  # What a name may hold but not begin with.
SPLIT_ALREADY = {"imagestr", "imagests"}  # Folders of nnU-Net and the Decathlon, of many patients.


def adapt(source: Path, target: Path) -> DataSet:
    """List all images of ``source`` that can be read, files or folders of one DICOM series, 9:1 for a held-out part.

    A case is called after its path. Images of one folder are one patient's, but those in ``source`` itself, in
    ``imagesTr`` and in ``imagesTs``, which are told apart as `nnunet.patient_of` does.

    Raises:
        InputError: there is no image, or none that can be read.
    """
    found = sorted(_images(source))
    if not found:
        raise InputError(f"There is no image in '{source}': give a folder with {', '.join(SUFFIXES)} files or DICOM.")
    cases: dict[str, Case] = {}
    skipped = {}
    for path in found:
        try:
            require_finite(read_image(path), str(path))
        except InputError as error:
            skipped[path.relative_to(source).as_posix()] = str(error)
        else:
            case = _case(path, source, cases)
            cases[case.id.casefold()] = case
    _tell(skipped, len(found), target)
    if not cases:
        raise InputError(f"None of the {len(found)} images in '{source}' can be read: {next(iter(skipped.values()))}")
    return DataSet(target.name, {}, tuple(cases.values()))


def _images(source: Path) -> Iterator[Path]:
    """Image files but segmentations, and folders with ``*.dcm`` files."""
    every = [path for path in source.rglob("*") if not _passed_over(path.relative_to(source))]
    for path in every:
        name = path.name.lower()
        if path.is_file() and name.endswith(SUFFIXES) and not name.endswith(".seg.nrrd"):
            yield path
    yield from {path.parent for path in every if path.match("*.dcm")}


def _passed_over(path: Path) -> bool:
    labels = any(part.lower().startswith("labels") for part in path.parts[:-1])
    return labels or any(part.startswith(".") for part in path.parts)


def _case(path: Path, source: Path, taken: Collection[str]) -> Case:
    inside = path.relative_to(source)
    whole = "-".join([*inside.parts[:-1], case_id(path)])
    several = inside.parent == Path() or inside.parent.name.lower() in SPLIT_ALREADY
    patient = patient_of(Case(whole, path, patient=whole)) if several else inside.parent.as_posix()
    return Case(_name(whole, taken), path, patient=patient, split=split_of(patient, test=0))


def _name(text: str, taken: Collection[str]) -> str:
    """A name that a file can have; where that is cut or there already, with a mark of its own."""
    plain = re.sub(r"[^\w.+@ -]", "_", text).lstrip(SIGNS)
    if 0 < len(plain) <= LONGEST and plain.casefold() not in taken:
        return plain
    return f"{plain[-LONGEST:]}-{zlib.crc32(text.encode(errors='surrogateescape')):08x}".lstrip(SIGNS)


def _tell(skipped: dict[str, str], count: int, target: Path) -> None:
    if skipped:
        target.mkdir(parents=True, exist_ok=True)
        write_text(target / "skipped.json", json.dumps(skipped, indent=1))
        print(f"{len(skipped)} of {count} images are left out, see '{target / 'skipped.json'}'.", file=sys.stderr)
