"""Sessions that outlive a link and a run: what comes in at QoS 2 comes once, and what was given up stays away."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway import Message
from gateway.mqtt.packets import Publish, Pubrec, Pubrel
from tests.client.conftest import Make
from tests.scripted_broker import ScriptedBroker


async def test_a_message_at_qos_2_is_delivered_once_over_links_and_runs(
    make: Make, broker: ScriptedBroker, tmp_path: Path
) -> None:
    """A broker that missed our answer sends it again, marked or not, also to the next run: the program hears nothing.

    Once the broker has let go of the identifier, the same number stands for a new message, in the next run as well.
    """
    broker.keep_sessions = True
    broker.withhold = {Pubrel}  # but for those that this test sends
    heard: list[bytes] = []
    news = asyncio.Event()

    def take(message: Message) -> None:
        heard.append(message.payload)
        news.set()

    async def hear(count: int) -> None:
        async with asyncio.timeout(5):
            while len(heard) < count:
                news.clear()
                await news.wait()

    options = {"store": tmp_path / "store", "client_id": "me", "session_expiry": 100}
    async with make(**options, on_message=take) as client:
        await client.subscribe("a/#", qos=2)
        broker.send(Publish("a/b", b"one", 2, packet_id=7))
        await hear(1)
        await broker.until(lambda: Pubrec(7) in broker.answers)
    async with make(**options, on_message=take) as client:  # another run
        await client.connected(5)
        broker.send(Publish("a/b", b"one", 2, dup=True, packet_id=7))
        broker.send(Publish("a/b", b"two", 2, packet_id=8))
        await hear(2)
        broker.send(Pubrel(7))
        await broker.until(lambda: any(answer.packet_id == 7 and answer != Pubrec(7) for answer in broker.answers))
    async with make(**options, on_message=take) as client:  # and another
        await client.connected(5)
        broker.send(Publish("a/b", b"three", 2, packet_id=7))
        broker.send(Publish("a/b", b"two", 2, dup=True, packet_id=8))
        await hear(3)
    assert heard == [b"one", b"two", b"three"]


async def test_what_was_given_up_without_a_link_is_given_up_at_the_broker_too(
    make: Make, broker: ScriptedBroker
) -> None:
    """A broker that keeps the session goes on sending what nobody has told it to stop."""
    broker.keep_sessions = True
    async with make(client_id="me", clean_start=False, session_expiry=100) as client:
        await client.subscribe("a/#", lambda message: None)
        await broker.stop()
        await client.unsubscribe("a/#")
        await broker.start()
        async with asyncio.timeout(5):
            await broker.until(lambda: [packet.filters for packet in broker.unsubscribes] == [("a/#",)])
