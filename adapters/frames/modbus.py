"""Modbus frames: what cuts the answer to a question out of a stream, in each of the three framings.

Source: "MODBUS over Serial Line, Specification and Implementation Guide" V1.02, sections 2.5.1 (RTU: address, PDU, a
CRC-16 with its low byte first) and 2.5.2 (ASCII: a colon, the same in capital hexadecimal digits with an LRC, CR LF);
"MODBUS Messaging on TCP/IP Implementation Guide" V1.0b, section 3.1.3 (the MBAP header); "MODBUS Application Protocol
Specification" V1.1b3, section 7 (an exception is the function code with its highest bit set, and one byte).

No frame says where it ends, except by what was asked: an answer is looked for by its unit, its function and its length,
so that neither noise nor the late answer to another question passes for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Literal, NamedTuple, TypeAlias

from adapters.frames.checksums import crc16_modbus, sum8
from adapters.frames.framer import BinaryFramer, Framer

Framing: TypeAlias = Literal["rtu", "ascii", "tcp"]

_EXCEPTION: Final = 0x80
_LONGEST: Final = 600  # characters of the longest frame, which is one of ASCII
_CAPITALS: Final = re.compile(rb"[0-9A-F]+")


class Expected(NamedTuple):
    """The answer that a question has, as far as it is known before."""

    unit: int
    begins: bytes  # the first bytes of its PDU: function code, and at least one more
    size: int  # bytes of its PDU
    transaction: int = 0

    def size_of(self, start: bytes) -> int:
        """Return the bytes of a PDU that starts with these two; 0: it is not the answer."""
        if self.begins.startswith(start):
            return self.size
        return 2 if start[0] == self.begins[0] | _EXCEPTION else 0

    def is_met_by(self, pdu: bytes) -> bool:
        """Say whether a whole PDU is the answer, or the exception in its place."""
        return pdu.startswith(self.begins) or pdu[0] == self.begins[0] | _EXCEPTION


def framer(framing: Framing, expected: Expected) -> BinaryFramer:
    """Return what cuts the answer out of a stream, with all that is around its PDU."""
    return _FRAMERS[framing](expected)


def _rtu(expected: Expected) -> BinaryFramer:
    def length(head: bytes) -> int:
        size = expected.size_of(head[1:])
        return size + 3 if size else 0

    def sound(frame: bytes) -> bool:
        return crc16_modbus(frame) == 0 and expected.is_met_by(frame[1:-2])  # the CRC over all with its CRC is 0

    return BinaryFramer(bytes([expected.unit]), length, sound, head=3, longest=_LONGEST)


def _ascii(expected: Expected) -> BinaryFramer:
    def length(head: bytes) -> int:
        if not _CAPITALS.fullmatch(head[1:]):
            return 0
        size = expected.size_of(bytes.fromhex(head[3:].decode()))
        return 2 * size + 7 if size else 0

    def sound(frame: bytes) -> bool:
        if frame[-2:] != b"\r\n" or not _CAPITALS.fullmatch(frame[1:-2]):
            return False
        data = bytes.fromhex(frame[1:-2].decode())
        return sum8(data) == 0 and expected.is_met_by(data[1:-1])

    return BinaryFramer(b":%02X" % expected.unit, length, sound, head=7, longest=_LONGEST)


def _tcp(expected: Expected) -> BinaryFramer:
    def length(head: bytes) -> int:
        size = expected.size_of(head[7:])
        fits = size and head[6] == expected.unit and int.from_bytes(head[4:6], "big") == size + 1
        return size + 7 if fits else 0

    def sound(frame: bytes) -> bool:
        return expected.is_met_by(frame[7:])

    return BinaryFramer(expected.transaction.to_bytes(2, "big") + bytes(2), length, sound, head=9, longest=_LONGEST)


_FRAMERS: Final[dict[Framing, Callable[[Expected], BinaryFramer]]] = {"rtu": _rtu, "ascii": _ascii, "tcp": _tcp}


class AfterEcho:
    """Cuts frames behind an adapter that gives back what it sends: the question comes first, and is thrown away."""

    def __init__(self, question: bytes, framer: Framer) -> None:
        self._question = question
        self._framer = framer
        self._rest = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the frames that `chunk` completes."""
        rest = self._rest + chunk
        if len(rest) < len(self._question) and self._question.startswith(rest):
            self._rest = rest
            return []
        rest = rest.removeprefix(self._question)
        self._rest = self._question = b""
        return self._framer.feed(rest)
