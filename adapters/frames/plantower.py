"""Plantower particle sensors (PMS5003, PMS7003, PMSA003 and their relatives): what one writes each second or so.

Source: Plantower, "Digital universal particle concentration sensor, PMS5003 series data manual", those of the
PMS5003T, PMS5003S and PMS5003ST, and "PMS7003 series data manual", appendix I: `42 4D`, the length of what follows,
words, and the sum of all bytes before it. All are of 16 bits, high byte first. The PMS5003 sends 13 words; the PMS5003T
and the PMS5003S as many, of which some mean other things; the PMS3003 sends 9 and the PMS5003ST 17.
"""

from __future__ import annotations

from typing import Final, Literal

from adapters.frames.checksums import sum16
from adapters.frames.framer import BinaryFramer
from gateway import Value

Model = Literal["PMS5003", "PMS5003S", "PMS5003T"]

_HEADER = b"BM"
# By mass in µg/m³: first with the factory's calibration ("CF=1"), then in the atmosphere.
_MASSES = ("pm1_cf1", "pm2_5_cf1", "pm10_cf1", "pm1", "pm2_5", "pm10")
# Particles beyond a diameter in µm, in 0.1 litres of air.
_COUNTS = ("particles_0_3", "particles_0_5", "particles_1", "particles_2_5", "particles_5", "particles_10")
_CLIMATE = ("temperature", "humidity")
METRICS = _MASSES + _COUNTS

_LAYOUTS: Final[dict[str, tuple[str, ...]]] = {
    "PMS5003": METRICS,
    "PMS5003S": (*METRICS, "formaldehyde"),
    "PMS5003T": _MASSES + _COUNTS[:4] + _CLIMATE,
}
# The bytes after the length: what alone tells these two.
_BY_LENGTH: Final[dict[int, tuple[str, ...]]] = {
    20: _MASSES,  # PMS3003
    36: (*METRICS, "formaldehyde", *_CLIMATE),  # PMS5003ST
}
_USUAL = 28


def framer() -> BinaryFramer:
    """Return what cuts these frames out of a stream: of 32 bytes, of the PMS3003's 24 or of the PMS5003ST's 40."""
    return BinaryFramer(_HEADER, _length, _sound, head=4)


def decode(frame: bytes, model: Model = "PMS5003") -> dict[str, Value]:
    """Return masses in µg/m³, numbers of particles in 0.1 l, and what else the model measures.

    Formaldehyde is in µg/m³, temperature in °C, humidity in %. `model` tells those apart whose frames are as long.
    """
    names = _BY_LENGTH.get(frame[3]) or _LAYOUTS[model]
    values: dict[str, Value] = {}
    for place, name in enumerate(names, 2):
        raw = frame[2 * place : 2 * place + 2]
        if name in _CLIMATE:
            values[name] = int.from_bytes(raw, "big", signed=name == "temperature") / 10
        else:
            values[name] = int.from_bytes(raw, "big")
    # After the version of the firmware; 0 is well. The PMS5003S has no place left for it, the PMS3003 never had one.
    if frame[-3] and names not in (_LAYOUTS["PMS5003S"], _MASSES):
        values["error_code"] = frame[-3]
    return values


def _length(head: bytes) -> int:
    following = head[2] << 8 | head[3]
    return following + 4 if following == _USUAL or following in _BY_LENGTH else 0


def _sound(frame: bytes) -> bool:
    return sum16(frame[:-2]) == frame[-2] << 8 | frame[-1]
