"""Plantower particle sensors (PMS5003, PMS7003, PMSA003, PMS3003): what one writes each second or so.

Source: Plantower, "Digital universal particle concentration sensor, PMS5003 series data manual" and "PMS7003
series data manual", appendix I: `42 4D`, the length of what follows, 13 words, and the sum of all bytes before
it; the PMS3003 sends 9 words. All are of 16 bits, high byte first.
"""

from __future__ import annotations

import struct

from adapters.frames.checksums import sum16
from adapters.frames.framer import BinaryFramer
from gateway import Value

_HEADER = b"BM"
_LONG, _SHORT = 28, 20  # bytes after the length: 13 words and a checksum, or 9
# By mass in µg/m³: first with the factory's calibration ("CF=1"), then in the atmosphere.
_MASSES = ("pm1_cf1", "pm2_5_cf1", "pm10_cf1", "pm1", "pm2_5", "pm10")
# Particles beyond a diameter in µm, in 0.1 litres of air.
_COUNTS = ("particles_0_3", "particles_0_5", "particles_1", "particles_2_5", "particles_5", "particles_10")
METRICS = _MASSES + _COUNTS


def framer() -> BinaryFramer:
    """Return what cuts these frames out of a stream: of 32 bytes, or of the PMS3003's 24."""
    return BinaryFramer(_HEADER, _length, _sound, head=4)


def decode(frame: bytes) -> dict[str, Value]:
    """Return masses in µg/m³, and numbers of particles in 0.1 l where the sensor counts them."""
    if len(frame) == _SHORT + 4:
        return dict(zip(_MASSES, struct.unpack_from(">6H", frame, 4), strict=True))
    words = struct.unpack_from(">12H", frame, 4)
    values: dict[str, Value] = dict(zip(METRICS, words, strict=True))
    if frame[29]:  # after the version of the firmware; 0 is well
        values["error_code"] = frame[29]
    return values


def _length(head: bytes) -> int:
    following = head[2] << 8 | head[3]
    return following + 4 if following in (_LONG, _SHORT) else 0


def _sound(frame: bytes) -> bool:
    return sum16(frame[:-2]) == frame[-2] << 8 | frame[-1]
