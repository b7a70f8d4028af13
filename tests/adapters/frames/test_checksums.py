"""The checksums: against published values, and what each of them finds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.frames import checksums

CHECK = b"123456789"

# Of the CRCs: "check" in the CRC RevEng catalogue. Of the sums: added up by hand.
PUBLISHED = {
    "sum8": 0xDD,
    "sum16": 0x01DD,
    "xor8": 0x31,
    "crc16_arc": 0xBB3D,
    "crc16_modbus": 0x4B37,
    "crc16_x25": 0x906E,
    "crc16_kermit": 0x2189,
    "crc8_maxim": 0xA1,
}


def named(name: str) -> Callable[[bytes], int]:
    checksum: Callable[[bytes], int] = getattr(checksums, name)
    return checksum


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_check_value_is_the_published_one(name: str) -> None:
    """A checksum is the one that devices compute, and not one that only looks like it."""
    assert named(name)(CHECK) == PUBLISHED[name]


@pytest.mark.parametrize(
    ("name", "frame", "expected"),
    [
        ("crc16_modbus", "fe 04 00 03 00 01", 0xC5D5),  # SenseAir S8, on the wire d5 c5
        ("crc16_modbus", "01 04 04 43 66 33 34", 0x381B),  # Eastron SDM120, on the wire 1b 38
        ("crc16_modbus", "f8 04 00 00 00 0a", 0x6464),  # PZEM-004T
        ("crc8_maxim", "72 01 4b 46 7f ff 0e 10", 0x57),  # DS18B20
        ("sum8", "06 00 06 00 58 d9", 0x3D),  # SDS011
    ],
)
def test_the_checksum_of_a_published_frame_is_right(name: str, frame: str, expected: int) -> None:
    """Real frames carry it."""
    assert named(name)(bytes.fromhex(frame)) == expected


@pytest.mark.parametrize("name", PUBLISHED)
@given(data=st.binary(min_size=1, max_size=300), where=st.integers(min_value=0))
def test_a_single_flipped_bit_changes_it(name: str, data: bytes, where: int) -> None:
    """Whatever bit is wrong, the frame is found out."""
    flipped = bytearray(data)
    flipped[where // 8 % len(data)] ^= 1 << where % 8
    assert named(name)(bytes(flipped)) != named(name)(data)


@pytest.mark.parametrize("name", ["crc16_arc", "crc16_modbus", "crc16_x25", "crc8_maxim"])
@given(data=st.binary(min_size=2, max_size=100), start=st.integers(min_value=0), pattern=st.integers(1, 255))
def test_a_crc_finds_every_burst_of_eight_bits(name: str, data: bytes, start: int, pattern: int) -> None:
    """A burst of errors that is not longer than the CRC is always found, wherever it begins."""
    start %= len(data) * 8 - 7
    whole = int.from_bytes(data, "little") ^ pattern << start  # CRCs with the lowest bit first
    assert named(name)(whole.to_bytes(len(data), "little")) != named(name)(data)


@given(st.binary(max_size=200))
def test_a_crc_over_a_frame_with_its_crc_is_a_constant(data: bytes) -> None:
    """The laws of the catalogue: the residue does not depend on the frame."""
    assert checksums.crc16_modbus(data + checksums.crc16_modbus(data).to_bytes(2, "little")) == 0
    assert checksums.crc16_arc(data + checksums.crc16_arc(data).to_bytes(2, "little")) == 0
    assert checksums.crc8_maxim(data + bytes([checksums.crc8_maxim(data)])) == 0
    assert checksums.crc16_x25(data + checksums.crc16_x25(data).to_bytes(2, "little")) == 0xF0B8 ^ 0xFFFF
