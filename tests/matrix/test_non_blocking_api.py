"""Non-blocking API: the client in an event loop, with a real broker and an independent peer."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway import Client, Outcome
from tests.interop.peer import Peer
from tests.interop.ways import Way
from tests.system.harness import Mosquitto

pytestmark = pytest.mark.system


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("protocol", ["3.1", "3.1.1", "5"])
async def test_what_is_published_arrives_and_is_acknowledged(
    mosquitto: Mosquitto, folder: Path, protocol: str, durable: bool
) -> None:
    """`await client.publish` accepts, `await delivery` tells the end, and the peer has everything once, in order."""
    async with Peer(Way("mqtt", mosquitto.port)) as peer:
        await peer.subscribe("t/#", 2)
        store = folder / "store" if durable else None
        async with Client([mosquitto.url], store, protocol=protocol) as client:
            deliveries = [await client.publish(f"t/{n}", f"payload {n}", qos=n % 3) for n in range(30)]
            assert [await delivery for delivery in deliveries] == [Outcome.ACKNOWLEDGED] * 30
        heard = [await peer.next() for _ in range(30)]
    for qos in range(3):  # the order of messages holds within one QoS
        expected = [(f"t/{n}", f"payload {n}".encode()) for n in range(qos, 30, 3)]
        assert [one[:2] for one in heard if one.qos == qos] == expected


@pytest.mark.parametrize("protocol", ["3.1", "3.1.1", "5"])
async def test_what_the_peer_publishes_is_iterated_over_once(mosquitto: Mosquitto, protocol: str) -> None:
    """Iterators with overlapping filters and a callback get each message once each, whatever the broker sends."""
    called: list[bytes] = []
    async with (
        Client(mosquitto.url, protocol=protocol) as client,
        client.messages("a/+/b", qos=1) as one,
        client.messages("a/#", qos=2) as other,
        Peer(Way("mqtt", mosquitto.port)) as peer,
    ):
        await client.subscribe("a/x/b", lambda message: called.append(message.payload))
        for n in range(20):
            await peer.publish("a/x/b", b"%d" % n, n % 3)
        expected = [b"%d" % n for n in range(20)]
        async with asyncio.timeout(10):
            assert [(await anext(one)).payload for _ in range(20)] == expected
            assert [(await anext(other)).payload for _ in range(20)] == expected
        await peer.publish("a/end", b"end", 1)
        async with asyncio.timeout(10):
            assert (await anext(other)).payload == b"end"  # nothing came twice
    assert called == expected


async def test_a_plain_loop_is_enough(mosquitto: Mosquitto) -> None:
    """`async for message in client.messages(...)` subscribes and hands over; leaving the loop is the end of it."""
    topics = []
    async with Client(mosquitto.url) as client:
        for n in range(3):
            await (await client.publish(f"a/{n}/b", b"kept", retain=True))
        async with asyncio.timeout(10):
            async for message in client.messages("a/+/b", qos=1):
                topics.append(message.topic)
                if len(topics) == 3:
                    break
    assert sorted(topics) == ["a/0/b", "a/1/b", "a/2/b"]


async def test_properties_travel_both_ways(mosquitto: Mosquitto) -> None:
    """All that MQTT 5 lets a message carry is there on the other side, in both directions."""
    said = {
        "payload_format_indicator": 1,
        "content_type": "text/plain",
        "response_topic": "answers",
        "correlation_data": b"\0\xff",
        "user_properties": [("a", "1"), ("a", "2")],
    }
    async with Peer(Way("mqtt", mosquitto.port)) as peer, Client(mosquitto.url, protocol="5") as client:
        await peer.subscribe("out", 1)
        await client.publish("out", "text", properties=said)
        assert (await peer.next()).properties == said
        async with client.messages("in") as messages:
            await peer.publish("in", b"text", 1, said)
            async with asyncio.timeout(10):
                message = await anext(messages)
    assert {name: message.properties.get(name) for name in said} == said


async def test_cancelling_an_await_leaves_a_durable_message_alone(mosquitto: Mosquitto, folder: Path) -> None:
    """A message whose publisher gave up waiting while the broker was frozen arrives once it is back, once."""
    async with (
        Peer(Way("mqtt", mosquitto.port)) as peer,
        Client(mosquitto.url, folder / "store", ack_timeout=30) as client,
    ):
        await peer.subscribe("t", 1)
        await client.connected(10)
        mosquitto.freeze()
        delivery = await client.publish("t", b"1", stored=True)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await delivery
        mosquitto.thaw()
        async with asyncio.timeout(10):
            assert await delivery == "acknowledged"
        assert (await peer.next()).payload == b"1"
