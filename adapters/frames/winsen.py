"""Winsen MH-Z19B, MH-Z19C and relatives (MH-Z14A, MH-Z16): questions and answers of nine bytes.

Source: Winsen, "Intelligent infrared CO2 module (model: MH-Z19B) user's manual" V1.6, and the MH-Z19C's V1.2.
`FF`, number of the sensor (01) or of the command in an answer, six bytes, and the checksum: what makes the sum of bytes
1 to 8 zero. That byte 4 of a reading is the temperature and 40 is in no manual, but known from use; firmware that does
not have it there leaves 0.
"""

from __future__ import annotations

from adapters.frames.checksums import sum8
from adapters.frames.framer import BinaryFramer
from gateway import Value

_READ, _SELF_CALIBRATION = 0x86, 0x79


def framer() -> BinaryFramer:
    """Return what cuts answers out of a stream; questions, which a shorted line sends back, are none."""
    return BinaryFramer(b"\xff\x86", 9, _sound)


def decode(frame: bytes) -> dict[str, Value]:
    """Return the concentration in ppm and, where it is told, the temperature inside of the sensor in °C."""
    values: dict[str, Value] = {"co2": frame[2] << 8 | frame[3]}
    if frame[4]:
        values["temperature"] = frame[4] - 40
    return values


def read() -> bytes:
    """Return the question for a reading."""
    return _command(_READ, 0)


def self_calibration(on: bool) -> bytes:
    """Return the command that turns the daily calibration at 400 ppm on or off. It is not answered."""
    return _command(_SELF_CALIBRATION, 0xA0 if on else 0)


def _command(number: int, value: int) -> bytes:
    data = bytes([1, number, value, 0, 0, 0, 0])
    return b"\xff" + data + bytes([-sum8(data) & 0xFF])


def _sound(frame: bytes) -> bool:
    return sum8(frame[1:]) == 0
