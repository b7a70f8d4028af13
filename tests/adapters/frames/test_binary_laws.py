"""The laws of decoders, for every binary wire format: what was sent is what is read, whatever happens on the line."""

from __future__ import annotations

import random
import sys
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.adapters.frames.encoders import EXAMPLES, FORMATS, Format, read

CUTS = st.lists(st.integers(min_value=0), max_size=12)
# Bytes with which no frame of any of these formats begins, nor ends.
NEUTRAL = st.binary(max_size=60).map(lambda noise: bytes(byte & 0x0F | 0x20 for byte in noise))
every_format = pytest.mark.parametrize("name", FORMATS)


@every_format
@given(data=st.data())
def test_every_split_gives_the_same_readings(name: str, data: st.DataObject) -> None:
    """Where the kernel cuts the stream, down to single bytes, is nothing that a reading depends on."""
    form = FORMATS[name]
    stream = b"".join(data.draw(st.lists(form.wire, min_size=1, max_size=4)))
    whole = read(form, stream)
    assert read(form, stream, data.draw(CUTS)) == whole
    assert read(form, stream, range(len(stream))) == whole


@every_format
@given(data=st.data())
def test_frames_side_by_side_are_all_read(name: str, data: st.DataObject) -> None:
    """Nothing between two frames is needed to tell them apart."""
    form = FORMATS[name]
    frames = data.draw(st.lists(form.wire, min_size=1, max_size=5))
    decode = form.decoder()
    alone = [decode(frame) for one in frames for frame in form.framer().feed(one)]
    assert len(alone) == len(frames)
    assert read(form, b"".join(frames)) == alone


@every_format
@given(data=st.data())
def test_noise_between_frames_changes_none(name: str, data: st.DataObject) -> None:
    """Noise before, between and after frames is thrown away, and nothing else."""
    form = FORMATS[name]
    frames = data.draw(st.lists(form.wire, min_size=1, max_size=4))
    noisy = b"".join(data.draw(NEUTRAL) + frame for frame in frames) + data.draw(NEUTRAL)
    assert read(form, noisy, data.draw(CUTS)) == read(form, b"".join(frames))


@every_format
@given(data=st.data())
def test_half_a_frame_costs_no_other(name: str, data: st.DataObject) -> None:
    """A port that opens in the middle of a frame loses that one, and no other after the next quiet."""
    form = FORMATS[name]
    first, second = data.draw(form.wire), data.draw(form.wire)
    half = first[data.draw(st.integers(1, len(first) - 1)) :]
    readings = read(form, half + b"\x20" * 600 + second)
    assert readings[-1:] == read(form, second)[-1:] or name == "cse7766"  # whose energy may have grown
    assert readings


@every_format
@given(data=st.data())
def test_no_flipped_bit_yields_a_reading(name: str, data: st.DataObject) -> None:
    """A checksummed frame in which one bit is wrong is thrown away, whichever bit it is."""
    form = FORMATS[name]
    frame = data.draw(form.wire)
    bit = data.draw(st.integers(0, len(frame) * 8 - 1))
    flipped = bytearray(frame)
    flipped[bit // 8] ^= 1 << bit % 8
    assert read(form, bytes(flipped)) == []


@every_format
@given(noise=st.lists(st.binary(max_size=200), max_size=10))
def test_random_bytes_raise_nothing(name: str, noise: list[bytes]) -> None:
    """Whatever comes, framer and decoder raise nothing but ValueError, in words that fit a log."""
    form = FORMATS[name]
    framer, decode = form.framer(), form.decoder()
    for chunk in noise:
        for frame in framer.feed(chunk):
            said = ""
            try:
                decode(frame)
            except ValueError as error:
                said = str(error)
            assert len(said) < 100


@every_format
@given(data=st.data())
def test_random_frames_of_the_right_shape_raise_nothing(name: str, data: st.DataObject) -> None:
    """What is damaged anywhere, in any way, raises nothing but ValueError."""
    form = FORMATS[name]
    stream = bytearray(data.draw(form.wire) * 2)
    for at, byte in data.draw(st.lists(st.tuples(st.integers(min_value=0), st.integers(0, 255)), max_size=8)):
        stream[at % len(stream)] = byte
    read(form, bytes(stream))


def steps(form: Format, stream: bytes, chunk: int) -> int:
    """Return how many lines of Python it takes to look a stream through."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> object:
        nonlocal count
        count += event == "line"
        return trace

    framer = form.framer()
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        for start in range(0, len(stream), chunk):
            framer.feed(stream[start : start + chunk])
    finally:
        sys.settrace(before)
    return count


@every_format
@pytest.mark.parametrize("chunk", [7, 1_000_000])
@pytest.mark.parametrize("noise", ["zeros", "headers", "half frames", "random"])
def test_noise_takes_linear_time(name: str, noise: str, chunk: int) -> None:
    """Four times the noise takes four times the work, also when it looks like the beginning of frames."""
    form, frame = FORMATS[name], EXAMPLES[name]
    piece = {
        "zeros": b"\0",
        "headers": frame[:2],
        "half frames": frame[: len(frame) // 2],
        "random": random.Random(1).randbytes(500),
    }[noise]
    stream = piece * (4000 // len(piece))
    once = steps(form, stream, chunk)
    assert steps(form, stream * 4, chunk) <= 4.2 * once + 100
    assert once <= 200 * len(stream)
