"""Sensirion SPS30 on a serial line: frames of SHDLC, the commands that it takes, and its readings.

Source: Sensirion, "Datasheet SPS30", section 5 (UART interface: SHDLC) and 5.3 (commands). A frame
stands between two `7E`; in it, 7E, 7D, 11 and 13 are written as 7D and the byte with bit 5 turned. A command is
address, command, length, data, checksum; an answer has its state before the length. The checksum is the inverted sum.
"""

from __future__ import annotations

import re
import struct
from collections import Counter

from adapters.frames.checksums import sum8
from gateway import Value

_LONGEST = 2 * (5 + 255)  # bytes between two flags, if all of them are escaped
_START, _READ = 0x00, 0x03
_ESCAPED = re.compile(rb"[\x7e\x7d\x11\x13]")
_ESCAPE = re.compile(rb"\x7d(.?)", re.DOTALL)
_OK, _NOT_NOW = 0x00, 0x43
_ERRORS = {
    0x01: "wrong length of data",
    0x02: "unknown command",
    0x03: "no access right for this command",
    0x04: "parameter out of range",
    0x28: "error inside of the sensor",
    _NOT_NOW: "command not allowed in this state",
}
_METRICS = (
    *("pm1", "pm2_5", "pm4", "pm10"),  # µg/m³
    *("particles_0_5", "particles_1", "particles_2_5", "particles_4", "particles_10"),  # in a cm³, up to so many µm
    "particle_size",  # µm
)


class ShdlcFramer:
    """Cuts answers out of a stream: what is between two flags, without escapes, of the right length and checksum."""

    def __init__(self) -> None:
        self.thrown: Counter[str] = Counter()
        self._rest = bytearray()
        self._overlong = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the answers that `chunk` completes, from address to checksum."""
        *pieces, tail = chunk.split(b"\x7e")
        frames = []
        for piece in pieces:
            self._keep(piece)
            raw, overlong = bytes(self._rest), self._overlong
            self._rest.clear()
            self._overlong = False
            if overlong or not raw:  # counted already, or two flags side by side
                continue
            frame = _unstuffed(raw)
            if frame is None or len(frame) < 5 or len(frame) != frame[3] + 5:
                self.thrown["bytes between frames"] += 1
            elif sum8(frame) != 0xFF:
                self.thrown["wrong checksum"] += 1
            else:
                frames.append(frame)
        self._keep(tail)
        return frames

    def _keep(self, piece: bytes) -> None:
        if self._overlong:
            return
        if len(self._rest) + len(piece) > _LONGEST:
            self.thrown["bytes between frames"] += 1
            self._overlong = True
            self._rest.clear()
        else:
            self._rest += piece


def framer() -> ShdlcFramer:
    """Return what cuts answers out of a stream."""
    return ShdlcFramer()


def decode(frame: bytes) -> dict[str, Value]:
    """Return masses in µg/m³, particles in a cm³ and their typical size in µm; nothing, if the answer is no reading.

    Raises ValueError if the sensor reports an error.
    """
    command, state, data = frame[1], frame[2] & 0x7F, frame[4:-1]
    if state != _OK and not (state == _NOT_NOW and command == _START):  # which means: it measures already
        raise ValueError(f"the sensor answers: {_ERRORS.get(state, f'error {state:#04x}')}")
    if command != _READ or not data:  # no new reading since the last one
        return {}
    if len(data) == 40:
        numbers = struct.unpack(">10f", data)
    elif len(data) == 20:  # somebody else has started it, with whole numbers; the size is in nm then
        numbers = struct.unpack(">10H", data)
        numbers = (*numbers[:-1], numbers[-1] / 1000)
    else:
        raise ValueError("not ten numbers")
    values: dict[str, Value] = {name: round(value, 3) for name, value in zip(_METRICS, numbers, strict=True)}
    if frame[2] & 0x80:
        values["fault"] = True  # of fan or laser: more is in the sensor's status register
    return values


def start() -> bytes:
    """Return the command to measure, with results as floating-point numbers, high byte first."""
    return _command(_START, b"\x01\x03")


def read() -> bytes:
    """Return the question for the newest reading; there is one each second."""
    return _command(_READ)


def answers(frame: bytes, command: bytes) -> bool:
    """Say whether a frame is the answer to a command."""
    return frame[1] == command[2]


def _command(number: int, data: bytes = b"") -> bytes:
    body = bytes([0, number, len(data)]) + data
    body += bytes([~sum8(body) & 0xFF])
    return b"\x7e" + _ESCAPED.sub(lambda found: bytes([0x7D, found[0][0] ^ 0x20]), body) + b"\x7e"


def _unstuffed(raw: bytes) -> bytes | None:
    """Return the bytes without escapes; None, if an escape stands for nothing."""
    if b"\x7d" not in raw:
        return raw
    if any(found[1] not in (b"\x5e", b"\x5d", b"\x31", b"\x33") for found in _ESCAPE.finditer(raw)):
        return None
    return _ESCAPE.sub(lambda found: bytes([found[1][0] ^ 0x20]), raw)
