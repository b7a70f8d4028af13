"""The exchange that every broker has to carry: our client to paho-mqtt and back, at each QoS, byte by byte."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway import Client, Outcome
from tests.interop.peer import PATIENCE, Heard, Peer
from tests.interop.ways import Way

PAYLOADS = [
    b"",
    b"\x00",
    bytes(range(256)),
    "21,5 °C · 温度".encode(),
    b"x" * 100,  # with its topic about where the length of a packet begins to take a second byte
    bytes(range(251)) * 40,  # no more: over a WebSocket mosquitto sends about 4 KB each 100 ms
    b"the last one",
]


def client(way: Way, protocol: str, **more: Any) -> Client:
    """Return our client, which goes this way with this protocol."""
    options = {"tls": way.tls, "username": way.username, "password": way.password}
    return Client(way.url, protocol=protocol, **{**options, **more})


async def exchange(ours: Client, peer: Peer, most: int = 2) -> None:
    """Send messages both ways at QoS 0, 1 and 2, to a broker that grants a subscriber QoS `most`."""
    for qos in (0, 1, 2):
        await there(ours, peer, qos, min(qos, most))
        await back(ours, peer, qos, min(qos, most))


async def there(ours: Client, peer: Peer, qos: int, granted: int) -> None:
    """Publish, hear of each message that it is acknowledged, and have paho-mqtt receive each, in order and once."""
    topic = f"there/{qos}/ü"
    assert await peer.subscribe(topic, qos) == granted
    deliveries = [await ours.publish(topic, payload, qos) for payload in PAYLOADS]
    async with asyncio.timeout(PATIENCE):
        outcomes = [await delivery for delivery in deliveries]
    assert outcomes == [Outcome.ACKNOWLEDGED] * len(PAYLOADS)
    heard = [await peer.next() for _ in PAYLOADS]
    assert heard == [Heard(topic, payload, granted, False) for payload in PAYLOADS]


async def back(ours: Client, peer: Peer, qos: int, granted: int) -> None:
    """Have paho-mqtt publish, and receive each message in order and once."""
    topic = f"back/{qos}/ü"
    heard = []
    async with asyncio.timeout(PATIENCE), ours.messages(topic, qos) as messages:
        for payload in PAYLOADS:
            await peer.publish(topic, payload, qos)
        async for message in messages:
            heard.append(Heard(message.topic, bytes(message.payload), message.qos, message.retain))
            if len(heard) == len(PAYLOADS):
                break
    assert heard == [Heard(topic, payload, granted, False) for payload in PAYLOADS]
