"""A folder of images without labels, at any depth beneath it: what pre-training learns from.

Every file is read once. What cannot be used (damaged, 4D, colours) is left out, counted and listed in ``skipped.json``
beside ``dataset.json``: one file in thousands stops nothing.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from NoisyLabelSegLib.cases import case_id, check_ids
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import SUFFIXES, read_image, require_finite
from training.data.adapters.nnunet import patient_of
from training.data.cases import Case, DataSet, split_of
from training.texts import write_text

LONGEST = 100  # Letters of a case's name.


def adapt(source: Path, target: Path) -> DataSet:
    """List all images of ``source`` that can be read, files or folders of one DICOM series, 9:1 for a held-out part.

    A case is called after its path; files of one folder beneath ``source`` are one patient's, those in ``source``
    itself are told apart as `nnunet.patient_of` does.

    Raises:
        InputError: there is no image, or none that can be read.
    """
    found = sorted(_images(source))
    if not found:
        raise InputError(f"There is no image in '{source}': give a folder with {', '.join(SUFFIXES)} files or DICOM.")
    cases, skipped = [], {}
    for path in found:
        try:
            require_finite(read_image(path), str(path))
        except InputError as error:
            skipped[path.relative_to(source).as_posix()] = str(error)
        else:
            cases.append(_case(path, source))
    _tell(skipped, len(found), target)
    if not cases:
        raise InputError(f"None of the {len(found)} images in '{source}' can be read: {next(iter(skipped.values()))}")
    check_ids([case.id for case in cases], source)
    return DataSet(target.name, {}, tuple(cases))


def _images(source: Path) -> Iterator[Path]:
    """Image files but segmentations, and folders with ``*.dcm`` files."""
    for path in source.rglob("*"):
        name = path.name.lower()
        if path.is_file() and name.endswith(SUFFIXES) and not name.startswith(".") and not name.endswith(".seg.nrrd"):
            yield path
    yield from {path.parent for path in source.rglob("*.dcm")}


def _case(path: Path, source: Path) -> Case:
    parts = path.relative_to(source).parts
    name = re.sub(r"[^\w.+@ -]", "_", "-".join([*parts[:-1], case_id(path)]))[-LONGEST:]
    patient = parts[0] if len(parts) > 1 else patient_of(Case(name, path, patient=name))
    return Case(name, path, patient=patient, split=split_of(patient, test=0))


def _tell(skipped: dict[str, str], count: int, target: Path) -> None:
    if skipped:
        target.mkdir(parents=True, exist_ok=True)
        write_text(target / "skipped.json", json.dumps(skipped, indent=1))
        print(f"{len(skipped)} of {count} images are left out, see '{target / 'skipped.json'}'.", file=sys.stderr)
