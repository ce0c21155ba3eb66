"""Copy a model, a folder or a zip file, among the person's own models, and remove one of them."""

from __future__ import annotations

import re
import shutil
import stat
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from NoisyLabelSegLib.bundle.folder import DESCRIPTION, Bundle, check_amount, check_suffix, load_bundle
from NoisyLabelSegLib.bundle.search import list_bundles, user_folder
from NoisyLabelSegLib.bundle.staging import staged
from NoisyLabelSegLib.errors import InputError


def import_bundle(folder_or_zip: Path | str, overwrite: bool = False) -> Bundle:
    """Verify a model and copy it to `user_folder`, under its own name, at once or not at all.

    Args:
        folder_or_zip: a bundle's folder, or a zip file with a bundle at its top or in one folder.
        overwrite: replace a model of the same name.

    Raises:
        InputError: when it is not a sound model, or one of that name exists and ``overwrite`` is false.
    """
    source = Path(folder_or_zip)
    if source.is_dir():
        return _install(load_bundle(source), overwrite)
    if not source.is_file():
        raise InputError(f"There is no folder or zip file '{source}'.")
    with tempfile.TemporaryDirectory(prefix="noisylabelseg-") as name:
        folder = Path(name, source.stem)  # messages name it
        folder.mkdir()
        try:
            with zipfile.ZipFile(source) as archive:
                _extract(archive, source, folder)
        except InputError:
            raise
        except Exception as error:  # a stranger's zip fails anywhere inside zipfile, as any exception
            raise InputError(f"'{source}' cannot be unpacked as a zip file: {error}.") from error
        return _install(load_bundle(folder), overwrite)


def remove_bundle(name: str) -> None:
    """Delete one of the person's own models.

    Args:
        name: the model's; of one that cannot be used its folder's.

    Raises:
        InputError: when none of the person's own models is called so, or it cannot be deleted.
    """
    own = [bundle for bundle in list_bundles() if is_own(bundle.folder)]
    named = [b.folder for b in own if (b.description.name if isinstance(b, Bundle) else b.folder.name) == name]
    if not named:
        raise InputError(f"'{name}' is none of your own models in {user_folder()}: only these can be removed.")
    try:
        # At once out of the list of models, whatever happens while the files are deleted.
        hidden = Path(tempfile.mkdtemp(prefix=".removed-", dir=named[0].parent))
        named[0].rename(hidden / "model")
        shutil.rmtree(hidden)
    except OSError as error:
        raise InputError(f"The model '{named[0]}' cannot be removed: {error}.") from error


def is_own(folder: Path) -> bool:
    """Whether a model's folder is among the person's own ones."""
    return folder.parent.resolve() == user_folder().resolve()


def _install(bundle: Bundle, overwrite: bool) -> Bundle:
    target = user_folder() / bundle.description.name
    bundle.verify()
    with staged(target, overwrite) as new:
        shutil.copytree(bundle.folder, new, dirs_exist_ok=True, copy_function=shutil.copyfile)
    return load_bundle(target)


def _extract(archive: zipfile.ZipFile, source: Path, folder: Path) -> None:
    """Write the bundle's files to ``folder``; what lies beside the bundle (macOS adds such) is checked and left out."""
    members = archive.infolist()
    check_amount(len(members), sum(member.file_size for member in members), source)
    for member in members:
        _check_member(member, source)
    root = _root(members, source)
    for member in members:
        path = PurePosixPath(member.filename)
        if member.is_dir() or not path.is_relative_to(root):
            continue
        target = folder / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(member) as packed, target.open("xb") as file:
            shutil.copyfileobj(packed, file)


def _check_member(member: zipfile.ZipInfo, source: Path) -> None:
    name = member.filename
    parts = name.rstrip("/").split("/")
    if any(part in ("", ".", "..") or re.search(r'[\\:*?"<>|\x00-\x1f]', part) for part in parts):
        raise InputError(
            f"The model '{source}' is refused: the name {name[:200]!r} leads out of its folder or is not plain."
        )
    mode = stat.S_IFMT(member.external_attr >> 16)
    if mode not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise InputError(f"The model '{source}' is refused: {name[:200]!r} is a link or special file.")
    check_suffix(parts[-1], source)


def _root(members: list[zipfile.ZipInfo], source: Path) -> PurePosixPath:
    paths = [PurePosixPath(member.filename) for member in members]
    roots = [path.parent.parent for path in paths if str(path) == DESCRIPTION or str(path).endswith(f"/{DESCRIPTION}")]
    if len(roots) != 1 or len(roots[0].parts) > 1:
        raise InputError(
            f"'{source}' is not a model: it must hold exactly one {DESCRIPTION}, at its top or in one folder."
        )
    return roots[0]
