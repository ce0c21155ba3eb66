"""Corrected cases as a training set on disk, in the format that ``python -m training`` reads.

A folder with ``dataset.json``, ``images/``, ``labels/`` (what a person accepted) and ``coarse/`` (what was given)::

    {"name": ..., "licence": "", "labels": {"0": "background", "1": NAME, ...},
     "training": [{"id": ..., "image": "images/ID.nii.gz", "label": ..., "coarse": ..., "patient": ...}, ...]}
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from NoisyLabelSegLib.cases import check_ids
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.exchange import write_together
from NoisyLabelSegLib.images import same_grid, save_file
from NoisyLabelSegLib.regions import masks_of
from NoisyLabelSegLib.segmentations import Segmentation

LIST = "dataset.json"
FOLDERS = {"image": "images", "label": "labels", "coarse": "coarse"}
MOST_LABELS = 255
_BACKGROUND = "background"
_KEYS = ("id", "image")


def add_pair(
    folder: Path,
    case_id: str,
    patient: str,
    image: sitk.Image,
    coarse: Segmentation,
    accepted: Segmentation,
    *,
    overwrite: bool = False,
) -> None:
    """Add a case to the training set in a folder, which is made if it is missing; all of it or nothing.

    A structure has the same label value in all cases, by its segment's name; a new name gets the next value. Nothing
    that the image's file says beside voxels and grid, such as a patient's name, is written.

    Args:
        folder: of the training set.
        case_id: names the case's files: letters, digits, - _ . and spaces.
        patient: an identifier that means nothing to strangers; the training never parts the cases of one patient.
        image: 3D, scalar.
        coarse: what was given.
        accepted: what it became, on the same grid with segments of the same names.
        overwrite: replaces a case of the same id.

    Raises:
        InputError: the case cannot be used or is there already, or the folder holds something else; then nothing has
            been written.
    """
    if not patient.strip() or not patient.isprintable():
        raise InputError("The patient's identifier is empty or not printable: give one, such as P001.")
    names = _names(coarse, accepted)
    file = folder / LIST
    before = _content_of(file)
    content = _parsed(before, file)
    _check_id(case_id, content, folder, overwrite)
    values = _values(content["labels"], names, file)
    images = {
        "image": _bare(image),
        "label": _label_map(accepted, values, image, "accepted result"),
        "coarse": _label_map(coarse, values, image, "coarse mask"),
    }
    paths = {kind: f"{subfolder}/{case_id}.nii.gz" for kind, subfolder in FOLDERS.items()}
    entries = [entry for entry in content["training"] if entry["id"] != case_id]
    content["labels"] = content["labels"] | {str(value): name for name, value in values.items()}
    content["training"] = [*entries, {"id": case_id, **paths, "patient": patient}]

    def write_list(temporary: Path) -> None:
        if _content_of(file) != before:
            raise InputError(f"{file} was changed by another program at the same moment: save the case again.")
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    jobs = {folder / paths[kind]: partial(save_file, image=picture) for kind, picture in images.items()}
    with _folders(folder):
        write_together({**jobs, file: write_list})


def has_case(folder: Path, case_id: str) -> bool:
    """Whether a training set in a folder has a case of that id.

    Raises:
        InputError: the folder holds something else.
    """
    file = folder / LIST
    return case_id in [entry["id"] for entry in _parsed(_content_of(file), file)["training"]]


def _names(coarse: Segmentation, accepted: Segmentation) -> list[str]:
    names = [name.strip() for name in accepted.names]
    if not names or sorted(names) != sorted(name.strip() for name in coarse.names):
        given, kept = (", ".join(names) or "none" for names in (coarse.names, accepted.names))
        raise InputError(f"The coarse mask has the segments {given}, but the accepted result {kept}: give the same.")
    for name in names:
        if not name or name.casefold() == _BACKGROUND:
            raise InputError(f"A segment is called '{name}', which cannot name a structure: rename it.")
        if names.count(name) > 1:
            raise InputError(f"Two segments are called '{name}': rename one of them.")
    return names


def _content_of(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror or error}): choose another folder.") from error


def _parsed(content: bytes | None, file: Path) -> dict[str, Any]:
    """The list of cases, whatever else it says; a new one where there is none."""
    if content is None:
        return {"name": file.parent.resolve().name, "licence": "", "labels": {"0": _BACKGROUND}, "training": []}
    try:
        parsed = json.loads(content)
        labels, training = parsed["labels"], parsed["training"]
        sound = isinstance(training, list) and all(isinstance(entry[key], str) for entry in training for key in _KEYS)
        sound &= all(isinstance(name, str) and int(value) >= 0 for value, name in labels.items())
        sound &= len(set(labels.values())) == len(set(map(int, labels))) == len(labels)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise InputError(f"{file} is damaged or not a training set of this program: choose another folder.") from error
    if not sound:
        raise InputError(f"{file} is not a training set of this program: choose another folder.")
    return dict(parsed)


def _check_id(case_id: str, content: Mapping[str, Any], folder: Path, overwrite: bool) -> None:
    ids = [entry["id"] for entry in content["training"]]
    if case_id in ids and not overwrite:
        raise InputError(f"{folder} has the case '{case_id}' already: give another id, or have it replaced.")
    check_ids([case_id, *(known for known in ids if known != case_id)], folder)
    targets = [folder / subfolder / f"{case_id}.nii.gz" for subfolder in FOLDERS.values()]
    if case_id not in ids and (there := [path for path in targets if path.exists()]):
        raise InputError(f"{there[0]} exists already and belongs to no case: move it away or give another id.")


def _values(labels: Mapping[str, str], names: list[str], file: Path) -> dict[str, int]:
    """The label value of every structure, old and new, by name."""
    values = {name: int(value) for value, name in labels.items() if int(value)}
    for name in names:
        values.setdefault(name, max(values.values(), default=0) + 1)
    if max(values.values()) > MOST_LABELS:
        raise InputError(f"{file} would have more than {MOST_LABELS} structures: begin a new folder.")
    return values


def _bare(image: sitk.Image) -> sitk.Image:
    """A copy without metadata."""
    result = sitk.Image(image)
    for key in result.GetMetaDataKeys():
        result.EraseMetaData(key)
    return result


def _label_map(segmentation: Segmentation, values: Mapping[str, int], image: sitk.Image, what: str) -> sitk.Image:
    if not same_grid(image, segmentation.image):
        raise InputError(f"The {what} is not on the image's grid: use the segmentation that was refined on this image.")
    labels = np.zeros(image.GetSize()[::-1], np.uint8)
    for name, mask in zip(segmentation.names, masks_of(segmentation), strict=True):
        part = labels[mask.box]
        if part[mask.values].any():
            raise InputError(f"Segments of the {what} overlap ('{name}' and another): a training set cannot hold that.")
        part[mask.values] = values[name.strip()]
    result = sitk.GetImageFromArray(labels)
    result.CopyInformation(image)
    return result


@contextmanager
def _folders(folder: Path) -> Iterator[None]:
    """Make the folders; after a failure those that were made go again."""
    made = []
    try:
        for path in (*reversed(folder.parents), folder, *(folder / name for name in FOLDERS.values())):
            if not path.is_dir():
                path.mkdir()
                made.append(path)
        yield
    except BaseException as error:
        for path in reversed(made):
            with suppress(OSError):
                path.rmdir()
        if isinstance(error, OSError):
            raise InputError(f"{folder} cannot be made ({error.strerror or error}): choose another folder.") from error
        raise
