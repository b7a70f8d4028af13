"""Life cycle and events: connect, subscribe, unsubscribe, retain, share and disconnect at a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from gateway import Client, Connected, ConnectionLost, Message, Reconnecting, SubscriptionRefused
from tests.interop.peer import Peer
from tests.interop.ways import Way
from tests.matrix.quick import quick, until
from tests.mqtt.mosquitto import Mosquitto as Modest
from tests.scripted_broker import ScriptedBroker
from tests.system.harness import Mosquitto

pytestmark = pytest.mark.system


@pytest.fixture
def modest(tmp_path: Path) -> Iterator[Modest]:
    """A mosquitto that takes QoS 1 at most."""
    with Modest(tmp_path, "max_qos 1") as running:
        yield running


async def test_events_over_the_life_of_a_broker(mosquitto: Mosquitto) -> None:
    """Connected, lost with a reason, reconnecting with a delay, connected again, over a real restart."""
    async with quick(mosquitto.url) as client, asyncio.timeout(20):
        events = client.events()
        assert await anext(events) == Connected(mosquitto.url, "5", False)
        await asyncio.to_thread(mosquitto.stop)
        lost = await anext(events)
        assert isinstance(lost, ConnectionLost)
        assert lost.reason
        again = await anext(events)
        assert isinstance(again, Reconnecting)
        assert 0 <= again.delay <= 0.05
        await asyncio.to_thread(mosquitto.start)
        while not isinstance(event := await anext(events), Connected):
            pass
        assert client.status.broker == mosquitto.url
        assert event.broker == mosquitto.url


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_a_session_that_was_kept_brings_what_came_meanwhile(mosquitto: Mosquitto, protocol: str) -> None:
    """With clean_start=False the broker keeps the subscription, and the next link brings what was missed."""
    options = {"client_id": "kept", "clean_start": False, "session_expiry": 60, "protocol": protocol}
    async with Client(mosquitto.url, **options) as client:
        assert not (await client.connected(10)).session_present
        await client.subscribe("t", qos=1)
    async with Peer(Way("mqtt", mosquitto.port)) as peer:
        await peer.publish("t", b"meanwhile", 1)
    came = asyncio.get_running_loop().create_future()
    async with Client(mosquitto.url, on_message=came.set_result, **options) as client, asyncio.timeout(10):
        assert (await client.connected()).session_present
        assert (await came).payload == b"meanwhile"
    # And a clean start forgets it.
    async with Client(mosquitto.url, client_id="kept", clean_start=True, protocol=protocol) as client:
        assert not (await client.connected(10)).session_present


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_a_refused_subscription_is_told(scripted: ScriptedBroker, protocol: str) -> None:
    """The broker's refusal is an error that names the filter; what is granted is told, and works."""
    scripted.deliver = True
    scripted.granted = lambda name, qos: 0x80 if name == "secret/#" else min(qos, 1)
    async with quick(scripted, protocol=protocol) as client, client.messages("open/+", qos=2) as messages:
        assert messages.granted == 1
        with pytest.raises(SubscriptionRefused, match="secret/#") as told:
            await client.subscribe("secret/#", print)
        assert told.value.reason == 0x80
        await client.publish("open/a", b"1")
        async with asyncio.timeout(10):
            assert (await anext(messages)).payload == b"1"


async def test_qos_that_the_broker_has_not_is_said(modest: Modest) -> None:
    """A broker whose maximum is QoS 1 takes a QoS 2 message at QoS 1; that is visible in its limits."""
    async with Client(modest.url, protocol="5") as client:
        await client.connected(10)
        assert client.status.limits is not None
        assert client.status.limits.maximum_qos == 1
        async with asyncio.timeout(10):
            assert await (await client.publish("open/a", b"1", qos=2)) == "acknowledged"


async def test_shared_subscriptions_share(mosquitto: Mosquitto) -> None:
    """Each message goes to one of those that share a filter, and all of them arrive."""
    got: list[list[bytes]] = [[], []]
    done = asyncio.Event()

    def take(which: int, message: Message) -> None:
        got[which].append(message.payload)
        if len(got[0]) + len(got[1]) == 40:
            done.set()

    async with Client(mosquitto.url) as one, Client(mosquitto.url) as other, Peer(Way("mqtt", mosquitto.port)) as peer:
        await one.subscribe("$share/group/jobs/+", lambda message: take(0, message))
        await other.subscribe("$share/group/jobs/+", lambda message: take(1, message))
        for n in range(40):
            await peer.publish("jobs/1", b"%d" % n, 1)
        async with asyncio.timeout(10):
            await done.wait()
    assert got[0]
    assert got[1]
    assert sorted(map(int, got[0] + got[1])) == list(range(40))


async def test_no_local_and_retain_options(mosquitto: Mosquitto) -> None:
    """Own messages can be left out, the retain flag kept, and retained messages not sent."""
    async with (
        Client(mosquitto.url, protocol="5") as client,
        Peer(Way("mqtt", mosquitto.port)) as peer,
        asyncio.timeout(10),
    ):
        async with client.messages("a", no_local=True) as messages:
            await (await client.publish("a", b"own"))
            await peer.publish("a", b"other", 1)
            assert (await anext(messages)).payload == b"other"
        async with client.messages("b", retain_as_published=True) as messages:
            await (await client.publish("b", b"kept", retain=True))
            message = await anext(messages)
            assert (message.payload, message.retain) == (b"kept", True)
        async with client.messages("b", retain_handling=2) as messages:
            await peer.publish("b", b"new", 1)
            assert (await anext(messages)).payload == b"new"
        async with client.messages("b") as messages:
            message = await anext(messages)
            assert (message.payload, message.retain) == (b"kept", True)


async def test_unsubscribing_ends_it(mosquitto: Mosquitto) -> None:
    """After `unsubscribe` the broker sends no more."""
    got: list[bytes] = []
    async with Client(mosquitto.url) as client, Peer(Way("mqtt", mosquitto.port)) as peer, asyncio.timeout(10):
        await client.subscribe("a", lambda message: got.append(message.payload))
        await peer.publish("a", b"1", 1)
        await until(lambda: got)
        await client.unsubscribe("a")
        await peer.publish("a", b"2", 1)
        async with client.messages("end") as messages:
            await peer.publish("end", b"end", 1)
            await anext(messages)  # whatever came before is here now
        assert client.status.unclaimed == 0
    assert got == [b"1"]


async def test_the_trace_shows_both_directions_without_secrets(mosquitto: Mosquitto) -> None:
    """At debug level each packet is a line through structlog, and a password is in none."""
    with capture_logs() as logs:
        options = {"username": "me", "password": "secret-word", "trace": True, "logger": structlog.get_logger()}
        async with Client(mosquitto.url, **options) as client:
            await (await client.publish("a", b"1"))
    lines = [entry["event"] for entry in logs if entry["log_level"] == "debug"]
    assert any("CONNECT" in line.upper() for line in lines)
    assert any("PUBACK" in line.upper() for line in lines)
    assert "secret-word" not in str(logs)
