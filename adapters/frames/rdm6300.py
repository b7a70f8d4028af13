"""RDM6300 and RDM630: readers of EM4100 tags of 125 kHz, which write a tag's number while it is near.

Source: Seeed, "125 kHz RFID module RDM630 specification": `02`, ten hexadecimal digits, two for the exclusive or
of the five bytes that they are, `03`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from adapters.frames.checksums import xor8
from adapters.frames.framer import BinaryFramer
from gateway import Value

# Upper case only, as readers write it: a flipped bit must not pass as the same digit.
_FRAME = re.compile(rb"\x02[0-9A-F]{12}\x03")


def framer() -> BinaryFramer:
    """Return what cuts these frames out of a stream."""
    return BinaryFramer(b"\x02", 14, _sound)


def decode(frame: bytes) -> dict[str, Value]:
    """Return the tag as ten hexadecimal digits, and the number of 32 bits in it that is often printed on it."""
    digits = frame[1:11].decode("ascii")
    return {"tag": digits, "number": int(digits[2:], 16)}


def arrivals(away: float, now: Callable[[], float]) -> Callable[[bytes], dict[str, Value]]:
    """Return a decoder to which a tag that stays is one arrival, until it was not seen for `away` seconds."""
    seen: dict[str, float] = {}  # the tag that is there, and when it was last seen

    def decode_arrival(frame: bytes) -> dict[str, Value]:
        values = decode(frame)
        tag, time = str(values["tag"]), now()
        last = seen.get(tag)
        seen.clear()  # the reader sees one tag at a time: another one means that the first is gone
        seen[tag] = time
        return values if last is None or time - last >= away else {}

    return decode_arrival


def _sound(frame: bytes) -> bool:
    return _FRAME.fullmatch(frame) is not None and xor8(bytes.fromhex(frame[1:13].decode("ascii"))) == 0
