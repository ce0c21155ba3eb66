"""The cases of a run over many: from a CSV table, or from a folder with images and masks."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import SUFFIXES

FOLDER_PAIRS = (("images", "masks"), ("imagesTr", "coarseTr"), ("imagesTr", "masks"))


@dataclass(frozen=True)
class Case:
    """One image and its coarse mask; None where the list or the folder has none."""

    id: str
    image: Path | None
    mask: Path | None


def find_cases(source: Path) -> list[Case]:
    """List the cases of a CSV file or a folder.

    Args:
        source: a CSV file with the columns ``image`` and ``mask`` (paths relative to the file) and, if wanted, ``id``;
            or a folder with the subfolders images and masks, or imagesTr and coarseTr or masks, whose files belong
            together by name, without suffix and nnU-Net's ``_0000``.

    Raises:
        InputError: nothing there, an unreadable table, or ids that are not plain or not different.
    """
    if source.is_dir():
        cases = _from_folder(source)
    elif source.is_file():
        cases = _from_table(source)
    else:
        raise InputError(f"{source} does not exist: give a CSV file or a folder with images and masks.")
    if not cases:
        raise InputError(f"{source} holds no cases: give at least one image.")
    check_ids([case.id for case in cases], source)
    return cases


def case_id(path: Path) -> str:
    """A file's name without suffix and without nnU-Net's channel ``_0000``."""
    name = path.name
    for suffix in (".seg.nrrd", ".nii.gz", *SUFFIXES):
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
            break
    return name.removesuffix("_0000")


def check_ids(ids: list[str], source: Path) -> None:
    """Raise InputError unless all ids can name files, each another one; `source` names their list in the sentence."""
    seen: set[str] = set()
    for name in ids:
        # A result is called after its case, on disks where "a" and "A" may be one file.
        if not re.fullmatch(r"\w[\w.+@ -]{0,119}", name):
            raise InputError(f"{source} has the case id '{name}', which cannot name a file: use letters, digits, - _ .")
        if name.casefold() in seen:
            raise InputError(f"{source} has the case '{name}' twice: give each case an id of its own.")
        seen.add(name.casefold())


def _from_table(table: Path) -> list[Case]:
    try:
        text = table.read_text(encoding="utf-8-sig")
        head = text.partition("\n")[0]
        reader = csv.DictReader(io.StringIO(text), delimiter=";" if ";" in head and "," not in head else ",")
        columns = [str(name).strip().lower() for name in reader.fieldnames or ()]
        reader.fieldnames = columns
        rows = list(reader)
        if "\0" in text:
            raise csv.Error("no path holds such a sign")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table} cannot be read as a CSV table: save it as CSV in UTF-8.") from error
    if "image" not in columns:
        raise InputError(
            f"{table} has no column 'image': the first line must name the columns image, mask and, maybe, id."
        )
    return [_case(row, table) for row in rows if any(row.values())]


def _case(row: dict[str, str | None], table: Path) -> Case:
    image, mask, given = ((row.get(column) or "").strip() for column in ("image", "mask", "id"))
    if not image:
        raise InputError(f"{table} has a line without an image: {', '.join(str(value) for value in row.values())}.")
    path = table.parent / image
    return Case(given or case_id(path), path, table.parent / mask if mask else None)


def _from_folder(folder: Path) -> list[Case]:
    for images, masks in FOLDER_PAIRS:
        if (folder / images).is_dir() and (folder / masks).is_dir():
            pictures, given = _by_id(folder / images), _by_id(folder / masks)
            return [Case(name, pictures.get(name), given.get(name)) for name in sorted(pictures | given)]
    wanted = ", or ".join(f"{images}/ and {masks}/" for images, masks in FOLDER_PAIRS)
    raise InputError(f"{folder} lacks the subfolders {wanted}: arrange the cases so, or give a CSV file.")


def _by_id(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not (path.is_dir() or path.name.lower().endswith(SUFFIXES)):
            continue
        name = case_id(path)
        if name in found:
            raise InputError(f"{folder} has two files for the case '{name}': {found[name].name} and {path.name}.")
        found[name] = path
    return found
