"""Frames of fixed shape that are described instead of programmed: a header, a length, numbers at places, a checksum.

Places are counted in bytes from the frame's first byte, 0; one below 0 is counted from its end, -1 being the last byte.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

from adapters.frames import checksums
from adapters.frames.framer import BinaryFramer
from adapters.frames.single import shortest
from gateway import Value, scaled

Order: TypeAlias = Literal["be", "le"]
Type: TypeAlias = Literal["u8", "i8", "u16", "i16", "u32", "i32", "f32"]
Kind: TypeAlias = Literal[
    "sum8",
    "sum8-inverted",
    "sum8-negated",
    "xor8",
    "sum16",
    "crc8-maxim",
    "crc16-arc",
    "crc16-modbus",
    "crc16-x25",
]

LONGEST: Final = 512  # bytes of a frame: what looks like one at every byte costs time for each
_CODES: Final = {"u8": "B", "i8": "b", "u16": "H", "i16": "h", "u32": "I", "i32": "i", "f32": "f"}
_ORDERS: Final = {"be": ">", "le": "<"}
# The function, and how many bytes its result takes.
_CHECKSUMS: Final[dict[str, tuple[Callable[[bytes], int], int]]] = {
    "sum8": (checksums.sum8, 1),
    "sum8-inverted": (lambda data: ~checksums.sum8(data) & 0xFF, 1),
    "sum8-negated": (lambda data: -checksums.sum8(data) & 0xFF, 1),
    "xor8": (checksums.xor8, 1),
    "sum16": (checksums.sum16, 2),
    "crc8-maxim": (checksums.crc8_maxim, 1),
    "crc16-arc": (checksums.crc16_arc, 2),
    "crc16-modbus": (checksums.crc16_modbus, 2),
    "crc16-x25": (checksums.crc16_x25, 2),
}


class Number(NamedTuple):
    """A number in a frame, and the metric that it is: number * scale + offset."""

    name: str
    at: int
    type: Type
    order: Order = "be"
    scale: float = 1.0
    offset: float = 0.0


class Length(NamedTuple):
    """Where a frame tells its length: what stands there plus `plus` is the length of the whole frame in bytes."""

    at: int
    type: Literal["u8", "u16"] = "u8"
    order: Order = "be"
    plus: int = 0


class Check(NamedTuple):
    """Where a frame has its checksum, and that it is one over the bytes from `start` up to `end`, without that one."""

    kind: Kind
    at: int
    start: int = 0
    end: int | None = None  # where the checksum is
    order: Order | None = None  # low byte first for a CRC, high byte first for a sum


def size_of(kind: Type) -> int:
    """Return how many bytes a number takes."""
    return struct.calcsize(_CODES[kind])


def width_of(kind: Kind) -> int:
    """Return how many bytes a checksum takes."""
    return _CHECKSUMS[kind][1]


def framer(header: bytes, length: int | Length, check: Check | None, trailer: bytes = b"") -> BinaryFramer:
    """Return what cuts these frames out of a stream. Without a checksum, header, length and trailer are all it has."""
    sound = _sound(check) if check else lambda frame: True
    whole = (lambda frame: frame.endswith(trailer) and sound(frame)) if trailer else sound
    if isinstance(length, int):
        return BinaryFramer(header, length, whole, longest=LONGEST)
    read = struct.Struct(_ORDERS[length.order] + _CODES[length.type])
    at, plus = length.at, length.plus
    return BinaryFramer(
        header, lambda head: int(read.unpack_from(head, at)[0]) + plus, whole, head=at + read.size, longest=LONGEST
    )


def decoder(numbers: Sequence[Number]) -> Callable[[bytes], dict[str, Value]]:
    """Return the function that reads the numbers of a frame. It raises ValueError where the frame is too short."""
    reads = [
        (one, struct.Struct(_ORDERS[one.order] + _CODES[one.type]), shortest if one.type == "f32" else _as_it_is)
        for one in numbers
    ]
    needed = max(one.at + read.size if one.at >= 0 else -one.at for one, read, _ in reads)

    def decode(frame: bytes) -> dict[str, Value]:
        if len(frame) < needed:
            raise ValueError("shorter than its numbers")
        end = len(frame)
        return {
            one.name: scaled(
                meant(read.unpack_from(frame, one.at if one.at >= 0 else end + one.at)[0]), one.scale, one.offset
            )
            for one, read, meant in reads
        }

    return decode


def _as_it_is(number: float) -> float:
    return number


def _sound(check: Check) -> Callable[[bytes], bool]:
    function, width = _CHECKSUMS[check.kind]
    order: Literal["little", "big"] = "little" if (check.order or _usual(check.kind)) == "le" else "big"

    def sound(frame: bytes) -> bool:
        at = check.at if check.at >= 0 else len(frame) + check.at
        if not 0 <= at <= len(frame) - width:
            return False
        end = at if check.end is None else check.end
        return int.from_bytes(frame[at : at + width], order) == function(frame[check.start : end])

    return sound


def _usual(kind: Kind) -> Order:
    return "le" if kind.startswith("crc") else "be"
