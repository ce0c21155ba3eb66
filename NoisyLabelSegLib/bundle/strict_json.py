"""JSON from a stranger: bounded, finite, no duplicate keys; and its conversion to typed dataclasses."""

from __future__ import annotations

import json
import math
import types
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from NoisyLabelSegLib.errors import InputError

MAXIMUM_BYTES = 1_000_000
MAXIMUM_DEPTH = 20
MAXIMUM_DIGITS = 15  # whole numbers of that many digits are exact in a float, too

T = TypeVar("T")


def read_json(path: Path) -> Any:
    """Read one JSON file of at most 1 MB, nested at most 20 deep.

    Raises:
        InputError: when the file cannot be read, is too large or too deep, or holds a duplicate key, NaN, an infinite
            or too large number, or control characters.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAXIMUM_BYTES + 1)
        if len(content) > MAXIMUM_BYTES:
            raise InputError(f"it is larger than {MAXIMUM_BYTES // 1000} kB")
        value = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_not_finite,
            parse_float=_finite,
            parse_int=_short,
        )
        _check(value, 0)
    except RecursionError as error:
        raise InputError(f"'{path}' cannot be used: it is nested more than {MAXIMUM_DEPTH} deep.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"'{path}' cannot be used: {error}.") from error
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise InputError(f"the key '{twice[:100]}' occurs twice")
    return result


def _not_finite(text: str) -> NoReturn:
    raise InputError(f"{text[:20]} is not a finite number")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _not_finite(text)


def _short(text: str) -> int:
    if len(text.lstrip("-")) > MAXIMUM_DIGITS:
        raise InputError(f"the number {text[:20]}... has more than {MAXIMUM_DIGITS} digits")
    return int(text)


def _check(value: Any, depth: int) -> None:
    if depth > MAXIMUM_DEPTH:
        raise InputError(f"it is nested more than {MAXIMUM_DEPTH} deep")
    if isinstance(value, str):
        # Control characters could rewrite a person's terminal; lone surrogates cannot be written back.
        if any(unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t" for c in value):
            raise InputError("a text holds control characters")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check(key, depth + 1)
            _check(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check(item, depth + 1)


def convert(kind: type[T], value: Any, where: str) -> T:
    """Turn JSON values into the dataclass ``kind``, strictly: exact types, no unknown and no missing key.

    Args:
        kind: a dataclass of str, int, float, bool, Literal, ``X | None``, tuples, mappings and other such dataclasses;
            a field with a default may be left out.
        value: what `read_json` gave.
        where: where the value stands, for messages.

    Raises:
        InputError: naming the key that does not fit.
    """
    if not isinstance(value, dict):
        raise InputError(f"{where} must be a JSON object.")
    known: dict[str, Field[Any]] = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    for key in value:
        if key not in known:
            raise InputError(f"{where} has an unknown key '{key[:100]}'; known ones are {', '.join(known)}.")
    for key, field in known.items():
        if key not in value and field.default is MISSING:
            raise InputError(f"{where} lacks the key '{key}'.")
    hints = get_type_hints(kind)
    arguments = {key: _convert(hints[key], item, f"{where}, {key}") for key, item in value.items()}
    try:
        return kind(**arguments)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _convert(kind: Any, value: Any, where: str) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return None if value is None else _convert(inner[0], value, where)
    if origin is Literal:
        if not any(type(value) is type(choice) and value == choice for choice in inner):
            raise InputError(f"{where} must be one of {', '.join(map(repr, inner))}.")
        return value
    if origin is tuple:
        return _convert_tuple(inner, value, where)
    if is_dataclass(kind):
        return convert(kind, value, where)  # type: ignore[arg-type]
    plain = dict if origin is Mapping else kind
    if plain is float and type(value) is int:
        return float(value)
    if type(value) is not plain:
        names = {dict: "a JSON object", str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
        raise InputError(f"{where} must be {names[plain]}.")
    return value


def _convert_tuple(inner: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise InputError(f"{where} must be a list.")
    kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else list(inner)
    if len(kinds) != len(value):
        raise InputError(f"{where} must have {len(kinds)} entries, not {len(value)}.")
    return tuple(_convert(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))
