"""What the worker says, read strictly: its side may be of another version, or be no worker at all.

A message that is not exactly what this protocol knows is an `InputError` that says what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, TypeVar

from NoisyLabelSegLib.bundle import ModelDescription
from NoisyLabelSegLib.bundle.strict_json import convert
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.progress import Step
from NoisyLabelSegLib.worker.stream import Header

__all__ = [
    "read_devices",
    "read_error",
    "read_hello",
    "read_models",
    "read_protocol",
    "read_result",
    "read_step",
    "type_of",
]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class _Protocol:
    protocol: int


@dataclass(frozen=True, kw_only=True)
class _Hello(_Protocol):
    version: str
    python: str
    torch: str | None
    missing: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Models:
    models: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, kw_only=True)
class _SoundModel:
    folder: str
    removable: bool
    description: ModelDescription


@dataclass(frozen=True, kw_only=True)
class _BrokenModel:
    folder: str
    removable: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class _Devices:
    devices: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Result:
    outcome: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class _Error:
    message: str
    fault: bool


def type_of(header: Header) -> str:
    """A message's type as it can be shown: what a stranger sends may be long, or hold control characters."""
    return ascii(header["type"][:40])


def read_protocol(header: Header) -> int:
    """Which protocol a hello announces; of another one's hello nothing else is known."""
    return _content(_Protocol, {key: header[key] for key in ("type", "protocol") if key in header}).protocol


def read_hello(header: Header) -> Header:
    """What the worker says about itself."""
    _content(_Hello, header)
    return header


def read_models(header: Header) -> list[dict[str, Any]]:
    """Every model: "folder", "removable", and its "description" or the "reason" why it cannot be used."""
    models = [dict(model) for model in _content(_Models, header).models]
    for number, model in enumerate(models):
        kind: type[Any] = _BrokenModel if "reason" in model else _SoundModel
        convert(kind, model, f"The worker's model {number + 1}")
    return models


def read_devices(header: Header) -> list[str]:
    """What can be computed on."""
    return list(_content(_Devices, header).devices)


def read_result(header: Header) -> Mapping[str, Any]:
    """What `messages.read_outcome` takes."""
    return _content(_Result, header).outcome


def read_error(header: Header) -> str:
    """The sentence for the person."""
    return _content(_Error, header).message


def read_step(header: Header) -> Step:
    """How far a computation is."""
    step = _content(Step, header)
    if not isfinite(step.done):
        raise InputError("The worker's progress is not a finite number.")
    return step


def _content(kind: type[T], header: Header) -> T:
    """Everything in a message but what every message has."""
    content = {key: value for key, value in header.items() if key not in ("type", "id")}
    return convert(kind, content, f"The worker's message {type_of(header)}")
