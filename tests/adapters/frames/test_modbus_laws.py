"""The laws of framers, for the answers of Modbus in each framing, and the frames that its specification publishes."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.frames.checksums import crc16_modbus
from adapters.frames.modbus import AfterEcho, Expected, Framing, framer

FRAMINGS: tuple[Framing, ...] = ("rtu", "ascii", "tcp")
CUTS = st.lists(st.integers(min_value=0), max_size=12)
every_framing = pytest.mark.parametrize("framing", FRAMINGS)


def wire(framing: Framing, unit: int, pdu: bytes, transaction: int = 0) -> bytes:
    """Return a frame as the specification has it."""
    data = bytes([unit]) + pdu
    if framing == "rtu":
        return data + crc16_modbus(data).to_bytes(2, "little")
    if framing == "ascii":
        return b":" + (data + bytes([-sum(data) & 0xFF])).hex().upper().encode() + b"\r\n"
    return transaction.to_bytes(2, "big") + bytes(2) + len(data).to_bytes(2, "big") + data


@st.composite
def answers(draw: st.DrawFn) -> tuple[Expected, bytes]:
    """Draw what is expected, and the PDU that comes: an answer to a read or a write, or an exception."""
    unit, transaction = draw(st.integers(0, 255)), draw(st.integers(1, 0xFFFF))
    function = draw(st.sampled_from([1, 2, 3, 4, 5, 6, 15, 16]))
    if function <= 4:
        data = draw(st.binary(min_size=1, max_size=250))
        begins, pdu = bytes([function, len(data)]), bytes([function, len(data)]) + data
    else:
        begins = pdu = bytes([function]) + draw(st.binary(min_size=4, max_size=4))
    if draw(st.booleans()):
        pdu = bytes([function | 0x80, draw(st.integers(1, 11))])
        return Expected(unit, begins, len(begins) + draw(st.integers(0, 8)), transaction), pdu
    return Expected(unit, begins, len(pdu), transaction), pdu


def cut(framing: Framing, expected: Expected, stream: bytes, cuts: Any = ()) -> list[bytes]:
    """Return the frames in a stream that comes in pieces."""
    found, cutter, start = [], framer(framing, expected), 0
    for end in [*sorted(at % (len(stream) + 1) for at in cuts), len(stream)]:
        found += cutter.feed(stream[start:end])
        start = end
    return found


@every_framing
@given(answer=answers(), cuts=CUTS)
def test_the_answer_is_cut_out_wherever_the_stream_is_split(
    framing: Framing, answer: tuple[Expected, bytes], cuts: list[int]
) -> None:
    """Whole, in pieces, and byte by byte: the same frame."""
    expected, pdu = answer
    frame = wire(framing, expected.unit, pdu, expected.transaction)
    for places in ((), cuts, range(len(frame))):
        assert cut(framing, expected, frame, places) == [frame]


@every_framing
@given(answer=answers(), noise=st.binary(max_size=60), cuts=CUTS)
def test_noise_before_the_answer_hides_it_not(
    framing: Framing, answer: tuple[Expected, bytes], noise: bytes, cuts: list[int]
) -> None:
    """Whatever comes first, short of the beginning of an answer: what is asked for is found behind it."""
    expected, pdu = answer
    starts = {"rtu": expected.unit, "ascii": ord(":"), "tcp": expected.transaction >> 8}[framing]
    noise = bytes(byte for byte in noise if byte != starts)
    frame = wire(framing, expected.unit, pdu, expected.transaction)
    assert cut(framing, expected, noise + frame, cuts) == [frame]


@pytest.mark.parametrize("framing", ["rtu", "ascii"])
@given(answer=answers(), start=st.integers(1, 300), cuts=CUTS)
def test_the_rest_of_an_answer_hides_no_other(
    framing: Framing, answer: tuple[Expected, bytes], start: int, cuts: list[int]
) -> None:
    """The end of the frame that came before, and as much of its beginning, are no part of it; TCP has no halves."""
    expected, pdu = answer
    frame = wire(framing, expected.unit, pdu, expected.transaction)
    whole = len(pdu) == expected.size  # the beginning of a longer one holds up an exception: nothing tells them apart
    before = frame[start % len(frame) :] + (frame[: start % len(frame)] if whole else b"")
    assert cut(framing, expected, before + frame, cuts)[-1:] == [frame]


@pytest.mark.parametrize("framing", ["rtu", "ascii"])
@given(answer=answers(), bit=st.integers(min_value=0))
def test_no_flipped_bit_yields_an_answer(framing: Framing, answer: tuple[Expected, bytes], bit: int) -> None:
    """With a checksum, one wrong bit is found, whichever it is; capital digits are the only ones."""
    expected, pdu = answer
    frame = bytearray(wire(framing, expected.unit, pdu))
    bit %= len(frame) * 8
    frame[bit // 8] ^= 1 << bit % 8
    assert cut(framing, expected, bytes(frame)) == []


@pytest.mark.parametrize("framing", ["rtu", "ascii"])
@pytest.mark.parametrize("pdu", ["04 06 01 23 45 67 89 ab", "03 02 cd ef", "06 00 0a ff 00", "83 02"])
def test_no_flipped_bit_at_all_yields_an_answer(framing: Framing, pdu: str) -> None:
    """Each bit of a frame in turn, every digit of ASCII among them, of which no small letter is one."""
    data = bytes.fromhex(pdu)
    expected = Expected(0xBC, bytes([data[0] & 0x7F]) + data[1:2], max(len(data), 4))
    frame = wire(framing, expected.unit, data)
    assert cut(framing, expected, frame) == [frame]
    for bit in range(len(frame) * 8):
        flipped = bytearray(frame)
        flipped[bit // 8] ^= 1 << bit % 8
        assert cut(framing, expected, bytes(flipped)) == [], bit


@every_framing
@given(answer=answers(), other=answers(), cuts=CUTS)
def test_the_answer_to_another_question_is_none(
    framing: Framing, answer: tuple[Expected, bytes], other: tuple[Expected, bytes], cuts: list[int]
) -> None:
    """Of another unit or function, and over TCP of another number: it is thrown away."""
    (expected, _), (late, late_pdu) = answer, other
    same = (late.unit, late_pdu[0] & 0x7F) == (expected.unit, expected.begins[0])
    if framing == "tcp":
        same = same and late.transaction == expected.transaction
    stream = wire(framing, late.unit, late_pdu, late.transaction)
    if not same:
        assert cut(framing, expected, stream, cuts) == []


@every_framing
@given(
    function=st.sampled_from([5, 6, 15, 16]),
    said=st.binary(min_size=4, max_size=4),
    at=st.integers(0, 3),
    other=st.integers(1, 255),
)
def test_the_answer_to_a_write_says_what_was_written(
    framing: Framing, function: int, said: bytes, at: int, other: int
) -> None:
    """Its address and its value, or how many: with anything else in their place it is the answer to something else."""
    expected = Expected(1, bytes([function]) + said, 5, 7)
    wrong = bytearray(said)
    wrong[at] ^= other
    assert cut(framing, expected, wire(framing, 1, bytes([function]) + wrong, 7)) == []
    assert len(cut(framing, expected, wire(framing, 1, bytes([function]) + said, 7))) == 1


@every_framing
@given(expected=answers(), noise=st.lists(st.binary(max_size=200), max_size=10))
def test_random_bytes_raise_nothing(framing: Framing, expected: tuple[Expected, bytes], noise: list[bytes]) -> None:
    """Whatever comes is no error."""
    cutter = framer(framing, expected[0])
    for chunk in noise:
        cutter.feed(chunk)


def steps(framing: Framing, stream: bytes) -> int:
    """Return how many lines of Python it takes to look a stream through."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> object:
        nonlocal count
        count += event == "line"
        return trace

    cutter = framer(framing, Expected(1, bytes([3, 4]), 6, 0x0101))
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        for start in range(0, len(stream), 500):
            cutter.feed(stream[start : start + 500])
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize(
    ("framing", "worst"),
    [("rtu", b"\x01\x03\x04"), ("ascii", b":010304"), ("tcp", bytes.fromhex("0101 0000 0007 01 03 04 ffff"))],
)
def test_noise_takes_linear_time(framing: Framing, worst: bytes) -> None:
    """Ten times the noise costs ten times the work, also where each byte could be the beginning of an answer."""
    assert steps(framing, worst * 2000) < 12 * steps(framing, worst * 200)


@given(answer=answers(), cuts=CUTS, question=st.binary(min_size=4, max_size=30), echo=st.booleans())
def test_an_echo_is_thrown_away_once(
    answer: tuple[Expected, bytes], cuts: list[int], question: bytes, echo: bool
) -> None:
    """What comes back of the question is not the answer; where nothing comes back, nothing is lost."""
    expected, pdu = answer
    frame = wire("rtu", expected.unit, pdu)
    if not echo and frame[: len(question)] == question:
        return
    cutter = AfterEcho(question, framer("rtu", expected))
    stream = (question if echo else b"") + frame
    found, start = [], 0
    for end in [*sorted(at % (len(stream) + 1) for at in cuts), len(stream)]:
        found += cutter.feed(stream[start:end])
        start = end
    assert found == [frame]


def test_an_answer_that_is_the_question_comes_after_its_echo() -> None:
    """A register that is written is answered with the very bytes that were asked."""
    question = bytes.fromhex("01 06 00 01 00 03 98 0b")
    assert crc16_modbus(question) == 0
    cutter = AfterEcho(question, framer("rtu", Expected(1, question[1:6], 5)))
    assert cutter.feed(question[:5]) == []
    assert cutter.feed(question[5:]) == []
    assert cutter.feed(question) == [question]


@pytest.mark.parametrize(
    ("unit", "begins", "size", "frame"),
    [
        (1, "04 04", 6, "01 04 04 43 66 33 34 1b 38"),  # SDM120: 230.2 V
        (0xFE, "04 02", 4, "fe 04 02 01 90 ac d8"),  # SenseAir S8: 400 ppm
    ],
)
def test_published_answers_are_cut_out(unit: int, begins: str, size: int, frame: str) -> None:
    """Not only what the encoder of these tests makes."""
    data = bytes.fromhex(frame)
    assert cut("rtu", Expected(unit, bytes.fromhex(begins), size), data) == [data]
