"""Blocking API: the client for threads, with a real broker and an independent peer."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest

from gateway import BlockingClient, CalledFromCallback, Message, Outcome
from tests.interop.peer import Peer
from tests.interop.ways import Way
from tests.system.harness import Mosquitto

pytestmark = pytest.mark.system


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("protocol", ["3.1", "3.1.1", "5"])
async def test_what_is_published_arrives_and_is_acknowledged(
    mosquitto: Mosquitto, folder: Path, protocol: str, durable: bool
) -> None:
    """`publish` accepts, or stores if asked; `wait` tells the end; the peer has everything once, in order."""

    def program() -> list[Outcome]:
        with BlockingClient(mosquitto.url, folder / "store" if durable else None, protocol=protocol) as client:
            deliveries = [client.publish("t", str(n), qos=n % 3, stored=n % 10 == 9) for n in range(30)]
            return [delivery.wait(10) for delivery in deliveries]

    async with Peer(Way("mqtt", mosquitto.port)) as peer:
        await peer.subscribe("t", 2)
        assert await asyncio.to_thread(program) == [Outcome.ACKNOWLEDGED] * 30
        heard = [await peer.next() for _ in range(30)]
    for qos in range(3):  # the order of messages holds within one QoS
        assert [int(one.payload) for one in heard if one.qos == qos] == list(range(qos, 30, 3))


async def test_several_threads_share_one_client(mosquitto: Mosquitto) -> None:
    """Messages of four threads all arrive, each thread's in its order."""

    def program() -> bool:
        with BlockingClient(mosquitto.url) as client:
            threads = [
                threading.Thread(target=lambda name=name: [client.publish(name, b"%d" % n) for n in range(500)])
                for name in "abcd"
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(20)
            return client.flush(20)

    async with Peer(Way("mqtt", mosquitto.port)) as peer:
        await peer.subscribe("+", 1)
        assert await asyncio.to_thread(program)
        heard = [await peer.next() for _ in range(2000)]
    for name in "abcd":
        assert [int(one.payload) for one in heard if one.topic == name] == list(range(500))


async def test_what_the_peer_publishes_is_iterated_over(mosquitto: Mosquitto) -> None:
    """A blocking iterator yields what comes, and ends after a silence."""
    subscribed = threading.Event()

    def program() -> list[bytes]:
        with BlockingClient(mosquitto.url) as client, client.messages("a/+", qos=2, timeout=10) as messages:
            subscribed.set()
            got = [next(messages).payload for _ in range(20)]
            assert messages.get(0.05) is None
            return got

    running = asyncio.ensure_future(asyncio.to_thread(program))
    await asyncio.to_thread(subscribed.wait, 10)
    async with Peer(Way("mqtt", mosquitto.port)) as peer:
        for n in range(20):
            await peer.publish("a/b", b"%d" % n, n % 3)
    assert await running == [b"%d" % n for n in range(20)]


async def test_every_call_returns_with_a_frozen_broker(mosquitto: Mosquitto, folder: Path) -> None:
    """`flush` and `close` are over in time; what the store has is delivered by the next run, exactly once at QoS 2."""

    def frozen() -> float:
        with BlockingClient(mosquitto.url, folder / "store", ack_timeout=30) as client:
            client.connected(10)
            mosquitto.freeze()
            delivery = client.publish("t", b"1", qos=2, stored=True)
            assert delivery.wait(0.05) is Outcome.PENDING
            began = time.monotonic()
            assert not client.flush(0.05)
            client.close(0.05)
            client.close(0.05)
            assert delivery.wait() is Outcome.PENDING
            return time.monotonic() - began

    def next_run() -> bool:
        with BlockingClient(mosquitto.url, folder / "store") as client:
            return client.flush(20)

    async with Peer(Way("mqtt", mosquitto.port)) as peer:
        await peer.subscribe("t", 2)
        assert await asyncio.to_thread(frozen) < 8
        mosquitto.thaw()
        assert await asyncio.to_thread(next_run)
        assert (await peer.next()).payload == b"1"
        await peer.publish("t", b"end", 1)
        assert (await peer.next()).payload == b"end"  # and the first one did not come twice


async def test_its_own_callback_cannot_wait_for_it(mosquitto: Mosquitto) -> None:
    """A call that would be a deadlock is an error that says so; `publish_nowait` is what a callback answers with."""
    errors: list[CalledFromCallback] = []
    answered = threading.Event()

    def program() -> None:
        with BlockingClient(mosquitto.url) as client:

            def callback(message: Message) -> None:
                try:
                    client.flush()
                except CalledFromCallback as error:
                    errors.append(error)
                client.publish_nowait("answer", message.payload)
                answered.set()

            client.subscribe("ask", callback)
            client.publish("ask", b"1")
            assert answered.wait(10)

    async with Peer(Way("mqtt", mosquitto.port)) as peer:
        await peer.subscribe("answer", 1)
        await asyncio.to_thread(program)
        assert (await peer.next()).payload == b"1"
    assert len(errors) == 1
