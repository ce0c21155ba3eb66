"""What `configs/model.json` says about a model: frozen, typed, checked when made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from NoisyLabelSegLib.bundle.strict_json import convert, read_json
from NoisyLabelSegLib.errors import InputError

FORMAT_VERSION = 1
MAXIMUM_WEIGHTS_BYTES = 4 * 1024**3
MAXIMUM_ARGUMENT = 65_536
MAXIMUM_ARGUMENT_LENGTH = 64


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InputError(message)


@dataclass(frozen=True)
class Network:
    """A network of `NoisyLabelSegLib.networks` by its name, and its plain keyword arguments."""

    name: str
    arguments: Mapping[str, Any]

    def __post_init__(self) -> None:
        _check_argument(dict(self.arguments), "arguments")


def _check_argument(value: Any, where: str) -> None:
    """Keep a stranger's arguments small enough to build a network from, on the meta device, in no time."""
    if isinstance(value, (dict, list, tuple, str)):
        _require(len(value) <= MAXIMUM_ARGUMENT_LENGTH, f"{where} is longer than {MAXIMUM_ARGUMENT_LENGTH}.")
    if isinstance(value, (int, float)):
        _require(abs(value) <= MAXIMUM_ARGUMENT, f"{where} must be at most {MAXIMUM_ARGUMENT}, not {value}.")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_argument(item, f"{where}, {key[:100]}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _check_argument(item, f"{where}[{index}]")


@dataclass(frozen=True)
class Weights:
    """The weights' file: its path in the bundle's folder, its size in bytes and its SHA-256 in lower-case hex."""

    file: str
    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        path = PurePosixPath(self.file)
        plain = not path.is_absolute() and ".." not in path.parts and not set(self.file) & set('\\:*?"<>|')
        _require(plain, f"file must be a path inside the model's folder, not '{self.file[:200]}'.")
        _require(path.suffix == ".safetensors", "file must be a .safetensors file.")
        _require(0 <= self.bytes <= MAXIMUM_WEIGHTS_BYTES, f"bytes must be 0 to {MAXIMUM_WEIGHTS_BYTES}.")
        _require(re.fullmatch("[0-9a-f]{64}", self.sha256) is not None, "sha256 must be 64 digits of 0-9 and a-f.")


UNWRITTEN = Weights("models/model.safetensors", 0, "0" * 64)
"""For a description whose weights `write_bundle` has still to write."""


@dataclass(frozen=True)
class Label:
    """One structure: its voxel value (1 to 255), name, colour (red, green, blue, 0 to 1) and terminology.

    ``terminology`` is 3D Slicer's segment tag ``TerminologyEntry``: seven parts separated by ``~``, each code as
    ``scheme^value^meaning``; empty when the structure has no code.
    """

    value: int
    name: str
    color: tuple[float, float, float]
    terminology: str

    def __post_init__(self) -> None:
        _require(1 <= self.value <= 255, f"value must be a whole number from 1 to 255, not {self.value}.")
        _require(bool(self.name.strip()), "name must not be empty.")
        _require(all(0 <= part <= 1 for part in self.color), "color must be three numbers from 0 to 1.")
        parts = self.terminology.split("~")
        codes = parts[1:4] + parts[5:]
        valid = len(parts) == 7 and all(code.count("^") == 2 for code in codes)
        _require(
            not self.terminology or valid, "terminology is not a TerminologyEntry of 3D Slicer (seven parts by ~)."
        )


@dataclass(frozen=True)
class ExpectedIntensity:
    """One kind of image values that the model was made for, for a warning about another modality; None: no bound.

    Attributes:
        minimum, maximum: all values lie between them.
        description: such as "CT in Hounsfield units"; ``unit`` such as "HU", or empty.
        lowest_below: the image's smallest value lies below it, such as air in CT.
    """

    minimum: float | None
    maximum: float | None
    description: str
    unit: str
    lowest_below: float | None = None

    def __post_init__(self) -> None:
        known = self.minimum is not None and self.maximum is not None
        _require(not known or self.minimum < self.maximum, "minimum must be below maximum.")  # type: ignore[operator]

    def fits(self, low: float, high: float) -> bool:
        """Whether an image whose values run from ``low`` to ``high`` is of this kind."""
        above = self.minimum is None or low >= self.minimum
        below = self.maximum is None or high <= self.maximum
        return above and below and (self.lowest_below is None or low < self.lowest_below)

    def __str__(self) -> str:
        bounds = " to ".join("any" if bound is None else f"{bound:g}" for bound in (self.minimum, self.maximum))
        unit = f" {self.unit}" if self.unit else ""
        lowest = "" if self.lowest_below is None else f", the lowest below {self.lowest_below:g}"
        return f"{self.description} ({bounds}{unit}{lowest})"


@dataclass(frozen=True)
class TrainingData:
    """One data set the model has learned from; ``url`` is http(s) or empty."""

    name: str
    licence: str
    url: str
    citation: str

    def __post_init__(self) -> None:
        _require(
            not self.url or re.match("https?://", self.url) is not None, "url must begin with https:// or http://."
        )


@dataclass(frozen=True)
class Quality:
    """One measured figure: the mean ``value`` of ``metric`` over ``cases`` cases of ``dataset``."""

    metric: str
    value: float
    dataset: str
    cases: int
    note: str
    unit: str | None = None

    def __post_init__(self) -> None:
        _require(self.cases >= 1, f"cases must be 1 or more, not {self.cases}.")


@dataclass(frozen=True)
class ModelDescription:
    """Everything a model says about itself, as in ``configs/model.json``.

    Attributes:
        format_version: version of this format: 1.
        name: letters, digits, ``-`` and ``_``, at most 64: also the folder's name once imported.
        version: the model's own version.
        kind: what the method does: refine a given mask, map its uncertainty, or segment.
        method: name of a module of `NoisyLabelSegLib.methods`; ``method_arguments`` are its settings.
        network: what to build.
        weights: where the weights are.
        preprocessing: JSON values that `NoisyLabelSegLib.inference` understands.
        labels: the structures, each with its own value.
        modality: such as "CT"; ``anatomy`` such as "liver".
        expected_intensity: the kinds of images it was made for, of which one should fit; empty: nothing is expected.
        licence: the weights' licence, by name; its text is the file LICENSE.
        training_data: what the model has learned from.
        intended_use: one sentence; ``not_for`` one sentence.
        quality: measured figures.
    """

    format_version: int
    name: str
    version: str
    kind: Literal["refine", "uncertainty", "segment"]
    method: str
    method_arguments: Mapping[str, Any]
    network: Network
    weights: Weights
    preprocessing: Mapping[str, Any]
    labels: tuple[Label, ...]
    modality: str
    anatomy: str
    expected_intensity: tuple[ExpectedIntensity, ...]
    licence: str
    training_data: tuple[TrainingData, ...]
    intended_use: str
    not_for: str
    quality: tuple[Quality, ...]

    def __post_init__(self) -> None:
        _require(self.format_version == FORMAT_VERSION, f"format_version must be {FORMAT_VERSION}.")
        good_name = re.fullmatch("[A-Za-z0-9][A-Za-z0-9_-]{0,63}", self.name) is not None
        _require(good_name, "name must be 1 to 64 letters, digits, '-' or '_', beginning with a letter or digit.")
        _require(bool(self.version.strip()), "version must not be empty.")
        _require(bool(self.licence.strip()), "licence must not be empty.")
        _require(bool(self.labels), "labels must name at least one structure.")
        values = [label.value for label in self.labels]
        _require(len(set(values)) == len(values), "labels must have different values.")

    def structure_of(self, segment: str) -> Label | None:
        """What a segment of this name is to the model: its only structure, or the one of that name or "Label <value>".

        None when the model does not know it; upper and lower case are the same.
        """
        if len(self.labels) == 1:
            return self.labels[0]
        named = {f"Label {label.value}".casefold(): label for label in self.labels}
        named |= {label.name.casefold(): label for label in self.labels}
        return named.get(segment.casefold())

    @property
    def channels(self) -> int:
        """Number of images that the model takes at once; one that refines takes masks besides."""
        found = 1 if self.kind == "refine" else self.network.arguments.get("in_channels")
        return found if isinstance(found, int) and found > 0 else 1

    def remark_on_values(self, low: float, high: float) -> str:
        """What is to be said about an image whose values run from ``low`` to ``high``; empty when they are as expected.

        Only the first expected kind of values is beyond doubt: the others are conversions that lost their unit.
        """
        expected = self.expected_intensity
        fitting = [kind for kind in expected if kind.fits(low, high)]
        if not expected or expected[0] in fitting:
            return ""
        if fitting:
            return f"Taken for {fitting[0].description}: it cannot be checked that this is {self.modality}."
        return (
            f"The image's values run from {low:g} to {high:g}, but {self.name} was made for "
            f"{' or '.join(map(str, expected))}: is this {self.modality}? The result may be wrong."
        )


def read_description(path: Path) -> ModelDescription:
    """Read ``configs/model.json``.

    Raises:
        InputError: naming the file and the key when it is not exactly what `ModelDescription` asks for, or when it was
            made by a newer version.
    """
    value = read_json(path)
    version = value.get("format_version") if isinstance(value, dict) else None
    if type(version) is int and version > FORMAT_VERSION:
        raise InputError(
            f"'{path}' was made by a newer NoisyLabelSeg (format {version}, known up to {FORMAT_VERSION}): "
            "update NoisyLabelSeg to use this model."
        )
    return convert(ModelDescription, value, f"'{path}'")
