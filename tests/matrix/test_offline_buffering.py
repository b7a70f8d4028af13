"""Offline buffering: what is published without a link waits, in order and within bounds, and no drop goes unsaid."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable
from os import urandom
from pathlib import Path
from typing import Any

import pytest

from gateway import BlockingClient, Client, Delivery, OutboxFull, Outcome
from tests.matrix.quick import QUICK, numbers, publish, quick, until
from tests.scripted_broker import ScriptedBroker

MB = 1_000_000


def store_in(folder: Path, where: str) -> Path | None:
    """Return a store, or none."""
    return folder / "client.db" if where == "store" else None


async def outcomes(deliveries: Iterable[Delivery]) -> list[Outcome]:
    """Wait for all of these."""
    async with asyncio.timeout(8):
        return [await delivery for delivery in deliveries]


async def accepted(client: Client) -> Delivery:
    """Publish once there is room again: in a store, with the transaction that notes what was delivered."""
    async with asyncio.timeout(5):
        while True:
            try:
                return await client.publish("t", b"7")
            except OutboxFull:
                await asyncio.sleep(0.01)  # there is no event for it


def lawful(client: Client, taken_in: int) -> bool:
    """Return whether every message is accounted for: taken in = delivered + waiting + lost."""
    status = client.status
    return taken_in == status.delivered + status.waiting + status.lost


# ---- what waits arrives


@pytest.mark.parametrize("where", ["memory", "store"])
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_before_the_first_link(scripted: ScriptedBroker, tmp_path: Path, where: str, qos: int) -> None:
    """What is published before there was ever a link arrives once there is one: all of it, in order, once."""
    await scripted.stop()
    async with quick(scripted, store=store_in(tmp_path, where)) as client:
        deliveries = await publish(client, range(300), qos)
        await until(lambda: client.status.brokers[0].state == "away")
        assert client.status.waiting == 300
        assert not any(delivery.done for delivery in deliveries)
        await scripted.start()
        assert set(await outcomes(deliveries)) == {Outcome.ACKNOWLEDGED}
        await scripted.wait_published(300)
        assert lawful(client, 300)
    assert numbers(scripted) == list(range(300))
    assert {packet.qos for packet in scripted.publishes} == {qos}


@pytest.mark.parametrize("where", ["memory", "store"])
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_after_a_loss(scripted: ScriptedBroker, tmp_path: Path, where: str, qos: int) -> None:
    """What is published while the broker is away follows, in order, what was published before."""
    async with quick(scripted, store=store_in(tmp_path, where)) as client:
        assert set(await outcomes(await publish(client, range(100), qos))) == {Outcome.ACKNOWLEDGED}
        await scripted.wait_published(100)
        await scripted.stop()
        await until(lambda: client.status.broker is None)
        deliveries = await publish(client, range(100, 300), qos)
        assert client.status.waiting == 200
        await scripted.start()
        assert set(await outcomes(deliveries)) == {Outcome.ACKNOWLEDGED}
        await scripted.wait_published(300)
    assert numbers(scripted) == list(range(300))


@pytest.mark.parametrize("qos", [1, 2])
async def test_what_was_in_flight_goes_first(scripted: ScriptedBroker, qos: int) -> None:
    """Order is kept over a loss in the middle: what had no acknowledgement is sent again before anything newer."""
    scripted.hold_acks = True
    async with quick(scripted, window=10, ack_timeout=5) as client:
        deliveries = await publish(client, range(50), qos)
        await scripted.until(lambda: scripted.held == 10)
        scripted.drop()
        scripted.hold_acks = False
        assert set(await outcomes(deliveries)) == {Outcome.ACKNOWLEDGED}
    assert list(dict.fromkeys(numbers(scripted))) == list(range(50))
    assert len(numbers(scripted)) <= 60, "no more than the window twice"


async def test_each_qos_is_kept_in_a_mixed_queue(scripted: ScriptedBroker) -> None:
    """Messages of different QoS, retained and not, wait in one queue and leave it in its order."""
    await scripted.stop()
    async with quick(scripted) as client:
        wanted = [(b"%d" % number, number % 3, number % 2 == 0) for number in range(60)]
        for payload, qos, retain in wanted:
            await client.publish("t", payload, qos, retain)
        await scripted.start()
        assert await client.flush(5)
        await scripted.wait_published(60)
    assert [(payload, qos, retain) for _, payload, qos, retain in scripted.published] == wanted


@pytest.mark.parametrize("where", ["memory", "store"])
def test_threads_have_the_same(tmp_path: Path, where: str) -> None:
    """The blocking client buffers alike: publish returns at once without a broker, and a full outbox is an error."""
    options: dict[str, Any] = {**QUICK, "store": store_in(tmp_path, where), "max_count": 20}
    with BlockingClient("mqtt://127.0.0.1:1", **options) as client:
        deliveries = [client.publish("t", b"x") for _ in range(20)]
        with pytest.raises(OutboxFull, match="max_count is 20"):
            client.publish("t", b"x")
        assert client.flush(0.05) is False
        assert deliveries[0].wait(0.01) is Outcome.PENDING
        assert client.status.waiting == 20
        client.close(0)
    expected = Outcome.PENDING if where == "store" else Outcome.DROPPED
    assert {delivery.state for delivery in deliveries} == {expected}
    assert all("closed" in (delivery.reason or "") for delivery in deliveries)


# ---- the bounds


@pytest.mark.parametrize("where", ["memory", "store"])
@pytest.mark.parametrize(
    ("bound", "words"), [({"max_count": 100}, "max_count is 100"), ({"max_bytes": 300_000}, "max_size is")]
)
async def test_reject(scripted: ScriptedBroker, tmp_path: Path, where: str, bound: dict[str, int], words: str) -> None:
    """By default nothing that was accepted is dropped: a full outbox refuses, says why, and takes again when it can."""
    await scripted.stop()
    async with quick(scripted, store=store_in(tmp_path, where), **bound) as client:
        deliveries: list[Delivery] = []
        with pytest.raises(OutboxFull, match=words):  # noqa: PT012 - at which one is the bound's business
            for number in range(10_000):
                deliveries.append(await client.publish("t", urandom(200)))
                if where == "store" and number % 50 == 0:
                    await client.publish("t", urandom(200), stored=True)
        assert len(deliveries) > 10
        assert client.status.lost == 0
        waiting = client.status.waiting
        await scripted.start()
        assert set(await outcomes(deliveries)) == {Outcome.ACKNOWLEDGED}
        assert await client.flush(5)
        assert await outcomes([await accepted(client)]) == [Outcome.ACKNOWLEDGED]
        assert await client.ledger() == []
        assert lawful(client, waiting + 1)


@pytest.mark.parametrize("where", ["memory", "store"])
@pytest.mark.parametrize("when_full", ["drop-oldest", "drop-newest"])
async def test_drop(scripted: ScriptedBroker, tmp_path: Path, where: str, when_full: str) -> None:
    """Whoever published hears of each drop and why, the ledger counts it, and what is kept arrives in order."""
    ended: list[Delivery] = []
    await scripted.stop()
    async with quick(
        scripted, store=store_in(tmp_path, where), max_count=100, when_full=when_full, on_delivered=ended.append
    ) as client:
        deliveries = await publish(client, range(250))
        gone, kept = (
            (slice(0, 150), slice(150, 250)) if when_full == "drop-oldest" else (slice(100, 250), slice(0, 100))
        )
        assert set(await outcomes(deliveries[gone])) == {Outcome.DROPPED}
        assert {delivery.reason for delivery in deliveries[gone]} == {"full"}
        assert [delivery.id for delivery in ended] == [delivery.id for delivery in deliveries[gone]]
        assert (client.status.waiting, client.status.lost) == (100, 150)
        losses = await client.ledger()
        assert sum(loss.count for loss in losses) == 150
        assert {loss.reason for loss in losses} == {"full"}
        assert lawful(client, 250)
        await scripted.start()
        assert set(await outcomes(deliveries[kept])) == {Outcome.ACKNOWLEDGED}
        assert lawful(client, 250)
    assert numbers(scripted) == list(range(250))[kept]


@pytest.mark.parametrize("when_full", ["drop-oldest", "drop-newest"])
async def test_drop_by_bytes(scripted: ScriptedBroker, when_full: str) -> None:
    """The bound counts topics and payloads; so many bytes wait, and not more."""
    await scripted.stop()
    async with quick(scripted, max_bytes=10_000, when_full=when_full) as client:
        deliveries = [await client.publish("t", b"%099d" % number) for number in range(250)]
        await until(lambda: sum(delivery.done for delivery in deliveries) == 150)
        dropped = [number for number, delivery in enumerate(deliveries) if delivery.done]
        assert dropped == list(range(150) if when_full == "drop-oldest" else range(100, 250))
        assert sum(loss.count for loss in await client.ledger()) == 150
        await scripted.start()
        assert await client.flush(5)
    assert numbers(scripted) == [number for number in range(250) if number not in dropped]


@pytest.mark.parametrize("where", ["memory", "store"])
async def test_what_is_too_old_is_given_up(scripted: ScriptedBroker, tmp_path: Path, where: str) -> None:
    """A message that has waited for max_age is not sent any more, and its publisher is told when that happens."""
    await scripted.stop()
    loop = asyncio.get_running_loop()
    async with quick(scripted, store=store_in(tmp_path, where), max_age=0.3) as client:
        began = loop.time()
        deliveries = await publish(client, range(20))
        assert set(await outcomes(deliveries)) == {Outcome.DROPPED}
        assert 0.25 < loop.time() - began < 3
        assert {delivery.reason for delivery in deliveries} == {"too-old"}
        (loss,) = await client.ledger()
        assert (loss.count, loss.reason) == (20, "too-old")
        await scripted.start()
        assert await outcomes(await publish(client, [20])) == [Outcome.ACKNOWLEDGED]
        assert lawful(client, 21)
    assert numbers(scripted) == [20]


async def test_what_is_with_a_broker_is_not_dropped(scripted: ScriptedBroker) -> None:
    """What may have arrived is not given up for something newer: only what no link has taken."""
    scripted.hold_acks = True
    async with quick(scripted, window=10, max_count=20, when_full="drop-oldest", ack_timeout=5) as client:
        deliveries = await publish(client, range(10))
        await scripted.until(lambda: scripted.held == 10)
        deliveries += await publish(client, range(10, 40))
        scripted.release()
        found = await outcomes(deliveries)
        assert found == [Outcome.ACKNOWLEDGED] * 10 + [Outcome.DROPPED] * 20 + [Outcome.ACKNOWLEDGED] * 10
    assert numbers(scripted) == [*range(10), *range(30, 40)]


async def test_the_ledger_is_kept_with_the_store(tmp_path: Path) -> None:
    """A drop is on record in the next run too, together with what still waits."""
    store = tmp_path / "client.db"
    async with quick("mqtt://127.0.0.1:1", store=store, max_count=10, when_full="drop-oldest") as client:
        await publish(client, range(25))
        await client.close(0)
    async with ScriptedBroker() as broker, quick(broker, store=store) as client:
        (loss,) = await client.ledger()
        assert (loss.count, loss.first_seq, loss.last_seq, loss.reason) == (15, 1, 15, "full")
        assert await client.flush(5)
        assert numbers(broker) == list(range(15, 25))


# ---- a long outage


@pytest.mark.system
@pytest.mark.parametrize("where", ["memory", "store"])
async def test_a_hundred_thousand_wait(folder: Path, where: str) -> None:
    """100,000 messages of 500 bytes wait and leave nothing behind; the next 100,000 need no more memory than they did.

    With a store they wait on the disk: what is in memory is what became of each, and not what it says.
    """
    command = [sys.executable, "-m", "tests.matrix.hoarder", str(folder), where]
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(120):
            said, _ = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    assert child.returncode == 0
    taken = {step: (size, objects) for step, (size, objects) in json.loads(said).items()}
    print({step: f"{size / MB:.0f} MB" for step, (size, _) in taken.items()})
    size = {step: sizes[0] for step, sizes in taken.items()}
    assert size["first waiting"] - size["empty"] < (45 if where == "store" else 120) * MB
    assert size["second waiting"] < size["first waiting"] + 8 * MB
    assert size["second gone"] < size["first waiting"] + 8 * MB
    # Objects: a page that was read back stays, and not one for each message.
    for step in ("first gone", "second gone"):
        assert taken[step][1] - taken["empty"][1] < 20_000
