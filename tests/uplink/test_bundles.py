"""Readings that go together: in order, each once, and each found again by the message that it went in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway.announce import WithLedger
from gateway.formats import FORMATS
from gateway.formats.packing import Packing, unpack
from gateway.mqtt import Properties
from gateway.mqtt.codec import encode
from gateway.mqtt.packets import Publish
from gateway.outbox import Feed, Outbox
from gateway.reading import LEDGER, Reading
from gateway.uplink import Broker, Readings, Uplink
from gateway.uplink.bundles import Bundle, Bundles, bundled
from tests.scripted_broker import ScriptedBroker
from tests.uplink.test_uplink import Rig, endpoint

streams = st.lists(st.sampled_from(["a", "b", "c", LEDGER]), max_size=60)


def readings(names: list[str]) -> list[Reading]:
    return [Reading(number, name, number, 0.0, None, {}) for number, name in enumerate(names, 1)]


@given(streams, st.integers(1, 7), st.sets(st.integers(1, 60)))
def test_every_reading_is_in_one_bundle_in_the_order_of_its_stream(
    names: list[str], size: int, alone: set[int]
) -> None:
    """Nothing is doubled or overtaken, no bundle is too large or mixed, and the ledger's entries stay as they are."""
    given_ones = readings(names)
    entries = bundled(given_ones, size, alone)
    out = [one for entry in entries for one in (entry.readings if isinstance(entry, Bundle) else [entry])]
    for name in set(names):
        assert [one for one in out if one.stream == name] == [one for one in given_ones if one.stream == name]
    assert len(out) == len(given_ones)
    assert [entry.id for entry in entries] == sorted(entry.id for entry in entries)
    for entry in entries:
        assert isinstance(entry, Bundle) == (entry.stream != LEDGER)
        if isinstance(entry, Bundle):
            assert len(entry.readings) <= size
            assert {one.stream for one in entry.readings} == {entry.stream}
            assert entry.id == entry.readings[0].id
            assert len(entry.readings) == 1 or not alone.intersection(one.id for one in entry.readings)


@asynccontextmanager
async def feed_of(count: int, every: int = 3) -> AsyncIterator[tuple[Outbox, Feed]]:
    """Give an outbox with so many readings of `every` streams, one after the other."""
    async with Outbox(None, ["cloud"]) as outbox:
        for number in range(count):
            outbox.put(f"s{number % every}", {"n": number})
        yield outbox, outbox.follow("cloud")


async def test_interleaved_streams_make_full_bundles() -> None:
    """What comes one stream after the other is taken in lumps, so that a message is as full as it may be."""
    async with feed_of(90) as (_, feed):
        bundles = Bundles(feed, 10, 1000)
        entries = []
        while (entry := bundles.next(None, None)) is not None:
            entries.append(entry)
        assert [len(entry.readings) for entry in entries if isinstance(entry, Bundle)] == [10] * 9
        assert bundles.count == 90
        feed.acknowledged(bundles.ended([entry.id for entry in entries]))
        assert bundles.count == 0
        assert feed.account.delivered == 90


async def test_no_more_readings_are_taken_than_the_window_has() -> None:
    """A window counts readings, whatever they go in; what is next is taken when half of it is free again."""
    async with feed_of(90, every=1) as (_, feed):
        bundles = Bundles(feed, 10, 40)
        sent = list(iter(lambda: bundles.next(None, None), None))
        assert [entry.id & 0xFF for entry in sent] == [1, 11, 21, 31]
        feed.acknowledged(bundles.ended([sent[0].id]))
        assert bundles.next(None, None) is None
        feed.acknowledged(bundles.ended([sent[1].id]))
        assert bundles.next(None, None) is not None
        assert bundles.count == 40


async def test_live_readings_do_not_wait_for_the_lump_of_a_backlog() -> None:
    """A lump of a backlog that was taken and not sent yet lets what is live go first."""
    async with feed_of(90) as (outbox, feed):
        feed.begin_live()
        bundles = Bundles(feed, 10, 1000)
        first = bundles.next(None, 60)
        assert isinstance(first, Bundle)
        assert first.readings[0].values == {"n": 0}
        outbox.put("s0", {"n": "live"})
        second, third = bundles.next(None, 0), bundles.next(None, 0)
        assert isinstance(second, Bundle)
        assert [one.values for one in second.readings] == [{"n": "live"}]
        assert isinstance(third, Bundle)
        assert third.stream == "s1"


async def test_what_is_cleared_is_all_that_was_not_sent() -> None:
    """When a link ends, what is in flight and what only waited there are told apart, and together are everything."""
    async with feed_of(90) as (_, feed):
        bundles = Bundles(feed, 10, 1000)
        sent = bundles.next(None, None)
        assert sent is not None
        waiting = bundles.clear()
        assert len(waiting) == 80
        assert sorted(waiting + bundles.of([sent.id])) == [feed.horizon + n for n in range(90)]
        feed.left(waiting, sent=False)
        assert len(feed.take(200)) == 80


async def test_a_bundle_that_is_too_large_is_halved_before_anything_else_goes() -> None:
    """Down to one reading, which is not for the bundles to judge."""
    async with feed_of(8, every=1) as (_, feed):
        bundles = Bundles(feed, 4, 1000)
        found = []
        while (entry := bundles.next(None, None)) is not None:
            if bundles.split(entry.id):
                continue
            assert isinstance(entry, Bundle)
            found += entry.readings
        assert [one.values for one in found] == [{"n": number} for number in range(8)]
        assert bundles.count == 8


# ---- over a link


@asynccontextmanager
async def rig(folder: Path, *brokers: Broker, packing: Packing, batch: int = 10, **options: Any) -> AsyncIterator[Rig]:
    async with Outbox(folder / "o.db", ["cloud"], commit_interval=0.2) as outbox:
        route = Readings(lambda stream: f"base/gw/{stream}", FORMATS["json"], options.pop("qos", 1), packing)
        uplink = Uplink(
            "cloud",
            brokers,
            WithLedger(route, "cloud", "base/gw/ledger"),
            outbox.follow("cloud"),
            batch=batch,
            reconnect_min=0.02,
            reconnect_max=0.2,
            **options,
        )
        async with uplink:
            yield Rig(outbox, uplink)


def came(broker: ScriptedBroker) -> list[list[int]]:
    """The numbers in each message."""
    return [
        [one["n"] for one in unpack(payload)] for topic, payload, _, _ in broker.published if topic == "base/gw/boiler"
    ]


def numbers(broker: ScriptedBroker) -> list[int]:
    return [number for message in came(broker) for number in message]


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("live_first", [False, True])
async def test_a_backlog_goes_in_full_batches_and_every_reading_arrives(
    tmp_path: Path, qos: int, live_first: bool
) -> None:
    """Up to `batch` readings in a message, in order, and the account has each of them."""
    async with ScriptedBroker() as broker:
        async with rig(tmp_path, endpoint(broker), packing=Packing("array"), qos=qos, live_first=live_first) as it:
            it.put(200)
            await it.empty()
            assert it.uplink.account.delivered == 200
        assert numbers(broker) == list(range(1, 201))
        assert max(map(len, came(broker))) == 10
        assert len(came(broker)) < 60


async def test_one_reading_is_an_array_too(tmp_path: Path) -> None:
    """A receiver has one shape to expect; MQTT 5 names it."""
    async with ScriptedBroker() as broker, rig(tmp_path, endpoint(broker), packing=Packing("array")) as it:
        it.put(1)
        await it.empty()
        (message,) = [one for one in broker.publishes if one.topic == "base/gw/boiler"]
        assert [one["n"] for one in orjson.loads(message.payload)] == [1]
        assert message.properties == {"content_type": "application/json"}


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
async def test_lines_compressed(tmp_path: Path, compression: Any) -> None:
    """What is compressed says so in MQTT 5, and begins so in any version."""
    async with ScriptedBroker() as broker:
        async with rig(tmp_path, endpoint(broker), packing=Packing("lines", compression)) as it:
            it.put(100)
            await it.empty()
        assert numbers(broker) == list(range(1, 101))
        messages = [one for one in broker.publishes if one.topic == "base/gw/boiler"]
        said = {"content_type": "application/x-ndjson", "user_properties": [("content-encoding", compression)]}
        assert all(one.properties == said for one in messages)
        assert all(one.payload[:2] in (b"\x1f\x8b", b"\x28\xb5") for one in messages)


async def test_the_ledger_is_never_batched_nor_compressed(tmp_path: Path) -> None:
    """Whoever reads it needs to know nothing of how readings are sent."""
    async with ScriptedBroker() as broker:
        async with rig(tmp_path, endpoint(broker), packing=Packing("array", "gzip")) as it:
            it.outbox.put(LEDGER, {"uplink": "other"})
            it.outbox.put(LEDGER, {"uplink": "other"})
            it.put(1)
            await it.empty()
        entries = [payload for topic, payload, _, _ in broker.published if topic == "base/gw/ledger"]
        assert [orjson.loads(entry)["uplink"] for entry in entries] == ["other", "other"]
        assert len(came(broker)) == 1


async def test_a_lost_link_sends_all_of_a_batch_again(tmp_path: Path) -> None:
    """A message in flight stands for all of its readings, and so does one that was taken and not sent yet."""
    async with ScriptedBroker() as first, ScriptedBroker() as second:
        first.receive_maximum = 2
        first.hold_acks = True
        async with rig(tmp_path, endpoint(first, ack_timeout=5.0), endpoint(second), packing=Packing("array")) as it:
            it.put(100)
            await first.until(lambda: len(came(first)) == 2)
            await first.stop()
            await it.empty()
            assert it.uplink.account.delivered == 100
        assert sorted(numbers(second)) == list(range(1, 101))


async def test_a_batch_larger_than_the_broker_takes_is_split(tmp_path: Path) -> None:
    """Nothing is set aside that would fit alone; what does not fit alone is, and only that."""
    async with ScriptedBroker() as broker:
        broker.maximum_packet_size = 300
        async with rig(tmp_path, endpoint(broker), packing=Packing("array")) as it:
            it.put(20)
            it.outbox.put("boiler", {"n": 21, "long": "x" * 300})
            it.put(10)
            await it.empty()
            assert (it.uplink.account.delivered, it.uplink.account.quarantined) == (30, 1)
        assert numbers(broker) == [*range(1, 21), *range(22, 32)]
        assert max(map(len, came(broker))) > 1
        assert max(len(one.payload) for one in broker.publishes) < 300


@pytest.mark.parametrize(("size", "aside"), [(60, 3), (90, 3), (105, 3), (140, 0)])
async def test_what_mqtt_5_says_of_a_payload_counts_as_well(tmp_path: Path, size: int, aside: int) -> None:
    """A packet that is too large only with its properties is not sent either, but set aside with the reason."""
    async with ScriptedBroker() as broker:
        broker.maximum_packet_size = size
        async with rig(tmp_path, endpoint(broker), packing=Packing("array", "gzip")) as it:
            it.put(3)
            await it.empty()
            assert (it.uplink.account.delivered, it.uplink.account.quarantined) == (3 - aside, aside)
            assert [one.reason.partition(":")[0] for one in await it.outbox.quarantined()] == ["too-big"] * aside
        assert len(broker.connects) == 1
        assert all(broker_packet(one) <= size for one in broker.publishes)


def broker_packet(publish: Publish) -> int:
    return len(encode(publish, 5))


async def test_a_batch_that_a_broker_refuses_is_taken_apart(tmp_path: Path) -> None:
    """Of a batch that a broker will never take, only the reading to blame is set aside."""

    def bad(packet: Publish) -> int:
        return 0x99 if b'"n":7,' in packet.payload.replace(b"}", b",") else 0

    async with ScriptedBroker() as broker:
        broker.puback_reason = bad
        async with rig(tmp_path, endpoint(broker), packing=Packing("array")) as it:
            it.put(30)
            await it.empty()
            assert (it.uplink.account.delivered, it.uplink.account.quarantined) == (29, 1)


async def test_a_poisonous_batch_is_narrowed_down_to_one_reading(tmp_path: Path) -> None:
    """A broker hangs up on a batch: three losses later the reading that it is, is set aside, and the rest flows."""

    def poison(packet: Publish) -> bool:
        return packet.topic == "base/gw/boiler" and any(one["n"] == 33 for one in unpack(packet.payload))

    async with ScriptedBroker() as broker:
        broker.hang_up_on = poison
        with capture_logs() as logs:
            async with rig(tmp_path, endpoint(broker), packing=Packing("array"), live_first=True) as it:
                it.put(100)
                await it.until(lambda: it.uplink.account.quarantined == 1, 15.0)
                it.put(100)
                await it.empty()
                assert (it.uplink.account.delivered, it.uplink.account.quarantined) == (199, 1)
        assert sum("lost" in entry["event"] for entry in logs) == 3
        assert set(range(1, 201)) - set(numbers(broker)) == {33}


async def test_an_older_version_gets_the_same_without_properties(tmp_path: Path) -> None:
    """MQTT 3.1.1 has no content type: receivers know by what is in it."""
    async with ScriptedBroker() as broker:
        broker.levels = (4,)
        async with rig(tmp_path, endpoint(broker, protocol="3.1.1"), packing=Packing("array", "gzip")) as it:
            it.put(20)
            await it.empty()
        assert numbers(broker) == list(range(1, 21))
        assert all(one.properties == Properties() for one in broker.publishes)
