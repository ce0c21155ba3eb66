"""What `configs/model.json` says about a model: frozen, typed, checked when made."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from NoisyLabelSegLib.bundle.expectations import (
    AIR,
    EVERYTHING,
    ExpectedAcquisition,
    ExpectedIntensity,
    remark_on_channel,
    remark_on_image,
    remark_on_order,
    require,
)
from NoisyLabelSegLib.bundle.strict_json import convert, read_json
from NoisyLabelSegLib.errors import InputError

FORMAT_VERSION = 1
MAXIMUM_WEIGHTS_BYTES = 4 * 1024**3
MAXIMUM_ARGUMENT = 65_536
MAXIMUM_ARGUMENT_LENGTH = 64


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
        require(len(value) <= MAXIMUM_ARGUMENT_LENGTH, f"{where} is longer than {MAXIMUM_ARGUMENT_LENGTH}.")
    if isinstance(value, (int, float)):
        require(abs(value) <= MAXIMUM_ARGUMENT, f"{where} must be at most {MAXIMUM_ARGUMENT}, not {value}.")
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
        require(plain, f"file must be a path inside the model's folder, not '{self.file[:200]}'.")
        require(path.suffix == ".safetensors", "file must be a .safetensors file.")
        require(0 <= self.bytes <= MAXIMUM_WEIGHTS_BYTES, f"bytes must be 0 to {MAXIMUM_WEIGHTS_BYTES}.")
        require(re.fullmatch("[0-9a-f]{64}", self.sha256) is not None, "sha256 must be 64 digits of 0-9 and a-f.")


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
        require(1 <= self.value <= 255, f"value must be a whole number from 1 to 255, not {self.value}.")
        require(bool(self.name.strip()), "name must not be empty.")
        require(all(0 <= part <= 1 for part in self.color), "color must be three numbers from 0 to 1.")
        parts = self.terminology.split("~")
        codes = parts[1:4] + parts[5:]
        valid = len(parts) == 7 and all(code.count("^") == 2 for code in codes)
        require(not self.terminology or valid, "terminology is not a TerminologyEntry of 3D Slicer (seven parts by ~).")


@dataclass(frozen=True)
class TrainingData:
    """One data set the model has learned from; ``url`` is http(s) or empty."""

    name: str
    licence: str
    url: str
    citation: str

    def __post_init__(self) -> None:
        require(not self.url or re.match("https?://", self.url) is not None, "url must begin with https:// or http://.")


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
        require(self.cases >= 1, f"cases must be 1 or more, not {self.cases}.")


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
        expected_acquisition: how the images were acquired that it was made for.
        expected_channels: the kind of values of each further channel, in their order; empty: nothing is expected.
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
    expected_acquisition: ExpectedAcquisition = EVERYTHING
    expected_channels: tuple[ExpectedIntensity, ...] = ()

    def __post_init__(self) -> None:
        require(self.format_version == FORMAT_VERSION, f"format_version must be {FORMAT_VERSION}.")
        good_name = re.fullmatch("[A-Za-z0-9][A-Za-z0-9_-]{0,63}", self.name) is not None
        require(good_name, "name must be 1 to 64 letters, digits, '-' or '_', beginning with a letter or digit.")
        require(bool(self.version.strip()), "version must not be empty.")
        require(bool(self.licence.strip()), "licence must not be empty.")
        require(bool(self.labels), "labels must name at least one structure.")
        values = [label.value for label in self.labels]
        require(len(set(values)) == len(values), "labels must have different values.")
        further = len(self.expected_channels)
        require(
            further in (0, self.channels - 1), f"expected_channels must be 0 or {self.channels - 1}, not {further}."
        )

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
        """What is to be said about an image whose values run from ``low`` to ``high``; empty when they are expected."""
        return remark_on_image(self.expected_intensity, low, high, self.name, self.modality)

    def remarks_on_channels(self, ranges: Sequence[tuple[float, float]]) -> list[str]:
        """`remark_on_values` for each channel, or that two of them look swapped.

        Args:
            ranges: lowest and highest value of each channel.
        """
        swapped = remark_on_order([*self.expected_intensity[:1], *self.expected_channels], ranges, self.name)
        if swapped:
            return [swapped]
        further = zip(self.expected_channels, ranges[1:], strict=False)
        found = [self.remark_on_values(*ranges[0])]
        found += [remark_on_channel(number, kind, *given, self.name) for number, (kind, given) in enumerate(further, 2)]
        return [remark for remark in found if remark]

    def is_in_hounsfield_units(self, low: float, high: float) -> bool:
        """Whether an image whose values run from ``low`` to ``high`` can be taken for a CT in Hounsfield units."""
        kinds = self.expected_intensity[:1]
        return bool(kinds) and kinds[0].unit == "HU" and kinds[0].fits(low, high) and low < AIR


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
