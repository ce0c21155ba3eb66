"""A training set on disk that grows case by case, in the format that ``python -m training`` reads.

A folder with ``dataset.json``, ``images/`` and, of what is known of the images, ``labels/``, ``coarse/`` and
``drawings/``::

    {"name": ..., "licence": "", "labels": {"0": "background", "1": NAME, ...},
     "training": [{"id": ..., "image": "images/ID.nii.gz", ..., "patient": ...}, ...]}
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from NoisyLabelSegLib.cases import check_ids
from NoisyLabelSegLib.drawn_segments import BACKGROUND
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.exchange import write_together
from NoisyLabelSegLib.images import save_file

LIST = "dataset.json"
MOST_LABELS = 254
"""255 stands for what nobody drew on."""
_KEYS = ("id", "image")

Known = tuple[Mapping[str, Any], Mapping[str, NDArray[np.uint8]]]
"""What the list says of a case besides its image, and the label maps that this names, by their paths in the folder."""


def add_case(
    folder: Path,
    case_id: str,
    patient: str,
    image: sitk.Image,
    names: Sequence[str],
    know: Callable[[Mapping[str, int]], Known],
    *,
    overwrite: bool = False,
) -> None:
    """Add a case to the training set in a folder, which is made if it is missing; all of it or nothing.

    A structure has the same label value in all cases; a new name gets the next value. Nothing that the image's file
    says beside voxels and grid, such as a patient's name, is written.

    Args:
        folder: of the training set.
        case_id: names the case's files: letters, digits, - _ . and spaces.
        patient: an identifier that means nothing to strangers; the training never parts the cases of one patient.
        image: 3D, scalar.
        names: of the structures that the case speaks of.
        know: given every structure's label value by name, what is known of the image, on its grid.
        overwrite: replaces a case of the same id with all its files.

    Raises:
        InputError: the case is there already, or the folder holds something else; then, as after an error of ``know``,
            nothing has been written.
    """
    if not patient.strip() or not patient.isprintable():
        raise InputError("The patient's identifier is empty or not printable: give one, such as P001.")
    file = folder / LIST
    before = _content_of(file)
    content = _parsed(before, file)
    _check_id(case_id, content, folder, overwrite)
    values = _values(content["labels"], names, file)
    known, label_maps = know(values)
    picture = f"images/{case_id}.nii.gz"
    files = {picture: _bare(image), **{path: _like(image, labels) for path, labels in label_maps.items()}}
    entries = [entry for entry in content["training"] if entry["id"] != case_id]
    content["labels"] = content["labels"] | {str(value): name for name, value in values.items()}
    content["training"] = [*entries, {"id": case_id, "image": picture, **known, "patient": patient}]

    def write_list(temporary: Path) -> None:
        if _content_of(file) != before:
            raise InputError(f"{file} was changed by another program at the same moment: save the case again.")
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    jobs = {folder / path: partial(save_file, image=one) for path, one in files.items()}
    stale = [path for path in _files_of(case_id, folder) if path not in jobs]
    with _folders(folder, {path.parent for path in jobs}):
        write_together({**jobs, file: write_list}, stale)


def has_case(folder: Path, case_id: str) -> bool:
    """Whether a training set in a folder has a case of that id.

    Raises:
        InputError: the folder holds something else.
    """
    file = folder / LIST
    return case_id in [entry["id"] for entry in _parsed(_content_of(file), file)["training"]]


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
        return {"name": file.parent.resolve().name, "licence": "", "labels": {"0": BACKGROUND}, "training": []}
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
    if case_id not in ids and (there := _files_of(case_id, folder)):
        raise InputError(f"{there[0]} exists already and belongs to no case: move it away or give another id.")


def _files_of(case_id: str, folder: Path) -> list[Path]:
    """The files that are there under the names of a case's own."""
    named = [folder / kind / f"{case_id}.nii.gz" for kind in ("images", "labels", "coarse")]
    numbered = re.compile(rf"{re.escape(case_id)}_\d+\.nii\.gz")
    drawn = sorted(path for path in (folder / "drawings").glob("*.nii.gz") if numbered.fullmatch(path.name))
    return [path for path in (*named, *drawn) if path.exists()]


def _values(labels: Mapping[str, str], names: Sequence[str], file: Path) -> dict[str, int]:
    """The label value of every structure, old and new, by name."""
    values = {name: int(value) for value, name in labels.items() if int(value)}
    for name in names:
        if alike := [other for other in values if other != name and other.casefold() == name.casefold()]:
            raise InputError(f"{file} knows '{alike[0]}', and here it is '{name}': spell a structure alike.")
        values.setdefault(name, max(values.values(), default=0) + 1)
    if max(values.values(), default=0) > MOST_LABELS:
        raise InputError(f"{file} would have more than {MOST_LABELS} structures: begin a new folder.")
    return values


def _bare(image: sitk.Image) -> sitk.Image:
    """A copy without metadata."""
    result = sitk.Image(image)
    for key in result.GetMetaDataKeys():
        result.EraseMetaData(key)
    return result


def _like(image: sitk.Image, labels: NDArray[np.uint8]) -> sitk.Image:
    result = sitk.GetImageFromArray(labels)
    result.CopyInformation(image)
    return result


@contextmanager
def _folders(folder: Path, inner: Iterable[Path]) -> Iterator[None]:
    """Make the folders; after a failure those that were made go again."""
    made = []
    try:
        for path in (*reversed(folder.parents), folder, *inner):
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
