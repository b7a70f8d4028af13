"""Publishing from an event loop: what is accepted, what becomes of it, and what a program is told."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway import Client, ClientClosed, Delivery, NotDelivered, OutboxFull, Outcome
from tests.client.conftest import NOWHERE, Make
from tests.scripted_broker import ScriptedBroker


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("store", [False, True])
async def test_a_message_is_delivered(
    make: Make, broker: ScriptedBroker, tmp_path: Path, qos: int, store: bool
) -> None:
    """Awaiting a delivery ends with the broker's acknowledgement, at QoS 0 with the writing."""
    async with make(store=tmp_path / "store" if store else None) as client:
        delivery = await client.publish("a/b", b"payload", qos=qos, retain=True)
        async with asyncio.timeout(5):
            assert await delivery is Outcome.ACKNOWLEDGED
        delivery.result()
        await broker.wait_published(1)
    assert broker.published == [("a/b", b"payload", qos, True)]


@pytest.mark.parametrize(
    ("payload", "sent"),
    [
        (b"x", b"x"),
        (bytearray(b"x"), b"x"),
        (memoryview(b"x"), b"x"),
        ("grün", "grün".encode()),
        (None, b""),
        ("", b""),
    ],
)
async def test_every_kind_of_payload(make: Make, broker: ScriptedBroker, payload: Any, sent: bytes) -> None:
    """Bytes go as they are, text in UTF-8, None as nothing."""
    async with make() as client:
        await (await client.publish("a", payload))
    assert broker.published == [("a", sent, 1, False)]


async def test_what_is_handed_over_is_what_is_sent(make: Make, broker: ScriptedBroker) -> None:
    """What a program does with its buffer or its properties after publishing changes nothing."""
    payload, properties = bytearray(b"before"), {"content_type": "text/plain", "user_properties": [("a", "b")]}
    async with make() as client:
        delivery = await client.publish("a", payload, properties=properties)
        payload[:] = b"after!"
        properties.clear()
        await delivery
    (packet,) = broker.publishes
    assert packet.payload == b"before"
    assert packet.properties == {"content_type": "text/plain", "user_properties": [("a", "b")]}


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"topic": "a/+"}, ValueError, "topic 'a/[+]'.* wildcard"),
        ({"topic": ""}, ValueError, "topic '': .* empty"),
        ({"topic": "a\0"}, ValueError, "NUL"),
        ({"topic": "a\ud800"}, ValueError, "UTF-8"),
        ({"topic": "x" * 65_536}, ValueError, "topic .* 65535 bytes, not 65536"),
        ({"topic": b"a"}, TypeError, "topic must be text, not bytes"),
        ({"payload": 5}, TypeError, "payload must be bytes, bytearray, memoryview, text or None, not int"),
        ({"payload": "\ud800"}, ValueError, "payload cannot be written in UTF-8"),
        ({"qos": 3}, ValueError, "qos must be a whole number from 0 to 2, not 3"),
        ({"qos": True}, TypeError, "qos must be a whole number from 0 to 2, not True"),
        ({"retain": 1}, TypeError, "retain must be True or False, not 1"),
        ({"properties": [1]}, TypeError, "properties must be a mapping"),
        ({"properties": {"topic_alias": 1}}, ValueError, "topic_alias cannot be set by the sender"),
        ({"properties": {"subscription_identifiers": [1]}}, ValueError, "subscription_identifiers cannot be set"),
        ({"properties": {"colour": "red"}}, ValueError, "properties: .*colour"),
        ({"properties": {"receive_maximum": 5}}, ValueError, "properties: .*receive_maximum"),
        ({"properties": {"content_type": 5}}, TypeError, "properties: content_type must be text, not 5"),
        ({"properties": {"message_expiry_interval": -1}}, ValueError, "properties: .*message_expiry_interval"),
        ({"properties": {"correlation_data": "x"}}, TypeError, "properties: correlation_data must be bytes, not 'x'"),
        ({"properties": {"user_properties": {"a": "b"}}}, TypeError, "user_properties"),
    ],
)
async def test_what_mqtt_cannot_carry_is_refused(
    make: Make, broker: ScriptedBroker, arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    """A wrong message is told to whoever publishes it, and nothing is sent of it."""
    async with make() as client:
        with pytest.raises(error, match=words):
            client.publish_nowait(**{"topic": "a", **arguments})
        with pytest.raises(error, match=words):
            await client.publish(**{"topic": "a", **arguments})
        assert client.status.waiting == 0
    assert broker.published == []


async def test_publishing_before_the_first_link(make: Make, broker: ScriptedBroker) -> None:
    """Entering waits for no broker, and what is published before there is one goes out in order once there is."""
    await broker.stop()
    async with make() as client:
        deliveries = [await client.publish("a", str(n), qos=n % 3) for n in range(100)]
        assert {delivery.state for delivery in deliveries} == {Outcome.PENDING}
        assert client.status.broker is None
        assert client.status.waiting == 100
        await broker.start()
        await client.connected(5)
        assert await client.flush(5)
        await broker.wait_published(100)
    assert [int(payload) for _, payload, _, _ in broker.published] == list(range(100))
    assert {delivery.state for delivery in deliveries} == {Outcome.ACKNOWLEDGED}


async def test_cancelling_changes_nothing_for_the_message(make: Make, broker: ScriptedBroker) -> None:
    """A timeout around an await is about the program's patience, not about the message."""
    broker.hold_acks = True
    async with make(ack_timeout=30) as client:
        delivery = await client.publish("a", b"1")
        await broker.until(lambda: broker.held == 1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await delivery
        assert delivery.state == "pending"
        broker.release()
        async with asyncio.timeout(5):
            assert await delivery == "acknowledged"
    assert len(broker.published) == 1


async def test_a_message_that_no_broker_takes_is_rejected(make: Make, broker: ScriptedBroker) -> None:
    """A refusal that concerns one message for ever is its end, with the reason; the others go on."""
    broker.puback_reason = lambda packet: 0x99 if packet.payload == b"bad" else 0
    told: list[Delivery] = []
    async with make(on_delivered=told.append) as client:
        bad, good = await client.publish("a", b"bad"), await client.publish("a", b"good")
        async with asyncio.timeout(5):
            assert await bad is Outcome.REJECTED
            assert await good is Outcome.ACKNOWLEDGED
        with pytest.raises(NotDelivered, match="rejected"):
            bad.result()
        assert (client.status.delivered, client.status.quarantined, client.status.waiting) == (1, 1, 0)
    assert sorted(one.id or 0 for one in told) == [bad.id, good.id]


async def test_a_message_that_is_too_large_for_the_broker_is_rejected(make: Make, broker: ScriptedBroker) -> None:
    """What the broker says it cannot take is not sent, and does not hold up what is behind it."""
    broker.maximum_packet_size = 100
    async with make() as client:
        large, small = await client.publish("a", b"x" * 200), await client.publish("a", b"x")
        async with asyncio.timeout(5):
            assert (await large, await small) == ("rejected", "acknowledged")
        assert large.reason
    assert [len(payload) for _, payload, _, _ in broker.published] == [1]


async def test_poison_is_rejected_and_the_rest_flows(make: Make, broker: ScriptedBroker) -> None:
    """A message on which the broker hangs up ends in quarantine; every other one arrives."""
    broker.hang_up_on = lambda packet: packet.payload == b"7"
    async with make() as client:
        deliveries = [await client.publish("a", str(n)) for n in range(20)]
        async with asyncio.timeout(20):
            outcomes = [await delivery for delivery in deliveries]
        assert outcomes == ["acknowledged"] * 7 + ["rejected"] + ["acknowledged"] * 12
        assert deliveries[7].reason == "poison"
        (aside,) = await client.quarantined()
        assert (aside.reading.id, aside.reason) == (deliveries[7].id, "poison")
        broker.hang_up_on = lambda packet: False
        assert await client.retry([aside.reading.id]) == 1
        assert await client.flush(5)
        assert (client.status.delivered, client.status.quarantined) == (20, 0)
    assert broker.published[-1][1] == b"7"


async def test_a_full_client_refuses(make: Make) -> None:
    """Beyond a bound the program is told at once, with the bound, and nothing that was accepted is touched."""
    async with make(NOWHERE, max_count=3) as client:
        kept = [await client.publish("a", b"x") for _ in range(3)]
        with pytest.raises(OutboxFull, match="3 wait, and max_count is 3"):
            await client.publish("a", b"x")
        with pytest.raises(OutboxFull):
            client.publish_nowait("a", b"x")
        assert client.status.waiting == 3
        assert {delivery.state for delivery in kept} == {"pending"}
        await client.close(0)


async def test_bytes_are_bounded_as_well(make: Make) -> None:
    """A few large messages are as much as many small ones."""
    async with make(NOWHERE, max_bytes=1024) as client:
        await client.publish("a", b"x" * 1000)
        with pytest.raises(OutboxFull, match="1024"):
            await client.publish("a", b"x" * 100)
        await client.close(0)


@pytest.mark.parametrize(("policy", "kept"), [("drop-oldest", [2, 3, 4]), ("drop-newest", [0, 1, 2])])
async def test_a_full_client_drops_what_it_was_told_to(make: Make, policy: str, kept: list[int]) -> None:
    """Each message that is given up ends as dropped, with the reason, once; and stands in the ledger."""
    told: list[Delivery] = []
    async with make(NOWHERE, max_count=3, when_full=policy, on_delivered=told.append) as client:
        deliveries = [await client.publish("a", str(n)) for n in range(5)]
        lost = [n for n in range(5) if n not in kept]
        async with asyncio.timeout(5):
            assert [await deliveries[n] for n in lost] == ["dropped", "dropped"]
        assert {deliveries[n].reason for n in lost} == {"full"}
        assert told == [deliveries[n] for n in lost]
        assert [deliveries[n].state for n in kept] == ["pending"] * 3
        assert sum(loss.count for loss in await client.ledger()) == client.status.lost == 2
        await client.close(0)


async def test_what_gets_too_old_is_dropped(make: Make) -> None:
    """Beyond `max_age` a message is worth nothing any more, and whoever waits for it is told."""
    async with make(NOWHERE, max_age=0.01) as client:
        delivery = await client.publish("a", b"x")
        async with asyncio.timeout(5):
            assert await delivery == "dropped"
        assert delivery.reason == "too-old"


async def test_exactly_one_end_for_each_over_lost_links(make: Make, broker: ScriptedBroker) -> None:
    """However often the link is lost, each message ends once."""
    told: list[Delivery] = []
    async with make(on_delivered=told.append, window=10) as client:
        deliveries = []
        for n in range(300):
            deliveries.append(await client.publish("a", str(n), qos=n % 2 + 1))
            if n % 60 == 59:
                await broker.until(lambda: bool(broker.published))
                broker.drop()
                await asyncio.sleep(0)
        assert await client.flush(10)
        assert len(told) == len({one.id for one in told}) == 300
        assert {delivery.state for delivery in deliveries} == {"acknowledged"}
    assert {int(payload) for _, payload, _, _ in broker.published} == set(range(300))


async def test_stored_means_in_the_store(make: Make, tmp_path: Path) -> None:
    """Once a stored publish has returned, another run finds the message, whatever happened to this one."""
    store = tmp_path / "store"
    client = make(NOWHERE, store=store, commit_interval=60)
    async with client:
        await client.publish("a", b"1", stored=True)
        copy = tmp_path / "copy"
        for file in tmp_path.glob("store*"):
            (tmp_path / file.name.replace("store", "copy")).write_bytes(file.read_bytes())
        await client.close(0)
    async with make(NOWHERE, store=copy) as other:
        assert other.status.waiting == 1
        await other.close(0)


async def test_what_waits_is_kept_for_the_next_run(make: Make, broker: ScriptedBroker, tmp_path: Path) -> None:
    """A client with a store that is closed without a broker forgets nothing; its deliveries say where it went."""
    store = tmp_path / "store"
    async with make(NOWHERE, store=store) as first:
        delivery = await first.publish("a", b"1", qos=2)
        waiting = asyncio.ensure_future(_outcome(delivery))
        await asyncio.sleep(0)
        await first.close(0)
        assert await waiting == "pending"
        assert "in the store for the next run" in (delivery.reason or "")
    told: list[Delivery] = []
    async with make(store=store, on_delivered=told.append) as second:
        assert await second.flush(5)
    assert broker.published == [("a", b"1", 2, False)]
    assert [(one.id, one.state) for one in told] == [(delivery.id, "acknowledged")]


async def test_without_a_store_what_waits_at_the_end_is_dropped(make: Make) -> None:
    """Nobody waits for ever: what cannot be delivered in time ends as dropped, "closed"."""
    async with make(NOWHERE) as client:
        delivery = await client.publish("a", b"1")
        await client.close(0.01)
        assert (await delivery, delivery.reason) == ("dropped", "closed")


async def test_leaving_delivers_what_can_be(make: Make, broker: ScriptedBroker) -> None:
    """The end of the block waits for what is on its way, also when a program has failed."""
    deliveries: list[Delivery] = []

    async def program() -> None:
        async with make() as client:
            deliveries.extend([await client.publish("a", str(n)) for n in range(50)])
            raise RuntimeError("of the program")

    with pytest.raises(RuntimeError, match="of the program"):
        await program()
    assert {delivery.state for delivery in deliveries} == {"acknowledged"}
    assert len(broker.disconnects) == 1


async def test_flush_says_whether_all_is_gone(make: Make, broker: ScriptedBroker) -> None:
    """True once nothing waits, False after the timeout; with nothing to do it returns at once."""
    broker.hold_acks = True
    async with make(ack_timeout=30) as client:
        assert await client.flush(0)
        await client.publish("a")
        assert not await client.flush(0.01)
        flushing = asyncio.ensure_future(client.flush())
        await broker.until(lambda: broker.held == 1)
        broker.release()
        async with asyncio.timeout(5):
            assert await flushing


async def test_a_client_that_is_not_open_says_so(make: Make) -> None:
    """Before and after, each call is an error that says what to do, and closing again is none."""
    client = make()
    with pytest.raises(ClientClosed, match="async with"):
        client.publish_nowait("a")
    async with client:
        pass
    await client.close()
    for call in (client.publish("a"), client.flush(), client.connected(), client.subscribe("a"), client.ledger()):
        with pytest.raises(ClientClosed, match="closed"):
            await call
    with pytest.raises(ClientClosed):
        client.messages("a")
    with pytest.raises(ClientClosed):
        client.events()
    with pytest.raises(ClientClosed, match="make a new one"):
        await client.__aenter__()
    assert client.status.broker is None


async def test_a_program_that_only_publishes_still_sends(make: Make, broker: ScriptedBroker) -> None:
    """A loop of publishes lets the event loop send: memory does not grow with what is behind."""
    async with make(max_count=2000) as client:
        await client.connected(5)
        for n in range(20_000):
            await client.publish("a", b"%d" % n)
        assert await client.flush(10)
    assert len(broker.published) == 20_000


async def test_a_burst_of_100_000_waits_and_drains(make: Make, broker: ScriptedBroker) -> None:
    """What waits costs memory while it waits, and none afterwards."""
    await broker.stop()
    async with make(max_bytes=None) as client:
        for n in range(100_000):
            client.publish_nowait("a", b"%d" % n)
        assert client.status.waiting == 100_000
        await broker.start()
        assert await client.flush(60)
        assert len(client._intake.deliveries) == 0
        assert client._outbox.tail == 0
    assert [int(payload) for _, payload, _, _ in broker.published] == list(range(100_000))


async def _outcome(delivery: Delivery) -> Outcome:
    return await delivery


def test_a_client_is_only_told_what_it_is_when_made() -> None:
    """Making a client does nothing: no file, no socket, no loop."""
    assert Client("mqtt://localhost").brokers == "mqtt://localhost"


async def test_qos_2_is_refused_where_messages_are_sent_before_they_are_stored(make: Make, tmp_path: Path) -> None:
    """Exactly once needs a store that knows at least what the broker knows; without a store there is no later run."""
    async with make(store=tmp_path / "store", commit_interval=1.0) as client:
        with pytest.raises(ValueError, match="qos 2 needs commit_interval=0"):
            await client.publish("a", b"x", qos=2)
        await client.publish("a", b"x", qos=1)
    async with make(commit_interval=1.0) as client:
        await client.publish("a", b"x", qos=2)
