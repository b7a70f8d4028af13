"""The framer of lines: the same frames however the stream is cut, in bounded memory and linear time."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.frames.lines import LineFramer

streams = st.lists(st.sampled_from([b"\n", b"\r", b" ", b"\0", b"\t", b"a", b"{}", b"x" * 15, b"y" * 40])).map(b"".join)
cuts = st.lists(st.integers(0, 400), max_size=20)


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


def fed(framer: LineFramer, chunks: list[bytes]) -> tuple[list[bytes], int]:
    return [frame for chunk in chunks for frame in framer.feed(chunk)], framer.thrown.total()


@given(streams, cuts, st.booleans())
def test_any_cut_gives_the_same_lines(stream: bytes, cuts: list[int], skip_first: bool) -> None:
    """Whole, byte by byte or in pieces: the same frames, and the same count of what was thrown away."""
    whole = fed(LineFramer(32, skip_first=skip_first), [stream])
    assert fed(LineFramer(32, skip_first=skip_first), pieces(stream, cuts)) == whole
    assert fed(LineFramer(32, skip_first=skip_first), [stream[at : at + 1] for at in range(len(stream))]) == whole


@given(streams, cuts)
def test_the_lines_are_the_lines(stream: bytes, cuts: list[int]) -> None:
    """What comes out is what a split of the whole stream says, without the empty and the overlong."""
    *lines, tail = stream.split(b"\n")
    expected = [line.strip(b" \r\0") for line in lines if len(line) <= 32]
    frames, overlong = fed(LineFramer(32), pieces(stream, cuts))
    assert frames == [line for line in expected if line]
    assert overlong == sum(len(line) > 32 for line in [*lines, tail])


@given(st.lists(st.binary(max_size=100), max_size=50))
def test_memory_is_bounded(chunks: list[bytes]) -> None:
    """Never is more kept than one line may have, whatever comes."""
    framer = LineFramer(64)
    for chunk in chunks:
        framer.feed(chunk)
        assert len(framer._rest) <= 64


def test_after_a_line_without_end_the_next_line_is_read() -> None:
    """The framer finds its way again by itself at the next end of line, and counts one loss for one line."""
    framer = LineFramer(4096)
    for _ in range(1000):
        assert framer.feed(b"x" * 1000) == []
    assert framer.thrown.total() == 1
    assert framer.feed(b"tail\nnext\n") == [b"next"]
    assert framer.thrown.total() == 1


def test_the_longest_line_is_read_and_one_byte_more_is_not() -> None:
    """`max_line` is the length that still passes."""
    framer = LineFramer(16)
    assert framer.feed(b"x" * 16 + b"\n" + b"y" * 17 + b"\nz\n") == [b"x" * 16, b"z"]
    assert framer.thrown.total() == 1


def test_byte_by_byte_costs_one_copy_for_each_byte() -> None:
    """A line that comes byte by byte is not copied anew for each of them: what is kept grows in place."""
    framer = LineFramer(1_000_000)
    kept = framer._rest
    for _ in range(1000):
        framer.feed(b"x")
    assert framer._rest is kept
    assert framer.feed(b"\n") == [b"x" * 1000]


@pytest.mark.parametrize(("skip_first", "lines"), [(False, [b"alf", b"whole"]), (True, [b"whole"])])
def test_the_first_line_is_kept_unless_asked(skip_first: bool, lines: list[bytes]) -> None:
    """By default no complete line is lost; `skip_first` throws away up to the first end, and counts nothing."""
    framer = LineFramer(16, skip_first=skip_first)
    assert framer.feed(b"al") == []
    assert framer.feed(b"f\nwhole\nnext") == lines
    assert framer.thrown.total() == 0
