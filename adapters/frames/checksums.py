"""Checksums of the wire formats: sums, exclusive or, and cyclic redundancy checks.

Each takes bytes and returns a number; where and in which order it stands on the wire is the frame's business. The CRCs
are named, and their check values over "123456789" are published, in the CRC RevEng catalogue of parametrised CRC
algorithms.
"""

from __future__ import annotations

from binascii import crc_hqx
from functools import reduce
from operator import xor
from typing import Final

_MIRRORED: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _reflected_table(polynomial: int) -> tuple[int, ...]:
    """Return the remainder of each byte, lowest bit first, of a polynomial written lowest bit first."""
    table = []
    for remainder in range(256):
        for _ in range(8):
            remainder = (remainder >> 1) ^ (polynomial if remainder & 1 else 0)
        table.append(remainder)
    return tuple(table)


_CRC16: Final = _reflected_table(0xA001)  # x^16 + x^15 + x^2 + 1
_CRC8: Final = _reflected_table(0x8C)  # x^8 + x^5 + x^4 + 1


def sum8(data: bytes) -> int:
    """Return the sum of the bytes, modulo 256."""
    return sum(data) & 0xFF


def sum16(data: bytes) -> int:
    """Return the sum of the bytes, modulo 65536."""
    return sum(data) & 0xFFFF


def xor8(data: bytes) -> int:
    """Return the exclusive or of the bytes."""
    return reduce(xor, data, 0)


def crc16_arc(data: bytes) -> int:
    """Return the CRC-16/ARC, as DSMR has it: from 0."""
    return _crc16(data, 0)


def crc16_modbus(data: bytes) -> int:
    """Return the CRC-16/MODBUS: from 0xFFFF. On the wire its low byte comes first."""
    return _crc16(data, 0xFFFF)


def crc16_x25(data: bytes) -> int:
    """Return the CRC-16/IBM-SDLC, called X-25 (ISO/IEC 13239), as SML and DLMS have it."""
    # The standard library has this polynomial with the highest bit first.
    mirrored = crc_hqx(data.translate(_MIRRORED), 0xFFFF)
    return (_MIRRORED[mirrored & 0xFF] << 8 | _MIRRORED[mirrored >> 8]) ^ 0xFFFF


def crc16_kermit(data: bytes) -> int:
    """Return the CRC-16/KERMIT: the polynomial of X-25, from 0."""
    mirrored = crc_hqx(data.translate(_MIRRORED), 0)
    return _MIRRORED[mirrored & 0xFF] << 8 | _MIRRORED[mirrored >> 8]


def crc8_maxim(data: bytes) -> int:
    """Return the CRC-8/MAXIM-DOW, as 1-wire has it (Maxim application note 27): from 0."""
    remainder = 0
    for byte in data:
        remainder = _CRC8[remainder ^ byte]
    return remainder


def _crc16(data: bytes, remainder: int) -> int:
    for byte in data:
        remainder = (remainder >> 8) ^ _CRC16[(remainder ^ byte) & 0xFF]
    return remainder
