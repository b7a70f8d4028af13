"""A client that is quick to despair, for tests of what happens then, and how they wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from gateway import Broker, Client, Connected, ConnectionLost, Reconnecting
from tests.scripted_broker import ScriptedBroker

QUICK: dict[str, Any] = {
    "client_id": "ours",
    "connect_timeout": 2.0,  # where one has to run out, a test says less
    "ack_timeout": 2.0,
    "reconnect_min": 0.01,
    "reconnect_max": 0.05,
}


def quick(*brokers: ScriptedBroker | Broker | str, **options: Any) -> Client:
    """Return a client with short timeouts and back-offs, which logs to structlog."""
    urls = [broker.url if isinstance(broker, ScriptedBroker) else broker for broker in brokers]
    return Client(urls, **{**QUICK, "logger": structlog.get_logger(), **options})


async def until(condition: Callable[[], object], seconds: float = 8.0) -> float:
    """Return the seconds until `condition()` was true. Raises TimeoutError."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)  # what is waited for has no event of its own
    return loop.time() - began


class Told:
    """What a client has told through its callbacks: `quick(broker, **told.calls)`."""

    def __init__(self) -> None:
        self.connected: list[Connected] = []
        self.lost: list[ConnectionLost] = []
        self.reconnecting: list[Reconnecting] = []

    @property
    def calls(self) -> dict[str, Callable[[Any], object]]:
        """The callbacks, as arguments for a client."""
        return {
            "on_connected": self.connected.append,
            "on_lost": self.lost.append,
            "on_reconnecting": self.reconnecting.append,
        }


def payloads(*brokers: ScriptedBroker, topic: str = "t") -> list[bytes]:
    """Return what these brokers got on one topic, in order of arrival at each."""
    return [payload for broker in brokers for name, payload, _, _ in broker.published if name == topic]


def numbers(*brokers: ScriptedBroker, topic: str = "t") -> list[int]:
    """Return the same, where each payload is a number."""
    return [int(payload) for payload in payloads(*brokers, topic=topic)]


async def publish(client: Client, which: Sequence[int], qos: int = 1, topic: str = "t") -> list[Any]:
    """Publish these numbers; return their deliveries."""
    return [await client.publish(topic, b"%d" % number, qos) for number in which]
