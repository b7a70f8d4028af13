"""Checksums in hex at the end of a line of text, behind a mark: `t=21.5,h=40*4C`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

from adapters.frames import checksums
from gateway import Value

Kind: TypeAlias = Literal["xor", "sum", "crc8-maxim", "crc16-arc", "crc16-modbus", "crc16-x25"]

MARK: Final = r"^[!-/:-@\[-`{-~]$"
"""What a mark looks like: one sign of ASCII that is no letter, digit or space."""

_KINDS: Final[dict[Kind, tuple[Callable[[bytes], int], int]]] = {
    "xor": (checksums.xor8, 2),
    "sum": (checksums.sum8, 2),
    "crc8-maxim": (checksums.crc8_maxim, 2),
    "crc16-arc": (checksums.crc16_arc, 4),
    "crc16-modbus": (checksums.crc16_modbus, 4),
    "crc16-x25": (checksums.crc16_x25, 4),
}


def checked(decode: Callable[[bytes], dict[str, Value]], kind: Kind, mark: str) -> Callable[[bytes], dict[str, Value]]:
    """Return a decoder for lines that end with `mark` and a checksum of what stands before it, in 2 or 4 hex digits.

    The highest digit comes first. A `$` that begins the line belongs neither to what is summed nor to what is read, as
    in NMEA 0183. The decoder raises ValueError for a line without a checksum or with a wrong one.
    """
    compute, digits = _KINDS[kind]
    end = re.compile(re.escape(mark.encode()) + rb"([0-9A-Fa-f]{%d})\Z" % digits)

    def decoded(frame: bytes) -> dict[str, Value]:
        found = end.search(frame, max(0, len(frame) - digits - len(mark.encode())))
        if found is None:
            raise ValueError("no checksum")
        content = frame[: found.start()].removeprefix(b"$")
        if compute(content) != int(found[1], 16):
            raise ValueError("wrong checksum")
        return decode(content)

    return decoded
