"""The laws of decoders, for the formats of meters, receivers and scales."""

from __future__ import annotations

import random
import sys
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.adapters.frames.encoders import Format, read
from tests.adapters.frames.meters import EVERY, EXAMPLES, FORMATS

CUTS = st.lists(st.integers(min_value=0), max_size=12)
# Bytes that begin and end no frame of any of these formats.
NEUTRAL = st.text("abcxyz .,;0123456789()", max_size=60).map(str.encode)
every_format = pytest.mark.parametrize("name", EVERY)


@every_format
@given(data=st.data())
def test_every_split_gives_the_same_readings(name: str, data: st.DataObject) -> None:
    """Where the kernel cuts the stream, down to single bytes, is nothing that a reading depends on."""
    form = EVERY[name]
    stream = b"".join(data.draw(st.lists(form.wire, min_size=1, max_size=3)))
    whole = read(form, stream)
    assert read(form, stream, data.draw(CUTS)) == whole
    assert read(form, stream, range(len(stream))) == whole


@every_format
@given(data=st.data())
def test_frames_side_by_side_are_all_read(name: str, data: st.DataObject) -> None:
    """Nothing between two frames is needed to tell them apart."""
    form = EVERY[name]
    frames = data.draw(st.lists(form.wire, min_size=1, max_size=4))
    alone = [values for frame in frames for values in read(form, frame)]
    assert len(alone) == len(frames)
    assert read(form, b"".join(frames)) == alone


@pytest.mark.parametrize("name", [name for name in EVERY if name != "scale"])
@given(data=st.data())
def test_noise_between_frames_changes_none(name: str, data: st.DataObject) -> None:
    """Noise before, between and after frames is thrown away, and nothing else."""
    form = EVERY[name]
    frames = data.draw(st.lists(form.wire, min_size=1, max_size=3))
    noisy = b"".join(data.draw(NEUTRAL) + frame for frame in frames) + data.draw(NEUTRAL)
    assert read(form, noisy, data.draw(CUTS)) == read(form, b"".join(frames))


@every_format
@given(data=st.data())
def test_half_a_frame_costs_one_frame_at_most(name: str, data: st.DataObject) -> None:
    """A port that opens in the middle of a frame is in step again with the second whole frame."""
    form = EVERY[name]
    half, *frames = data.draw(st.lists(form.wire, min_size=4, max_size=4))
    half = half[data.draw(st.integers(1, len(half) - 1)) :]
    whole = read(form, b"".join(frames))
    assert read(form, half + b"".join(frames))[-2:] == whole[-2:]


@pytest.mark.parametrize("name", FORMATS)
@given(data=st.data())
def test_no_flipped_bit_yields_a_reading(name: str, data: st.DataObject) -> None:
    """A checksummed frame in which one bit is wrong is thrown away; what may pass is exactly what was sent, or less.

    Less is text of Teleinfo, whose sum does not see one bit in seven: such text is left out. What was sent passes when
    the bit makes a hexadecimal digit of a checksum a small letter, or is in the end of a line.
    """
    form = FORMATS[name]
    frame = data.draw(form.wire)
    (sent,) = read(form, frame)
    bit = data.draw(st.integers(0, len(frame) * 8 - 1))
    flipped = bytearray(frame)
    flipped[bit // 8] ^= 1 << bit % 8
    for values in read(form, bytes(flipped)):
        assert values.items() <= sent.items()
        assert name.startswith("teleinfo") or values == sent
        assert name in ("teleinfo", "teleinfo-historical", "dsmr", "nmea")


def flips(frame: bytes) -> list[bytes]:
    return [
        bytes(byte ^ (1 << bit if place == at else 0) for place, byte in enumerate(frame))
        for at in range(len(frame))
        for bit in range(8)
    ]


@pytest.mark.parametrize("name", FORMATS)
def test_no_single_bit_of_a_frame_yields_another_reading(name: str) -> None:
    """All flips of one frame, one after the other, and what they leave: next to nothing, and nothing wrong."""
    form = FORMATS[name]
    frame = EXAMPLES[name]
    (sent,) = read(form, frame)
    passed = [values for one in flips(frame) for values in read(form, one)]
    if name.startswith("teleinfo"):
        assert all(values.items() <= sent.items() for values in passed)
        assert all(sent.keys() - values.keys() <= {"tariff_period"} for values in passed)
    else:
        assert all(values == sent for values in passed)
        assert len(passed) <= 4


@every_format
@given(noise=st.lists(st.binary(max_size=200), max_size=10))
def test_random_bytes_raise_nothing(name: str, noise: list[bytes]) -> None:
    """Whatever comes, framer and decoder raise nothing but ValueError, in words that fit a log."""
    form = EVERY[name]
    framer, decode = form.framer(), form.decoder()
    for chunk in noise:
        for frame in [*framer.feed(chunk), chunk]:
            said = ""
            try:
                decode(frame)
            except ValueError as error:
                said = str(error)
            assert len(said) < 100


@every_format
@given(data=st.data())
def test_damaged_frames_raise_nothing(name: str, data: st.DataObject) -> None:
    """What is damaged anywhere, in any way, raises nothing but ValueError, checksum or not."""
    form = EVERY[name]
    wire = data.draw(form.wire)
    damage = data.draw(st.lists(st.tuples(st.integers(min_value=0), st.integers(0, 255)), max_size=8))
    stream = bytearray(wire * 2)
    for at, byte in damage:
        stream[at % len(stream)] = byte
    read(form, bytes(stream))
    decode = form.decoder()
    for frame in form.framer().feed(wire):
        content = bytearray(frame)
        for at, byte in damage:
            content[at % len(content)] = byte
        try:
            decode(bytes(content))
        except ValueError:
            continue


def steps(form: Format, stream: bytes, chunk: int) -> int:
    """Return how many lines of Python it takes to look a stream through."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> object:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        read(form, stream, range(0, len(stream), chunk))
    finally:
        sys.settrace(before)
    return count


SIGNS = b"/!\n\x02\x03\x1b\x01\x1a$*:\t\r\nChecksum\t(0*kWh) "


@every_format
@pytest.mark.parametrize("chunk", [1, 64])
def test_noise_takes_linear_time(name: str, chunk: int) -> None:
    """Four times the noise takes four times the steps, also when it is made of the signs that begin frames."""
    chance = random.Random(1)
    noise = bytes(chance.choice(SIGNS) for _ in range(8000))
    form = EVERY[name]
    short, long = steps(form, noise[:2000], chunk), steps(form, noise, chunk)
    assert long < 6 * short


@every_format
@pytest.mark.parametrize("begin", [b"", b"/", b"\x02", b"\x1b\x1b\x1b\x1b\x01\x01\x01\x01", b"\r\nV\t", b":", b"$"])
@pytest.mark.parametrize("piece", [b"", b"x", b"A", b"\x1b", b" "])
def test_what_has_no_end_is_thrown_away(name: str, begin: bytes, piece: bytes) -> None:
    """A frame that never ends is given up, counted, and does not pile up in memory; the next frame is read."""
    form = EVERY[name]
    framer = form.framer()
    framer.feed(begin)
    for _ in range(40):
        framer.feed((piece or begin) * (4096 // len(piece or begin or b"-")))
        assert len(getattr(framer, "_rest", None) or getattr(framer, "_block", b"")) <= 20_000
    frames = [frame for chunk in (b"\n", EXAMPLES[name], EXAMPLES[name]) for frame in framer.feed(chunk)]
    assert frames[-1:] == form.framer().feed(EXAMPLES[name])
