"""The framer of binary frames: what it cuts out, what it throws away, and that it is never thrown off for long."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from adapters.frames.checksums import crc16_modbus
from adapters.frames.framer import BinaryFramer

HEADER = b"\xa5\xa5\x5a"  # begins like itself one byte later
LONGEST = 40

bodies = st.binary(max_size=LONGEST - len(HEADER) - 3)
# Made of what a header is made of, so that it begins a hundred times.
tricky = st.lists(st.sampled_from([b"\xa5", b"\x5a", HEADER, HEADER + b"\x20", b"\0"]), max_size=20).map(b"".join)
cuts = st.lists(st.integers(min_value=0), max_size=12)


def framed(body: bytes) -> bytes:
    head = HEADER + bytes([len(HEADER) + 1 + len(body) + 2]) + body
    return head + crc16_modbus(head).to_bytes(2, "little")


def sound(frame: bytes) -> bool:
    return crc16_modbus(frame) == 0


def framer() -> BinaryFramer:
    return BinaryFramer(HEADER, lambda head: head[3], sound, head=4, longest=LONGEST)


def fed(stream: bytes, places: list[int] | range = range(0)) -> tuple[list[bytes], dict[str, int]]:
    cutter = framer()
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    frames = []
    for start, end in pairwise(edges):
        frames += cutter.feed(stream[start:end])
    return frames, dict(cutter.thrown)


@given(st.lists(st.tuples(bodies, st.binary(max_size=50) | tricky), max_size=6), cuts)
def test_frames_and_what_is_counted_do_not_depend_on_the_cuts(
    parts: list[tuple[bytes, bytes]], places: list[int]
) -> None:
    """The same bytes give the same frames and the same counts, in whatever chunks they come."""
    stream = b"".join(framed(body) + noise for body, noise in parts)
    whole = fed(stream)
    assert fed(stream, places) == whole
    assert fed(stream, range(len(stream))) == whole


@given(tricky, st.lists(bodies, min_size=1, max_size=4))
def test_a_frame_is_found_in_what_looks_like_the_beginning_of_one(noise: bytes, some: list[bytes]) -> None:
    """Garbage that is full of headers hides no frame: what is no frame is looked through once more.

    After the last frame nothing follows that a false length could swallow; a quiet line would only show it later.
    """
    frames, _ = fed(noise + b"".join(framed(body) for body in some) + b"\0" * LONGEST)
    assert frames == [framed(body) for body in some]


@given(bodies, st.integers(0, LONGEST * 8), bodies)
def test_a_damaged_frame_costs_no_other(first: bytes, bit: int, second: bytes) -> None:
    """A wrong bit costs the frame in which it is, even in its length, and not the next."""
    damaged = bytearray(framed(first))
    damaged[bit // 8 % len(damaged)] ^= 1 << bit % 8
    frames, thrown = fed(bytes(damaged) + framed(second) + b"\0" * LONGEST)
    assert frames == [framed(second)]
    assert thrown


@given(st.lists(st.binary(max_size=300) | tricky, max_size=20))
def test_memory_is_bounded(chunks: list[bytes]) -> None:
    """What is kept for the next chunk is less than the longest frame."""
    cutter = framer()
    for chunk in chunks:
        cutter.feed(chunk)
        assert len(cutter._rest) < LONGEST


def test_what_is_thrown_away_is_counted_once_for_all_that_lies_together() -> None:
    """A minute of noise is one line in the log's count, and a damaged frame another reason."""
    damaged = bytearray(framed(b"abc"))
    damaged[5] ^= 1
    assert fed(b"\0" * 1000 + framed(b"x") + b"\1" * 1000)[1] == {"bytes between frames": 2}
    assert fed(framed(b"x") + bytes(damaged) + framed(b"y"))[1] == {"wrong checksum": 1}
    assert fed(framed(b"x") * 3)[1] == {}


def test_a_length_that_cannot_be_is_no_frame() -> None:
    """Neither does a false length of 0 stand still, nor is one that is too long waited for."""
    for length in (0, 3, LONGEST + 1, 255):
        frames, _ = fed(HEADER + bytes([length]) + framed(b"x"))
        assert frames == [framed(b"x")]


def test_a_frame_without_a_header_is_found_by_its_length_and_checksum() -> None:
    """Formats whose first byte is not fixed have none."""
    cutter = BinaryFramer(b"", lambda head: 4 if head[1] == 0x5A else 0, lambda frame: frame[3] == 1, head=2)
    assert cutter.feed(b"xy\x07\x5a\0\1\x08\x5a\0\1z") == [b"\x07\x5a\0\1", b"\x08\x5a\0\1"]
