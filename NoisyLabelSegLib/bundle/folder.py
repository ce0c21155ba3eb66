"""A bundle's folder: what lies in it, and what is safe to touch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from NoisyLabelSegLib.bundle.description import ModelDescription, read_description
from NoisyLabelSegLib.errors import InputError

if TYPE_CHECKING:
    from torch import nn

DESCRIPTION = "configs/model.json"
METADATA = "configs/metadata.json"
MODEL_CARD = "docs/README.md"
LICENCE = "LICENSE"

MAXIMUM_FILES = 1000
MAXIMUM_BYTES = 5 * 1024**3
_CODE = ".py .pyc .pyd .so .dll .dylib .exe .sh .bat .cmd .ps1"
_PICKLES = ".pt .pth .pkl .pickle .ckpt .joblib .ts .npy .npz .bin .h5 .onnx"
CODE_SUFFIXES = frozenset(f"{_CODE} {_PICKLES}".split())


@dataclass(frozen=True)
class Bundle:
    """A model in a folder, its description checked; the weights are untouched until `verify` or `network`."""

    folder: Path
    description: ModelDescription

    @property
    def weights_path(self) -> Path:
        """The safetensors file."""
        return self.folder / self.description.weights.file

    def verify(self) -> None:
        """Prove that the weights are the ones described and fit the network, without loading them, and that it can run.

        Raises:
            InputError: when the hash, the file's structure, or a tensor's name, shape or type is wrong, when the
                network cannot be built or is too large, or when method, preprocessing, network and labels do not fit
                each other.
        """
        from NoisyLabelSegLib.bundle import fitness, weights

        if weights.sha256(self.weights_path) != self.description.weights.sha256:
            raise InputError(
                f"The weights '{self.weights_path}' are damaged or exchanged (SHA-256): get the model again."
            )
        weights.check_layout(self.weights_path, self.description.network)
        fitness.check_fitness(self.description)

    def network(self) -> nn.Module:
        """Verify, then build the network: float32, on the CPU, in evaluation mode.

        Raises:
            InputError: see `verify`.
        """
        from NoisyLabelSegLib.bundle import weights

        self.verify()
        return weights.build_loaded(self.weights_path, self.description.network)


def load_bundle(folder: Path | str) -> Bundle:
    """Read and check a bundle's description and the list of its files; its weights are not read.

    Raises:
        InputError: when something is missing, wrong or not safe to load: see the message.
    """
    folder = Path(folder)
    if not (folder / DESCRIPTION).is_file():
        raise InputError(f"'{folder}' is not a model: it has no file {DESCRIPTION}.")
    folder = folder.resolve()
    check_files(folder)
    bundle = Bundle(folder, read_description(folder / DESCRIPTION))
    for name in (METADATA, MODEL_CARD, LICENCE, bundle.description.weights.file):
        if not (folder / name).is_file():
            raise InputError(f"The model '{folder}' lacks the file {name}.")
    size, expected = bundle.weights_path.stat().st_size, bundle.description.weights.bytes
    if size != expected:
        raise InputError(
            f"The weights '{bundle.weights_path}' have {size} bytes instead of {expected}: get the model again."
        )
    return bundle


def check_files(folder: Path) -> None:
    """Refuse a folder with code, pickles, special files, links that lead out of it, or too much in it.

    Raises:
        InputError: naming the file.
    """
    count = total = 0
    for parent, folders, files in os.walk(folder, onerror=_unreadable):
        for path in (Path(parent, name) for name in (*folders, *files)):
            check_suffix(path.name, folder)
            if not Path(os.path.realpath(path)).is_relative_to(folder):
                raise InputError(f"The model '{folder}' is refused: the link {path.name!r} leads out of its folder.")
            if not (path.is_file() or path.is_dir()):
                raise InputError(f"The model '{folder}' is refused: {path.name!r} is neither a file nor a folder.")
            count, total = count + 1, total + (path.stat().st_size if path.is_file() else 0)
            check_amount(count, total, folder)


def check_suffix(name: str, model: Path) -> None:
    """Refuse a file that can carry code: this library would never run it, another program might."""
    if Path(name).suffix.lower() in CODE_SUFFIXES:
        raise InputError(f"The model '{model}' is refused: {name[:200]!r} may hold code; weights must be .safetensors.")


def check_amount(files: int, total: int, model: Path) -> None:
    """Refuse more than 1000 files or 5 GiB."""
    if files > MAXIMUM_FILES or total > MAXIMUM_BYTES:
        raise InputError(
            f"The model '{model}' is refused: more than {MAXIMUM_FILES} files or {MAXIMUM_BYTES >> 30} GiB."
        )


def _unreadable(error: OSError) -> None:
    raise InputError(f"The model's folder cannot be read: {error}.") from error
