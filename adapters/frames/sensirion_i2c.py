"""Words of Sensirion's I²C sensors, each with its checksum, and what SHT3x, SHT4x and SCD4x say with them.

Source: Sensirion, SHT3x-DIS data sheet, sections 4.12 (CRC-8, polynomial 0x31, from 0xFF; 0xBEEF has 0x92) and 4.13;
SHT4x data sheet, section 4.6; SCD4x data sheet, sections 3.4 to 3.8 (commands, with an example of each).
"""

from __future__ import annotations

SHT3X, SHT4X = b"\x24\x00", b"\xfd"
"""Measure once, as exactly as it can, without holding the clock."""
MEASURING = 0.02
"""Seconds that this takes at most."""

# Of an SCD4x:
START, START_LOW_POWER, STOP = 0x21B1, 0x21AC, 0x3F86
READ, READY = 0xEC05, 0xE4B8
ALTITUDE, PRESSURE, SELF_CALIBRATION, SERIAL = 0x2427, 0xE000, 0x2416, 0x3682
STOPPING = 0.5
"""Seconds for which it takes nothing else after STOP."""
ANSWERING = 0.002
"""Seconds from a question to its answer."""


def crc(data: bytes) -> int:
    """Return the checksum of a word."""
    remainder = 0xFF
    for byte in data:
        remainder ^= byte
        for _ in range(8):
            remainder = (remainder << 1 ^ (0x31 if remainder & 0x80 else 0)) & 0xFF
    return remainder


def command(code: int, *arguments: int) -> bytes:
    """Return what is written to give a command, with its arguments."""
    written = code.to_bytes(2, "big")
    for argument in arguments:
        word = argument.to_bytes(2, "big")
        written += word + bytes([crc(word)])
    return written


def words(data: bytes) -> list[int]:
    """Return the words of an answer. Raises ValueError for one whose checksum is wrong."""
    if not data or len(data) % 3:
        raise ValueError("not whole words")
    for at in range(0, len(data), 3):
        if crc(data[at : at + 2]) != data[at + 2]:
            raise ValueError("wrong checksum")
    return [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 3)]


def decode(data: bytes, *, offset: float = 0.0, span: float = 100.0) -> dict[str, float]:
    """Return temperature in °C and relative humidity in % of six bytes; the humidity goes from `offset` over `span`."""
    temperature, humidity = words(data)
    return _climate(temperature, humidity, offset, span)


def decode_scd4x(data: bytes) -> dict[str, float]:
    """Return CO2 in ppm, temperature in °C and relative humidity in % of nine bytes."""
    co2, temperature, humidity = words(data)
    return {"co2": co2, **_climate(temperature, humidity, 0.0, 100.0)}


def is_ready(data: bytes) -> bool:
    """Say whether an SCD4x has a measurement that nobody has read yet, from its answer to READY."""
    return bool(words(data)[0] & 0x07FF)


def _climate(temperature: int, humidity: int, offset: float, span: float) -> dict[str, float]:
    return {
        "temperature": round(-45 + 175 * temperature / 65535, 2),
        "humidity": round(min(100.0, max(0.0, offset + span * humidity / 65535)), 2),
    }
