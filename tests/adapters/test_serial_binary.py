"""The keys of serial-binary: what fits together, what is refused, and that a description reads what a program reads."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from adapters.frames import plantower
from adapters.frames.struct_frame import Check, Number, decoder, framer
from adapters.serial.binary import SerialBinary
from gateway import Value
from tests.adapters.frames.encoders import U16, pms

PORT = "/dev/ttyUSB0"
FIELD = {"name": "a", "type": "u16"}
GOOD = {"port": PORT, "header": "42 4d", "length": 8, "fields": [FIELD]}
BODIES = {  # the last two as devices send them
    "sum16": "01 02 00 03 00 00",
    "crc16-modbus": "fe 04 00 03 00 01",
    "crc8-maxim": "72 01 4b 46 7f ff 0e 10",
}
PMS = SerialBinary(
    port=PORT,
    header="424D",
    length={"at": 2, "type": "u16", "plus": 4},
    checksum={"kind": "sum16", "at": -2},
    fields=[{"name": name, "type": "u16", **({"at": 4} if name == "pm1_cf1" else {})} for name in plantower.METRICS],
)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"header": ""}, "hexadecimal"),
        ({"header": "4"}, "hexadecimal"),
        ({"header": "42  4d"}, "hexadecimal"),
        ({"header": "zz"}, "hexadecimal"),
        ({"length": 1}, "header"),
        ({"length": 513}, "512"),
        ({"length": {"at": -1}}, "greater"),
        ({"length": {"at": 2, "type": "u32"}}, "u8"),
        ({"fields": []}, "at least 1"),
        ({"fields": [FIELD, FIELD]}, "twice"),
        ({"fields": [{**FIELD, "at": 7}]}, "not inside"),
        ({"fields": [{**FIELD, "at": -1}]}, "not inside"),
        ({"fields": [{**FIELD, "at": -9}]}, "not inside"),
        ({"fields": [{**FIELD, "at": -2}, {"name": "b", "type": "u8"}]}, "needs its place"),
        ({"fields": [{**FIELD, "type": "u64"}]}, "u8"),
        ({"fields": [{**FIELD, "scale": float("inf")}]}, "finite"),
        ({"checksum": {"kind": "md5"}}, "sum8"),
        ({"checksum": {"kind": "sum16", "at": -1}}, "not inside"),
        ({"checksum": {"kind": "sum8", "at": 8}}, "not inside"),
        ({"trailer": "0"}, "hexadecimal"),
    ],
)
def test_what_does_not_fit_is_refused(fields: dict[str, Any], words: str) -> None:
    """A mistake is found when the config is read, not when the first frame comes."""
    SerialBinary(**GOOD)
    with pytest.raises(ValidationError, match=words):
        SerialBinary(**{**GOOD, **fields})


@given(st.lists(U16, min_size=13, max_size=13).map(lambda words: [*words[:12], words[12] & 0xFF00]))
def test_a_description_reads_what_a_program_reads(words: list[int]) -> None:
    """A PMS5003 that is described gives the readings that its own adapter gives."""
    cut = PMS.framer().feed(b"x" + pms(words) + b"y")
    assert [PMS.decoder()(frame) for frame in cut] == [plantower.decode(pms(words))]


@pytest.mark.parametrize(
    ("check", "last"),
    [
        (Check("sum8", 4), "06"),
        (Check("sum8-inverted", 4), "f9"),
        (Check("sum8-negated", 4), "fa"),
        (Check("sum8", 4, start=1), "05"),
        (Check("sum8", 4, start=1, end=-2), "02"),
        (Check("xor8", -1), "00"),
    ],
)
def test_a_checksum_is_where_and_over_what_the_description_says(check: Check, last: str) -> None:
    """Each kind is computed as its name says, over the bytes from start to end."""
    frame = bytes.fromhex("01 02 00 03") + bytes.fromhex(last)
    whole = framer(b"\x01", 5, check)
    assert whole.feed(frame) == [frame], bytes([frame[4]]).hex()
    assert whole.feed(frame[:4] + bytes([frame[4] ^ 1])) == []


@pytest.mark.parametrize(
    ("check", "ends"),
    [
        (Check("sum16", -2), "00 06"),
        (Check("sum16", -2, order="le"), "06 00"),
        (Check("crc16-modbus", -2), "d5 c5"),
        (Check("crc16-modbus", -2, order="be"), "c5 d5"),
        (Check("crc8-maxim", -1), "57"),
    ],
)
def test_a_sum_has_its_high_byte_first_and_a_crc_its_low_one(check: Check, ends: str) -> None:
    """What most devices do is what happens when nothing is said; order says otherwise."""
    frame = bytes.fromhex(BODIES[check.kind] + ends)
    assert framer(frame[:1], len(frame), check).feed(frame) == [frame]


@pytest.mark.parametrize(
    ("number", "data", "expected"),
    [
        (Number("n", 0, "u8"), "ff", 255),
        (Number("n", 0, "i8"), "ff", -1),
        (Number("n", 0, "u16"), "01 02", 258),
        (Number("n", 0, "u16", "le"), "01 02", 513),
        (Number("n", 0, "i16"), "ff fe", -2),
        (Number("n", 0, "u32", "le"), "01 00 00 00", 1),
        (Number("n", 0, "i32"), "ff ff ff ff", -1),
        (Number("n", 0, "f32"), "3f c0 00 00", 1.5),
        (Number("n", 0, "u16", scale=0.1), "00 d9", 21.7),
        (Number("n", 0, "u16", scale=0.1, offset=-40), "02 6b", 21.9),
        (Number("n", 0, "u16", scale=2.0), "00 03", 6.0),
        (Number("n", -2, "u16"), "09 09 00 07", 7),
    ],
)
def test_a_number_is_read_as_its_type_says(number: Number, data: str, expected: Value) -> None:
    """Sign, size, order, scale, offset and place; and 21.7 is not 21.700000000000003."""
    assert decoder([number])(bytes.fromhex(data)) == {"n": expected}


def test_a_frame_that_is_too_short_for_its_numbers_is_no_reading() -> None:
    """A length that the frame tells itself can be too small."""
    with pytest.raises(ValueError, match="shorter than its numbers"):
        decoder([Number("a", 3, "u16"), Number("b", 0, "u8")])(b"1234")
    with pytest.raises(ValueError, match="shorter than its numbers"):
        decoder([Number("a", -6, "u16")])(b"1234")
