"""Ranges and blocks obey their laws."""

from __future__ import annotations

import zlib
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.outbox.block import DamagedBlock, decode, encode
from gateway.outbox.ranges import Ranges, runs
from gateway.reading import Reading

SPAN = st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda pair: (min(pair), max(pair)))


@given(st.lists(st.tuples(st.booleans(), SPAN)))
def test_ranges_are_a_set_of_ids(steps: list[tuple[bool, tuple[int, int]]]) -> None:
    """Whatever is added and removed, ranges say what a set would say, disjoint, sorted and as few as possible."""
    ranges, model = Ranges(), set()
    for add, (start, end) in steps:
        span = set(range(start, end))
        if add:
            assert ranges.add(start, end) == len(span - model)
            model |= span
        else:
            assert ranges.remove(start, end) == len(span & model)
            model -= span
        pairs = list(ranges)
        assert {one for a, b in pairs for one in range(a, b)} == model
        assert all(a < b for a, b in pairs)
        assert all(left[1] < right[0] for left, right in pairwise(pairs)), "merged where they touch"
        assert pairs == list(runs(model))
        assert all((one in ranges) == (one in model) for one in range(-1, 62))
        assert ranges.overlap(10, 50) == len(model & set(range(10, 50)))
        gaps = [one for a, b in ranges.gaps(5, 55) for one in range(a, b)]
        assert gaps == sorted(set(range(5, 55)) - model)


VALUE = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**63), 2**64 - 1),
    st.booleans(),
    st.text(max_size=20),
)


@st.composite
def readings(draw: st.DrawFn) -> list[Reading]:
    ids = sorted(draw(st.sets(st.integers(1, 2**60), min_size=1, max_size=20)))
    return [
        Reading(
            one,
            draw(st.sampled_from(["boiler", "tank", "ö"])),
            draw(st.integers(1, 2**40)),
            draw(st.integers(0, 10**15)) / 1e6,
            draw(st.one_of(st.none(), st.floats(0, 4e9))),
            draw(st.dictionaries(st.text(min_size=1, max_size=10), VALUE, max_size=4)),
        )
        for one in ids
    ]


@given(readings())
def test_a_block_gives_back_what_was_put_in(given_readings: list[Reading]) -> None:
    """decode(encode(x)) == x, to the microsecond and to the bit of every value."""
    assert decode(encode(given_readings)) == given_readings


@given(readings(), st.data())
def test_a_damaged_block_is_told_from_a_good_one(given_readings: list[Reading], data: st.DataObject) -> None:
    """Flipped bits never give other readings: the checksum, or the decoder, says so."""
    block = bytearray(encode(given_readings))
    crc = zlib.crc32(block)
    at = data.draw(st.integers(0, len(block) - 1))
    block[at] ^= data.draw(st.integers(1, 255))
    assert zlib.crc32(block) != crc
    with suppress(DamagedBlock):
        decode(bytes(block))


@given(st.binary(max_size=200))
def test_random_bytes_are_not_a_block(noise: bytes) -> None:
    """Whatever stands on the card, decoding raises the declared error and nothing else."""
    with pytest.raises(DamagedBlock):
        decode(b"\x01" + noise)
