"""Bosch BME280 and BMP280: registers, calibration and compensation.

Source: Bosch Sensortec, BST-BME280-DS002 and BST-BMP280-DS001, sections 4.2 (compensation) and 5 (memory map). The
formulas are the data sheets' in double precision, written out here as polynomials.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

CHIPS = {0x56: "BMP280", 0x57: "BMP280", 0x58: "BMP280", 0x60: "BME280"}
OTHERS = {0x55: "BMP180", 0x61: "BME680 or BME688"}
"""What sensors of other families have in the same register."""
CHIP_ID, CALIBRATION, HUMIDITY_CALIBRATION, DATA = 0xD0, 0x88, 0xE1, 0xF7
CONTROL_HUMIDITY, CONTROL = 0xF2, 0xF4
FORCED = bytes([CONTROL, 0b010_101_01])
"""Measure once: temperature twice, pressure sixteen times."""
HUMIDITY_ONCE = bytes([CONTROL_HUMIDITY, 0b001])
MEASURING = 0.047
"""Seconds that this takes at most: 46.1 ms (BME280, section 9.1), with humidity."""
UNMEASURED = 0x80000
"""What stands in the data registers of a quantity that was not measured."""


class Calibration(NamedTuple):
    """The numbers of one chip, as the data sheet names them."""

    t: tuple[int, ...]  # dig_T1 to dig_T3
    p: tuple[int, ...]  # dig_P1 to dig_P9
    h: tuple[int, ...] = ()  # dig_H1 to dig_H6; a BMP280 has none


def calibration(first: bytes, h: bytes = b"") -> Calibration:
    """Return the calibration from 26 bytes at 0x88 and, of a BME280, 7 bytes at 0xE1. Raises ValueError."""
    if len(first) != 26 or len(h) not in (0, 7):
        raise ValueError("not a calibration")
    numbers = struct.unpack("<HhhHhhhhhhhhxB", first)
    if not numbers[0] or not numbers[3]:
        raise ValueError("no calibration in it: it was asked too early, or is no BME280")
    if not h:
        return Calibration(numbers[:3], numbers[3:12])
    h2, h3 = struct.unpack("<hB", h[:3])
    h4 = struct.unpack("b", h[3:4])[0] * 16 + (h[4] & 0x0F)
    h5 = struct.unpack("b", h[5:6])[0] * 16 + (h[4] >> 4)
    return Calibration(numbers[:3], numbers[3:12], (numbers[12], h2, h3, h4, h5, struct.unpack("b", h[6:7])[0]))


def decode(data: bytes, known: Calibration) -> dict[str, float]:
    """Return temperature in °C, pressure in hPa and, of a BME280, humidity in %, from the bytes at 0xF7.

    Raises ValueError where nothing was measured.
    """
    pressure, temperature = (int.from_bytes(data[at : at + 3], "big") >> 4 for at in (0, 3))
    if temperature == UNMEASURED:
        raise ValueError("it has not measured")
    fine = _fine(temperature, known.t)
    found = {"temperature": round(fine / 5120, 2)}
    if pressure != UNMEASURED:
        found["pressure"] = round(_pressure(pressure, fine, known.p) / 100, 2)
    if known.h and len(data) >= 8:
        found["humidity"] = round(_humidity(int.from_bytes(data[6:8], "big"), fine, known.h), 2)
    return found


def _fine(raw: int, t: tuple[int, ...]) -> float:
    """Return the temperature in 1/5120 °C, which the other two rest on."""
    difference = raw / 16384 - t[0] / 1024
    return difference * t[1] + (raw / 131072 - t[0] / 8192) ** 2 * t[2]


def _pressure(raw: int, fine: float, p: tuple[int, ...]) -> float:
    """Return the pressure in Pa. Raises ValueError."""
    half = fine / 2 - 64000
    offset = (half * half * p[5] / 32768 + half * p[4] * 2) / 4 + p[3] * 65536
    gain = (1 + (p[2] * half * half / 524288 + p[1] * half) / 524288 / 32768) * p[0]
    if gain == 0:
        raise ValueError("no pressure: its calibration is broken")
    pascal = (1048576 - raw - offset / 4096) * 6250 / gain
    return pascal + (p[8] * pascal * pascal / 2147483648 + pascal * p[7] / 32768 + p[6]) / 16


def _humidity(raw: int, fine: float, h: tuple[int, ...]) -> float:
    """Return the relative humidity in %."""
    shift = fine - 76800
    slope = h[1] / 65536 * (1 + h[5] / 67108864 * shift * (1 + h[2] / 67108864 * shift))
    percent = (raw - (h[3] * 64 + h[4] / 16384 * shift)) * slope
    return min(100.0, max(0.0, percent * (1 - h[0] * percent / 524288)))
