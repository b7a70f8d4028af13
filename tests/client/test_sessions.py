"""Sessions that outlive a link and a run: what comes in at QoS 2 comes once, and what was given up stays away."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway import Message, SubscriptionRefused
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


async def test_a_session_is_not_resumed_when_something_that_the_broker_remembers_was_given_up(
    make: Make, broker: ScriptedBroker, tmp_path: Path
) -> None:
    """Its packet identifier would stay taken at the broker for ever, and in the end there would be none left."""
    broker.keep_sessions = True
    broker.stop_acks = True
    options = {"store": tmp_path / "store", "client_id": "me", "session_expiry": 100, "ack_timeout": 60.0}
    async with make(**options) as client:
        await client.publish("a", b"old", qos=2)
        await broker.until(lambda: len(broker.publishes) == 1)
        await client.close(0.1)
    await broker.stop()
    broker.stop_acks = False
    async with make(**options, max_age=0.05) as client:
        async with asyncio.timeout(10):
            while not client.status.lost:
                await asyncio.sleep(0.01)  # age has no event
        await broker.start()
        assert not (await client.connected(5)).session_present
        await (await client.publish("a", b"new", qos=2))
    assert [connect.clean for connect in broker.connects] == [False, True]


async def test_a_broker_that_cannot_say_its_limit_gets_few_messages_of_qos_2_at_once(
    make: Make, broker: ScriptedBroker
) -> None:
    """Before MQTT 5; mosquitto takes more than its max_inflight_messages, acknowledges them, and loses them."""
    broker.withhold = {Pubrec}
    async with make(protocol="3.1.1", ack_timeout=60.0) as client:
        deliveries = [client.publish_nowait("a", b"%d" % number, qos=2) for number in range(50)]
        quick = client.publish_nowait("a", b"behind", qos=1)
        await broker.until(lambda: len(broker.publishes) == 20)
        broker.withhold.clear()
        broker.release()
        async with asyncio.timeout(5):
            for delivery in [*deliveries, quick]:
                await delivery
    payloads = [packet.payload for packet in broker.publishes]
    assert payloads == [*(b"%d" % number for number in range(50)), b"behind"]


async def test_a_refused_subscription_is_told_in_the_brokers_own_words(make: Make, broker: ScriptedBroker) -> None:
    """MQTT 5: the reason string of a SUBACK says what the code does not; on one line, whatever it holds."""
    broker.granted = lambda name, qos: 0x87
    broker.suback_properties = {"reason_string": "ask\nthe office"}
    async with make(protocol="5") as client:
        with pytest.raises(SubscriptionRefused, match=r"not authorised \(0x87\): ask the office$"):
            await client.subscribe("a/#")
