"""What the receiver's proof says is exactly what happened, whatever was lost, doubled or put out of order."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.formats.packing import LARGEST, Packing
from gateway.proof import Proof, Row

TOPIC = "sensors/gw/boiler"


def reading(seq: int, epoch: int = 1, **more: object) -> bytes:
    return orjson.dumps({"ts": 0, "seq": seq, "epoch": epoch, "temperature": 21.5, **more})


def entry(first: int, last: int, count: int | None = None, **more: Any) -> dict[str, Any]:
    count = last - first + 1 if count is None else count
    told = {"topic": TOPIC, "uplink": "cloud", "stream": "boiler", "stream_epoch": 1, "reason": "full"}
    return {"ts": 0, "seq": 1, "epoch": 9, "first_seq": first, "last_seq": last, "count": count, **told, **more}


def proved(seqs: Iterable[int], *entries: dict[str, Any], whole: bool = False) -> Row:
    proof = Proof(whole=whole)
    for told in entries:
        proof.take("sensors/gw/ledger", orjson.dumps(told))
    for seq in seqs:
        proof.take(TOPIC, reading(seq))
    (row,) = proof.report().rows
    return row


def spans(row: Row) -> set[int]:
    return {seq for first, last in row.unexplained for seq in range(first, last + 1)}


class Arrival:
    """A reading as it came: its stream, its place and its class."""

    def __init__(self, stream: tuple[str, int], seq: int, historical: bool) -> None:
        self.stream, self.seq, self.historical = stream, seq, historical


@st.composite
def arrivals(draw: st.DrawFn) -> list[Arrival]:
    """Readings of a few streams, each once, never or several times, in any order."""
    came: list[Arrival] = []
    for stream in draw(st.lists(st.tuples(st.sampled_from(["a/b/c", "a/b/d"]), st.integers(1, 3)), unique=True)):
        copies = draw(st.lists(st.integers(0, 3), max_size=30))
        came += [Arrival(stream, seq, draw(st.booleans())) for seq, times in enumerate(copies, 1) for _ in range(times)]
    random.Random(draw(st.integers())).shuffle(came)
    return came


@given(arrivals(), st.booleans())
def test_every_loss_copy_and_disorder_is_reported_exactly(came: list[Arrival], whole: bool) -> None:
    """Of any arrivals, the rows say what a slow and simple count says."""
    proof = Proof(whole=whole)
    for one in came:
        proof.take(one.stream[0], reading(one.seq, one.stream[1], **({"historical": True} if one.historical else {})))
    report = proof.report()
    assert [(row.topic, row.epoch) for row in report.rows] == sorted({one.stream for one in came})
    for row in report.rows:
        mine = [one for one in came if one.stream == (row.topic, row.epoch)]
        seen: list[Arrival] = []
        reordered = 0
        for one in mine:
            if one.seq not in {each.seq for each in seen}:
                reordered += any(each.seq > one.seq and each.historical == one.historical for each in seen)
                seen.append(one)
        seqs = {one.seq for one in mine}
        assert (row.received, row.duplicates) == (len(seqs), len(mine) - len(seqs))
        assert row.reordered == reordered
        assert spans(row) == set(range(1 if whole else min(seqs), max(seqs))) - seqs
        assert row.missing == row.unknown == len(spans(row))
    assert report.proved == (bool(came) and not any(row.missing for row in report.rows))


@given(st.sets(st.integers(1, 60), min_size=1), st.lists(st.tuples(st.integers(1, 60), st.integers(0, 20)), max_size=6))
def test_the_ledger_explains_what_it_names_and_nothing_else(seen: set[int], losses: list[tuple[int, int]]) -> None:
    """Entries that name every reading from first to last explain exactly those, in whatever order and how often."""
    entries = [entry(first, first + more) for first, more in losses]
    row = proved(seen, *entries, *entries)
    named = {seq for first, more in losses for seq in range(first, first + more + 1)}
    missing = set(range(min(seen), max(seen))) - seen
    assert spans(row) == missing - named
    assert sum(row.explained.values()) == len(missing & named)


@given(st.sets(st.integers(1, 40), min_size=2), st.lists(st.tuples(st.integers(1, 40), st.integers(1, 15)), max_size=4))
def test_an_entry_with_holes_explains_no_more_than_its_count(seen: set[int], losses: list[tuple[int, int]]) -> None:
    """Entries that lost part of a range explain as many as can be, and none more than it says."""
    entries = [entry(first, first + 2 * more, more, reason=f"r{n}") for n, (first, more) in enumerate(losses)]
    row = proved(seen, *entries)
    missing = sorted(set(range(min(seen), max(seen))) - seen)
    # The most that can be explained, found the long way: a matching of missing readings with places in entries.
    places = [(first, first + 2 * more) for first, more in losses for _ in range(more)]
    taken: dict[int, int] = {}

    def place(seq: int, tried: set[int]) -> bool:
        for n, (first, last) in enumerate(places):
            if first <= seq <= last and n not in tried:
                tried.add(n)
                if n not in taken or place(taken[n], tried):
                    taken[n] = seq
                    return True
        return False

    most = sum(place(seq, set()) for seq in missing)
    assert row.missing == len(missing)
    assert sum(row.explained.values()) == most
    for n, (_, more) in enumerate(losses):
        assert row.explained.get(f"r{n}", 0) <= more


def test_a_loss_that_goes_on_is_counted_once() -> None:
    """An entry that begins where an earlier one did takes its place, also when the earlier one comes again."""
    row = proved([1, 20], entry(2, 19, 4), entry(2, 19, 9), entry(2, 19, 4))
    assert (row.explained, row.unknown) == ({"full": 9}, 9)


def test_a_backlog_may_come_after_what_is_new() -> None:
    """Live and historical readings are each in order when their own are, however they are mixed."""
    proof = Proof()
    for seq, historical in ((9, False), (1, True), (10, False), (2, True), (11, False), (3, True)):
        proof.take(TOPIC, reading(seq, historical=historical))
    (row,) = proof.report().rows
    assert row.reordered == 0
    proof.take(TOPIC, reading(5, historical=True))
    proof.take(TOPIC, reading(4, historical=True))
    (row,) = proof.report().rows
    assert (row.reordered, row.unexplained) == (1, ((6, 8),))


def test_a_crash_explains_what_is_missing_after_it() -> None:
    """An entry whose count is not known explains all from its first on, and nothing before."""
    row = proved([1, 3, 9], entry(5, 5, 0, reason="crash-window"))
    assert (row.explained, row.unexplained) == ({"crash-window": 4}, ((2, 2), (4, 4)))


def test_what_could_not_be_named_explains_as_many_of_the_gateway() -> None:
    """A damaged block has no names: its count is shared by all streams of that gateway and epoch, and no others."""
    proof = Proof()
    proof.explain(entry(0, 0, 5, topic="sensors/gw/+", stream="?", reason="disk-error"))
    for topic in ("sensors/gw/boiler", "sensors/gw/meter", "sensors/other/boiler", "sensors/gw/x/boiler"):
        for seq in (1, 5):
            proof.take(topic, reading(seq))
    unknown = {row.topic: row.unknown for row in proof.report().rows}
    assert unknown == {
        "sensors/gw/boiler": 0,
        "sensors/gw/meter": 1,
        "sensors/gw/x/boiler": 3,
        "sensors/other/boiler": 3,
    }


@pytest.mark.parametrize(
    "other", [entry(2, 3, topic=TOPIC + "2"), entry(2, 3, stream_epoch=2), {**entry(2, 3), "topic": None}]
)
def test_what_concerns_something_else_explains_nothing(other: dict[str, Any]) -> None:
    """Another stream, another epoch, and another destination, whose entries come without a topic."""
    assert proved([1, 4], other).unexplained == ((2, 3),)


def test_the_first_readings_count_when_the_receiver_was_there() -> None:
    """With `whole`, what is missing from 1 on, and what the ledger names beyond the last, is missing."""
    row = proved([3, 4], entry(6, 7), whole=True)
    assert (row.first, row.last, row.unexplained, row.explained) == (1, 7, ((1, 2), (5, 5)), {"full": 2})


@given(st.binary(max_size=40) | st.just(b'{"seq": true, "epoch": 1}') | st.just(b'[{"seq": 0, "epoch": 1}]'))
def test_what_is_no_reading_is_only_counted(payload: bytes) -> None:
    """Whatever is published beside readings changes no row and proves nothing."""
    proof = Proof()
    proof.take("sensors/gw/status", payload)
    report = proof.report()
    assert (report.rows, report.others, report.proved) == ((), 1, False)


@pytest.mark.parametrize("compression", [None, "gzip", "zstd"])
@pytest.mark.parametrize("shape", ["array", "lines"])
def test_readings_may_come_together(shape: Any, compression: Any) -> None:
    """An array of readings is as many readings; so are lines, and what is compressed."""
    proof = Proof()
    proof.take(TOPIC, Packing(shape, compression).pack([reading(seq) for seq in (1, 2, 4)]))
    (row,) = proof.report().rows
    assert (row.received, row.unexplained, proof.received) == (3, ((3, 3),), 3)


def test_a_payload_that_would_fill_memory_is_not_readable() -> None:
    """Whoever publishes a hundred kilobytes of compressed nothing gets counted, and nothing else."""
    proof = Proof()
    proof.take(TOPIC, Packing(None, "gzip").pack([b" " * (LARGEST + 1)]))
    assert (proof.report().others, proof.received) == (1, 0)
