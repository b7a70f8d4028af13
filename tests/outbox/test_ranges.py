"""Ranges and blocks obey their laws."""

from __future__ import annotations

import zlib
from contextlib import suppress
from itertools import count, pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.outbox.card.block import BYTES, COUNT, DamagedBlock, cut, decode, encode
from gateway.outbox.ranges import Ranges, runs
from gateway.reading import Publication, Reading

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


def lists_of(kinds: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(kinds, max_size=3)


PROPERTIES = st.fixed_dictionaries(
    {},
    optional={
        "message_expiry_interval": st.integers(0, 2**32 - 1),
        "content_type": st.text(max_size=10),
        "correlation_data": st.binary(max_size=20),
        "user_properties": lists_of(st.tuples(st.text(max_size=5), st.text(max_size=5))),
        "subscription_identifiers": lists_of(st.integers(1, 2**28 - 1)),
    },
)
PUBLICATION = st.builds(
    Publication,
    st.sampled_from(["a", "a/b", "ä/ö"]),
    st.binary(max_size=30),
    st.integers(0, 2),
    st.booleans(),
    st.one_of(st.none(), PROPERTIES),
)
READING = st.one_of(
    st.dictionaries(st.text(min_size=1, max_size=10), VALUE, max_size=4),
    st.fixed_dictionaries({"temperature": VALUE, "on": st.booleans()}),
)


@st.composite
def readings(draw: st.DrawFn, kinds: st.SearchStrategy[Any] | None = None) -> list[Reading]:
    kind = draw(st.sampled_from([READING, PUBLICATION])) if kinds is None else kinds
    ids = sorted(draw(st.sets(st.integers(1, 2**60), min_size=1, max_size=20)))
    seqs = {"boiler": count(1), "tank": count(2**40), "ö": count(7)}
    gap = draw(st.sampled_from([0, 0, 1, 9]))
    streams = [draw(st.sampled_from(list(seqs))) for _ in ids]
    return [
        Reading(
            one,
            stream,
            next(seqs[stream]) + gap * draw(st.integers(0, 1)),
            draw(st.integers(0, 10**15)) / 1e6,
            draw(st.one_of(st.none(), st.floats(0, 4e9))),
            draw(kind),
        )
        for one, stream in zip(ids, streams, strict=True)
    ]


@given(readings())
def test_a_block_gives_back_what_was_put_in(given_readings: list[Reading]) -> None:
    """decode(encode(x)) == x, to the microsecond and to the bit of every value."""
    assert decode(encode(given_readings)) == given_readings


@given(readings(READING | PUBLICATION))
def test_blocks_hold_one_kind_and_bounded_bytes(given_readings: list[Reading]) -> None:
    """What is written together is cut where its kind changes, in order, and nothing is left out."""
    blocks = [part for part, _ in cut(given_readings)]
    assert [reading for block in blocks for reading in block] == given_readings
    assert all(len({type(reading.values) for reading in block}) == 1 for block in blocks)
    assert [reading for block in blocks for reading in decode(encode(block))] == given_readings


@pytest.mark.parametrize(("size", "expected"), [(10, [COUNT, COUNT, 1]), (BYTES, [1] * 5), (BYTES // 3, [2, 2, 1])])
def test_a_block_is_bounded(size: int, expected: list[int]) -> None:
    """Neither many messages nor large ones make a block that takes much memory to read back."""
    values = Publication("t", bytes(size))
    ids = range(1, sum(expected) + 1)
    assert [len(block) for block, _ in cut([Reading(one, "", one, 0.0, None, values) for one in ids])] == expected


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


@given(st.binary(max_size=200), st.integers(0, 3), st.booleans())
def test_random_bytes_are_not_a_block(noise: bytes, layout: int, packed: bool) -> None:
    """Whatever stands on the card, decoding raises the declared error and nothing else."""
    with pytest.raises(DamagedBlock):
        decode(bytes((layout,)) + (zlib.compress(noise) if packed else noise))


def test_a_block_of_an_earlier_version_is_read() -> None:
    """Before there were columns of values, each reading had an object of its own, and always its seq."""
    values = [{"n": 1}, {"n": 2, "on": True}]
    columns = [7, None, ["boiler"], None, [3, 4], 1_500_000, [250_000], None, values]
    block = b"\x01" + zlib.compress(orjson.dumps(columns), 1)
    assert decode(block) == [
        Reading(7, "boiler", 3, 1.5, None, {"n": 1}),
        Reading(8, "boiler", 4, 1.75, None, {"n": 2, "on": True}),
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=8,
)


@given(st.lists(JSON, min_size=9, max_size=15))
def test_columns_that_make_no_sense_are_not_a_block(columns: list[Any]) -> None:
    """What is JSON and yet no block is damage as well."""
    head = orjson.dumps(columns)
    for layout in (b"\x01", b"\x03"):
        with suppress(DamagedBlock):
            decode(layout + zlib.compress(head))
    with suppress(DamagedBlock):
        decode(b"\x02" + zlib.compress(len(head).to_bytes(4, "big") + head))
