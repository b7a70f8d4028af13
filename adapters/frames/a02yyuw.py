"""A02YYUW, A01NYUB and relatives: ultrasonic sensors that write a distance several times a second.

Source: DFRobot, "A02YYUW waterproof ultrasonic sensor" (SEN0311), communication protocol: `FF`, the distance in mm,
high byte first, and the sum of these three bytes.
"""

from __future__ import annotations

from adapters.frames.checksums import sum8
from adapters.frames.framer import BinaryFramer
from gateway import Value

_NEAREST = 30  # mm; the sensor writes less, or 0, when it hears no echo or one that comes too soon
_FARTHEST = 15_000  # mm; none of them sees as far: some firmware says FFFD for no echo, FFFE for another one's sound


def framer() -> BinaryFramer:
    """Return what cuts these frames out of a stream."""
    return BinaryFramer(b"\xff", 4, lambda frame: sum8(frame[:3]) == frame[3])


def decode(frame: bytes) -> dict[str, Value]:
    """Return the distance in mm. Raises ValueError where there is none."""
    distance = frame[1] << 8 | frame[2]
    if not _NEAREST <= distance <= _FARTHEST:
        raise ValueError("no echo, or nearer than 30 mm")
    return {"distance": distance}
