"""Messages on a stream of bytes: a fixed prefix, a JSON header and arrays as they lie in memory.

    8 bytes     `MAGIC`
    4 bytes     length of the header, little-endian
    header      a JSON object in UTF-8; ``arrays`` says what follows
    arrays      one after the other, little-endian, the last axis fastest; truth values as bits

Neither the prefix nor the hello's ``protocol`` may ever change, so that versions which differ can tell each other.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, BinaryIO

from NoisyLabelSegLib.errors import InputError

PROTOCOL = 2
MAGIC = b"\x89NLSEG\r\n"
LENGTH = struct.Struct("<I")
MAXIMUM_HEADER = 32 * 1024**2
MAXIMUM_BYTES = 16 * 1024**3
MAXIMUM_SIDE = 2**20
BITS = {
    "bool": 1,
    "int8": 8,
    "uint8": 8,
    "int16": 16,
    "uint16": 16,
    "int32": 32,
    "uint32": 32,
    "float32": 32,
    "int64": 64,
    "uint64": 64,
    "float64": 64,
}

Header = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Block:
    """A 3D array in a box of a grid, as bytes.

    Attributes:
        type: a key of `BITS`.
        start, shape: the box, in array order (K, J, I).
        data: anything that holds bytes.
    """

    type: str
    start: tuple[int, ...]
    shape: tuple[int, ...]
    data: Any

    @staticmethod
    def size(type: str, shape: Sequence[int]) -> int:
        """Number of bytes."""
        return (prod(shape) * BITS[type] + 7) // 8


Message = tuple[Header, list[Block]]


def write_message(file: BinaryIO, header: Mapping[str, Any], blocks: Sequence[Block] = ()) -> None:
    """Write one message and flush; the blocks' bytes are not copied."""
    arrays = [{"type": block.type, "start": block.start, "shape": block.shape} for block in blocks]
    text = json.dumps({**header, "arrays": arrays}, allow_nan=False).encode()
    file.write(MAGIC + LENGTH.pack(len(text)) + text)
    for block in blocks:
        file.write(block.data)
    file.flush()


def read_message(file: BinaryIO, noise: int = 0) -> Message | None:
    """Read one message; None when the stream has ended, be it in the midst of one.

    Args:
        file: a buffered stream.
        noise: so many bytes before the message are skipped, since a login may greet first.

    Raises:
        InputError: when something else comes than a message; the stream is of no use any more.
    """
    if not _find_magic(file, noise) or (prefix := _read(file, LENGTH.size)) is None:
        return None
    (length,) = LENGTH.unpack(prefix)
    if length > MAXIMUM_HEADER:
        raise InputError(f"A message begins with {length:,} bytes, more than {MAXIMUM_HEADER:,} are not read.")
    if (text := _read(file, length)) is None:
        return None
    header, empty = _parse(text)
    blocks = []
    for block in empty:
        data = _read(file, Block.size(block.type, block.shape))
        if data is None:
            return None
        blocks.append(Block(block.type, block.start, block.shape, data))
    return header, blocks


def _find_magic(file: BinaryIO, noise: int) -> bool:
    """Read up to the end of the magic; False when there is nothing more to read."""
    seen = bytearray()
    while not seen.endswith(MAGIC):
        byte = file.read(1)
        if not byte and not seen:
            return False
        seen += byte
        begun = max(n for n in range(len(MAGIC) + 1) if seen.endswith(MAGIC[:n]))
        if not byte or len(seen) - begun > noise:
            raise InputError(f"What came is no message of NoisyLabelSeg, it begins with {_printable(seen)}.")
    return True


def _printable(text: bytearray) -> str:
    return ascii(text[:60].decode("utf-8", errors="replace"))


def _read(file: BinaryIO, size: int) -> bytearray | None:
    data = bytearray(size)
    rest = memoryview(data)
    while rest:
        count = file.readinto(rest)  # type: ignore[attr-defined]
        if not count:
            return None
        rest = rest[count:]
    return data


def _parse(text: bytes | bytearray) -> tuple[Header, list[Block]]:
    """The header without its list of arrays, and the blocks without their bytes."""
    try:
        header = json.loads(text)
        arrays = header.pop("arrays")
        blocks = [Block(array["type"], tuple(array["start"]), tuple(array["shape"]), None) for array in arrays]
        sound = isinstance(header["type"], str) and all(map(_is_sound, blocks))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(f"A message cannot be read ({type(error).__name__}).") from error
    if not sound or sum(Block.size(block.type, block.shape) for block in blocks) > MAXIMUM_BYTES:
        raise InputError(f"A message holds arrays that are not allowed, or more than {MAXIMUM_BYTES >> 30} GiB.")
    return header, blocks


def _is_sound(block: Block) -> bool:
    sides = (*block.start, *block.shape)
    numbers = all(type(n) is int and 0 <= n <= MAXIMUM_SIDE for n in sides)
    return block.type in BITS and len(block.start) == len(block.shape) == 3 and numbers
