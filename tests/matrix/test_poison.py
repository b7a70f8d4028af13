"""Poison: a message on which brokers hang up is found within three reconnects, and nothing else is ever blamed."""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway import Delivery, Outcome
from gateway.mqtt.packets import Publish
from gateway.mqtt.properties import Properties
from tests.matrix.quick import Told, numbers, publish, quick, until
from tests.scripted_broker import ScriptedBroker

COUNT = 60


async def outcomes(deliveries: Iterable[Delivery]) -> list[Outcome]:
    """Wait for all of these."""
    async with asyncio.timeout(10):
        return [await delivery for delivery in deliveries]


def hates(*poison: int) -> Callable[[Publish], bool]:
    """Return what makes a broker hang up on these numbers."""
    return lambda packet: int(packet.payload) in poison


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("where", ["memory", "store"])
@pytest.mark.parametrize("poison", [[0], [25], [49], [10, 40], [20, 21], [COUNT - 1]], ids=str)
async def test_the_poison_is_set_aside_and_the_rest_arrives(
    scripted: ScriptedBroker, tmp_path: Path, qos: int, where: str, poison: list[int]
) -> None:
    """First, in the middle or last of the window, one or two: three reconnects for each, and all else arrives."""
    scripted.hang_up_on = hates(*poison)
    told = Told()
    store = tmp_path / "client.db" if where == "store" else None
    async with quick(scripted, store=store, window=50, **told.calls) as client:
        deliveries = await publish(client, range(COUNT), qos)
        found = await outcomes(deliveries)
        assert [number for number, outcome in enumerate(found) if outcome is not Outcome.ACKNOWLEDGED] == poison
        for number in poison:
            assert (deliveries[number].state, deliveries[number].reason) == (Outcome.REJECTED, "poison")
        status = client.status
        assert (status.delivered, status.lost, status.quarantined) == (COUNT - len(poison), len(poison), len(poison))
        assert [int(one.reading.values.payload) for one in await client.quarantined()] == poison
        assert len(scripted.connects) - 1 <= 3 * len(poison)
        assert not any("another client" in lost.reason for lost in told.lost), "it was no rival"
    assert set(numbers(scripted)) == set(range(COUNT)) - set(poison)
    arrived = list(dict.fromkeys(numbers(scripted)))
    assert arrived == sorted(arrived)


@pytest.mark.parametrize("reason", [0x80, 0x81, 0x82, 0x90, 0x95, 0x99])
async def test_a_broker_that_says_why_it_hangs_up(scripted: ScriptedBroker, reason: int) -> None:
    """MQTT 5: DISCONNECT with a reason that may be a message's is a hang-up like any other."""

    def hang_up(packet: Publish) -> bool:
        if packet.payload == b"7":
            scripted.disconnect(reason)
        return packet.payload == b"7"

    scripted.hang_up_on = hang_up
    async with quick(scripted) as client:
        deliveries = await publish(client, range(20))
        found = await outcomes(deliveries)
    assert [number for number, outcome in enumerate(found) if outcome is Outcome.REJECTED] == [7]


@asynccontextmanager
async def strict_broker(limit: int) -> AsyncIterator[ScriptedBroker]:
    """Give a broker that hangs up above a size, without a word and without the acknowledgements of what came before.

    So does RabbitMQ above its mqtt.max_packet_size, and so does NATS above its max_payload.
    """
    async with ScriptedBroker() as broker:
        broker.levels, broker.unsupported = (4,), None

        def hang_up(packet: Publish) -> bool:
            if len(packet.payload) <= limit:
                return False
            for conversation in broker.conversations:
                conversation._said.clear()
                conversation.transport.abort()
            return True

        broker.hang_up_on = hang_up
        yield broker


@pytest.mark.parametrize("at", [0, 17, 49])
async def test_a_size_that_the_broker_does_not_tell(at: int) -> None:
    """A message above the limit is set aside, and those behind it flow, whatever acknowledgements were lost."""
    async with strict_broker(1000) as broker, quick(broker, window=50) as client:
        deliveries = [await client.publish("t", b"%01100d" % n if n == at else b"%d" % n) for n in range(COUNT)]
        found = await outcomes(deliveries)
        assert [number for number, outcome in enumerate(found) if outcome is Outcome.REJECTED] == [at]
        assert deliveries[at].reason == "poison"
        assert len(broker.connects) - 2 <= 3  # it was asked for MQTT 5 first
    assert set(numbers(broker)) == set(range(COUNT)) - {at}


async def test_poison_at_every_broker(scripted: ScriptedBroker) -> None:
    """Brokers in turn hang up on the same message: it is the message."""
    async with ScriptedBroker() as second, quick(scripted, second, failback=None) as client:
        scripted.hang_up_on = second.hang_up_on = hates(5)
        found = await outcomes(await publish(client, range(20)))
        assert found.count(Outcome.REJECTED) == 1
        assert found[5] is Outcome.REJECTED
        # The first link and three more are lost with it: of brokers that go away in turn it takes one more to be sure.
        assert len(scripted.connects) + len(second.connects) <= 5
    assert set(numbers(scripted, second)) == set(range(20)) - {5}


async def test_what_was_set_aside_is_not_lost(scripted: ScriptedBroker, tmp_path: Path) -> None:
    """With a store, the quarantine outlives the run, and does not hold up the next one."""
    scripted.hang_up_on = hates(5)
    for run in range(2):
        async with quick(scripted, store=tmp_path / "client.db") as client:
            await publish(client, range(20 * run, 20 * run + 20))
            assert await client.flush(8)
            assert client.status.quarantined == 1
    assert set(numbers(scripted)) == set(range(40)) - {5}


# ---- what is no poison


async def test_a_broker_that_restarts_often_blames_nobody(scripted: ScriptedBroker) -> None:
    """A broker that goes away thirty times, with messages in flight each time, quarantines nothing."""
    async with quick(scripted, window=50, reconnect_max=0.01) as client:
        deliveries: list[Delivery] = []
        for turn in range(30):
            scripted.hold_acks = turn % 3 != 2
            deliveries += await publish(client, range(20 * turn, 20 * turn + 20))
            await scripted.until(lambda: scripted.held > 0 or not scripted.hold_acks)
            await scripted.stop()
            await until(lambda: client.status.broker is None)
            await scripted.start()
            await client.connected(5)
        scripted.hold_acks = False
        scripted.release()
        assert set(await outcomes(deliveries)) == {Outcome.ACKNOWLEDGED}
        assert (client.status.quarantined, client.status.lost) == (0, 0)
    assert set(numbers(scripted)) == set(range(600))


@pytest.mark.alone  # a link that lives for 0.2 s because the machine stood still is another matter
@pytest.mark.parametrize("life", [0.0, 0.01, 0.05])
async def test_a_line_that_flaps_blames_nobody(scripted: ScriptedBroker, life: float) -> None:
    """Links that all end after the same short while, whatever is on them, quarantine nothing; then all arrives."""
    loop = asyncio.get_running_loop()
    scripted.stop_acks = True
    async with quick(scripted, window=50) as client:
        deliveries = await publish(client, range(30))
        for turn in range(25):
            await scripted.until(lambda turn=turn: len(scripted.connects) > turn)
            if life:
                ended = loop.create_future()
                loop.call_later(life, ended.set_result, None)
                await ended
            scripted.drop()
        scripted.stop_acks = False
        scripted.drop()
        assert set(await outcomes(deliveries)) == {Outcome.ACKNOWLEDGED}
        assert client.status.quarantined == 0
    assert set(numbers(scripted)) == set(range(30))


async def test_a_loop_that_stands_still_blames_nobody(scripted: ScriptedBroker) -> None:
    """That a link has held for long enough counts only once it is known that it has not ended meanwhile."""
    loop = asyncio.get_running_loop()
    scripted.stop_acks = True
    async with quick(scripted, window=50) as client:
        deliveries = await publish(client, range(30))
        more: list[asyncio.Task[list[Delivery]]] = []

        def stand_still() -> None:
            time.sleep(0.3)  # longer than a link has to hold
            more.append(loop.create_task(publish(client, [30])))  # gets its turn before the end of the link does

        for turn in range(3):
            await until(lambda turn=turn: client.status.broker is not None and len(scripted.connects) > turn)
            scripted.drop()
            if turn == 2:  # now the first of them would go out alone
                loop.call_soon(stand_still)
        scripted.stop_acks = False
        await until(lambda: more)
        deliveries += await more[0]
        assert set(await outcomes(deliveries)) == {Outcome.ACKNOWLEDGED}
        assert client.status.quarantined == 0


@pytest.mark.parametrize("reason", [0x89, 0x8B, 0x8D, 0x8E, 0x97, 0x98, 0x9C])
async def test_a_disconnect_that_speaks_of_no_message_blames_nobody(scripted: ScriptedBroker, reason: int) -> None:
    """Shutting down, taken over, use another server: not about the one message that happened to be in flight."""
    scripted.stop_acks = True
    async with quick(scripted, protocol="5") as client:
        delivery = await client.publish("t", b"1")
        for turn in range(8):
            await scripted.wait_published(turn + 1)
            scripted.disconnect(reason, Properties())
        scripted.stop_acks = False
        await scripted.wait_published(9)
        scripted.drop()
        assert await outcomes([delivery]) == [Outcome.ACKNOWLEDGED]
        assert client.status.quarantined == 0


@pytest.mark.parametrize("code", [errno.EHOSTUNREACH, errno.ETIMEDOUT, errno.ENETDOWN])
async def test_what_the_network_has_to_say_blames_nobody(scripted: ScriptedBroker, code: int) -> None:
    """A link that ends because there is no route any more was not hung up by the broker."""
    scripted.stop_acks = True
    told = Told()
    async with quick(scripted, **told.calls) as client:
        delivery = await client.publish("t", b"1")
        for turn in range(6):
            await scripted.wait_published(turn + 1)
            client._uplink.link.connection.transport._force_close(OSError(code, "as the kernel says it"))
            await until(lambda turn=turn: len(told.lost) > turn)
        scripted.stop_acks = False
        assert await outcomes([delivery]) == [Outcome.ACKNOWLEDGED]
        assert client.status.quarantined == 0
    assert "as the kernel says it" in told.lost[0].reason


async def test_a_broker_that_freezes_blames_nobody(scripted: ScriptedBroker) -> None:
    """Links that this side gives up, because nothing is acknowledged, are no hang-ups."""
    scripted.stop_acks = True
    told = Told()
    async with quick(scripted, ack_timeout=0.1, **told.calls) as client:
        delivery = await client.publish("t", b"1")
        await until(lambda: len(told.lost) >= 6)
        scripted.stop_acks = False
        assert await outcomes([delivery]) == [Outcome.ACKNOWLEDGED]
        assert client.status.quarantined == 0
