"""Nova Fitness SDS011 (and SDS018, SDS021): its readings, the commands that it takes, and how it confirms them.

Source: Nova Fitness, "SDS011 Laser Dust Sensor Control Protocol V1.3" (2015). A frame of the sensor is `AA`, what it is
(C0: a reading, C5: a confirmation), six bytes of data, their sum, `AB`; a command is `AA B4`, fifteen bytes of data,
their sum, `AB`. Low bytes come first.
"""

from __future__ import annotations

from adapters.frames.checksums import sum8
from adapters.frames.framer import BinaryFramer
from gateway import Value

_READING, _CONFIRMATION = 0xC0, 0xC5
_SET = 1
_REPORTING, _SLEEP, _PERIOD = 2, 6, 8
_EVERY_SENSOR = b"\xff\xff"


def framer() -> BinaryFramer:
    """Return what cuts readings and confirmations out of a stream."""
    return BinaryFramer(b"\xaa", lambda head: 10 if head[1] in (_READING, _CONFIRMATION) else 0, _sound, head=2)


def decode(frame: bytes) -> dict[str, Value]:
    """Return the masses of a reading in µg/m³; nothing, if the frame is a confirmation."""
    if frame[1] != _READING:
        return {}
    return {"pm2_5": (frame[2] | frame[3] << 8) / 10, "pm10": (frame[4] | frame[5] << 8) / 10}


def work() -> bytes:
    """Return the command that wakes the sensor; asleep, it hears nothing else."""
    return _command(_SLEEP, 1)


def report() -> bytes:
    """Return the command that has the sensor send readings by itself, as it does when it is new."""
    return _command(_REPORTING, 0)


def period(minutes: int) -> bytes:
    """Return the command to measure for 30 s every so many minutes (1 to 30), asleep in between; 0: all the time.

    The sensor keeps this without power.
    """
    if not 0 <= minutes <= 30:
        raise ValueError("the period of an SDS011 is 0 to 30 minutes")
    return _command(_PERIOD, minutes)


def confirms(frame: bytes, command: bytes) -> bool:
    """Say whether a frame is the sensor's confirmation of a command: it repeats it."""
    return frame[1] == _CONFIRMATION and frame[2:5] == command[2:5]


def _command(number: int, value: int) -> bytes:
    data = bytes([number, _SET, value]) + bytes(10) + _EVERY_SENSOR
    return b"\xaa\xb4" + data + bytes([sum8(data), 0xAB])


def _sound(frame: bytes) -> bool:
    return frame[9] == 0xAB and sum8(frame[2:8]) == frame[8]
