"""Words of Sensirion's I²C sensors, each with its checksum, and what an SHT3x and an SHT4x say with them.

Source: Sensirion, SHT3x-DIS data sheet, sections 4.12 (CRC-8, polynomial 0x31, from 0xFF; 0xBEEF has 0x92) and 4.13;
SHT4x data sheet, section 4.6.
"""

from __future__ import annotations

SHT3X, SHT4X = b"\x24\x00", b"\xfd"
"""Measure once, as exactly as it can, without holding the clock."""
MEASURING = 0.02
"""Seconds that this takes at most."""


def crc(data: bytes) -> int:
    """Return the checksum of a word."""
    remainder = 0xFF
    for byte in data:
        remainder ^= byte
        for _ in range(8):
            remainder = (remainder << 1 ^ (0x31 if remainder & 0x80 else 0)) & 0xFF
    return remainder


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
    return {
        "temperature": round(-45 + 175 * temperature / 65535, 2),
        "humidity": round(min(100.0, max(0.0, offset + span * humidity / 65535)), 2),
    }
