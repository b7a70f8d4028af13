"""Automatic reconnect: no broker can make a client give up, spin or block, and what it had it has again afterwards."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from gateway import Connected, ConnectionLost, Credentials, Message, Outcome, Reconnecting
from tests.interop.peer import Peer
from tests.interop.ways import Way
from tests.matrix.quick import Told, numbers, publish, quick, until
from tests.scripted_broker import ScriptedBroker
from tests.system.harness import Mosquitto

WINDOW = 3.0
"""Seconds over which the cost of having no broker is measured."""


# ---- the pauses


async def test_the_pauses_have_full_jitter(scripted: ScriptedBroker) -> None:
    """Each is drawn from nothing to a ceiling that doubles from reconnect_min to reconnect_max, and is told."""
    await scripted.stop()
    first, longest, count = 0.01, 0.04, 60
    told = Told()
    async with quick(scripted, reconnect_min=first, reconnect_max=longest, **told.calls):
        await until(lambda: len(told.reconnecting) >= count)
    delays = [event.delay for event in told.reconnecting]
    for number, delay in enumerate(delays):
        assert 0 <= delay <= min(longest, first * 2**number)
    late = delays[3:]
    assert min(late) < 0.4 * longest < 0.6 * longest < max(late)
    assert len(set(late)) == len(late)
    assert {event.reason for event in told.reconnecting} == {f"127.0.0.1:{scripted.port}: connection refused"}


async def test_the_pauses_are_kept(scripted: ScriptedBroker) -> None:
    """The next attempt does not come before the pause that was told."""
    scripted.refuse = 0x88
    loop = asyncio.get_running_loop()
    said: list[tuple[float, float]] = []
    came: list[float] = []
    async with quick(
        scripted,
        reconnect_max=0.1,
        protocol="5",
        on_reconnecting=lambda event: said.append((loop.time(), event.delay)),
    ):
        while len(said) < 8:
            seen = len(scripted.connects)
            await scripted.until(lambda seen=seen: len(scripted.connects) > seen)
            came.append(loop.time())
            await until(lambda: len(said) >= len(came))
    for (at, delay), attempt in zip(said, came[1:], strict=False):
        assert attempt >= at + delay - 0.002


async def test_an_acknowledgement_makes_the_pauses_short_again(scripted: ScriptedBroker) -> None:
    """A broker that works is come back to quickly, however long it was away before; a mere CONNACK proves nothing."""
    told = Told()
    await scripted.stop()
    async with quick(scripted, reconnect_min=0.01, reconnect_max=600, **told.calls) as client:
        await until(lambda: len(told.reconnecting) >= 6)
        assert max(event.delay for event in told.reconnecting) > 0.01
        await scripted.start()
        await client.connected(8)
        assert await (await client.publish("t", b"1")) is Outcome.ACKNOWLEDGED
        scripted.drop()
        await until(lambda: told.lost)
        assert told.reconnecting[-1].delay <= 0.01


# ---- what it costs to have no broker


@asynccontextmanager
async def black_hole() -> AsyncIterator[str]:
    """Give the URL of a listener whose queue is full: it answers nobody, as a host that drops packets."""
    with socket.socket() as listener, socket.socket() as one, socket.socket() as other:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for each in (one, other):
            each.setblocking(False)
            each.connect_ex(listener.getsockname())
        yield f"mqtt://127.0.0.1:{listener.getsockname()[1]}"


@asynccontextmanager
async def broker_with(**knobs: Any) -> AsyncIterator[str]:
    """Give the URL of a broker with these knobs."""
    async with ScriptedBroker() as broker:
        for name, value in knobs.items():
            setattr(broker, name, value)
        yield broker.url


@asynccontextmanager
async def absent() -> AsyncIterator[str]:
    """Give a URL where nobody listens."""
    async with ScriptedBroker() as broker:
        await broker.stop()
        yield broker.url


@asynccontextmanager
async def frozen() -> AsyncIterator[str]:
    """Give the URL of a broker that says welcome, and nothing else ever."""
    async with ScriptedBroker() as broker:
        broker.stop_acks = broker.mute_pings = True
        yield broker.url


@asynccontextmanager
async def named() -> AsyncIterator[str]:
    """Give a URL with a name that is nobody's."""
    yield "mqtt://broker.invalid:1883"


SILENT = {
    "absent": (absent, "well", "connection refused"),
    "refusing": (lambda: broker_with(refuse=0x88), "well", "server unavailable"),
    "black hole": (black_hole, "well", "no answer from"),
    "mute after accept": (lambda: broker_with(mute_after="accept"), "well", "does not answer CONNECT"),
    "mute after CONNECT": (lambda: broker_with(mute_after="connect"), "well", "does not answer CONNECT"),
    "mute after CONNACK": (frozen, "well", "no acknowledgement for"),
    "hangs up": (lambda: broker_with(close_on_connect=True), "well", "without an answer to CONNECT"),
    "name server silent": (named, "never", "could not be resolved in time"),
    "name server failing": (named, "not", "temporary failure in name resolution"),
}
"""What is wrong: who plays it, how names are resolved, and what the client says."""


async def hold(url: str, names: str) -> dict[str, Any]:
    """Run a client against this broker in a process of its own; return what that has cost."""
    command = [sys.executable, "-m", "tests.matrix.patient", url, str(WINDOW), names]
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(60):
            said, _ = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    assert child.returncode == 0
    return dict(json.loads(said))


@pytest.mark.system
async def test_no_broker_costs_next_to_nothing() -> None:
    """Whatever is wrong with its broker, the process stays up, keeps its message, and uses less than 1 % of a CPU.

    Neither resolving a name nor connecting blocks the loop, every attempt ends, and so does the client when asked.
    """
    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(play()) for play, _, _ in SILENT.values()]
        async with asyncio.TaskGroup() as group:
            jobs = [
                group.create_task(hold(url, names)) for url, (_, names, _) in zip(urls, SILENT.values(), strict=True)
            ]
        results = {wrong: job.result() for wrong, job in zip(SILENT, jobs, strict=True)}
    for wrong, cost in results.items():
        print(
            f"{wrong:20} CPU {100 * cost['cpu']:.2f} %, longest stall {1000 * cost['stall']:.0f} ms, "
            f"{cost['attempts']} attempts, closed in {cost['close']:.2f} s: {'; '.join(cost['reasons'])}"
        )
    for wrong, cost in results.items():
        assert cost["cpu"] < 0.01, (wrong, cost)
        assert cost["stall"] < 0.9, wrong  # the machine may be busy; a blocking call would have taken a second
        assert cost["attempts"] >= 2, wrong
        assert (cost["waiting"], cost["delivery"]) == (1, "pending"), wrong
        assert cost["close"] < 2.5, wrong
        assert all(SILENT[wrong][2] in reason for reason in cost["reasons"]), (wrong, cost["reasons"])


@pytest.mark.parametrize(
    "knob",
    [
        {"refuse": 0x88},
        {"mute_after": "accept"},
        {"mute_after": "connect"},
        {"close_on_connect": True},
        {"stop_acks": True},
    ],
    ids=lambda knob: next(iter(knob)) + " " + str(next(iter(knob.values()))),
)
async def test_a_broker_that_comes_to_its_senses_is_used(scripted: ScriptedBroker, knob: dict[str, Any]) -> None:
    """The client itself is never the reason that nothing is sent: what waited arrives, in order."""
    before = {name: getattr(scripted, name) for name in knob}
    for name, value in knob.items():
        setattr(scripted, name, value)
    told = Told()
    async with quick(scripted, connect_timeout=0.1, ack_timeout=0.1, **told.calls) as client:
        deliveries = await publish(client, range(20))
        await until(lambda: len(told.reconnecting) >= 3)
        for name, value in before.items():
            setattr(scripted, name, value)
        assert set(await asyncio.gather(*deliveries)) == {Outcome.ACKNOWLEDGED}
    seen = numbers(scripted)
    assert list(dict.fromkeys(seen)) == list(range(20))


async def test_what_is_told_of_an_outage(scripted: ScriptedBroker) -> None:
    """Events come in the order of what happens: connected, lost with the reason, reconnecting, connected."""
    async with quick(scripted) as client:
        events = client.events()
        assert await anext(events) == Connected(scripted.url, "5", False)
        await scripted.stop()
        lost = await anext(events)
        assert isinstance(lost, ConnectionLost)
        assert lost.broker == scripted.url
        assert lost.reason
        for _ in range(3):
            pause = await anext(events)
            assert isinstance(pause, Reconnecting)
            assert 0 <= pause.delay <= 0.05
        await scripted.start()
        while not isinstance(event := await anext(events), Connected):
            assert isinstance(event, Reconnecting)


# ---- what a link had, the next one has


@pytest.mark.parametrize("protocol", ["3.1", "3.1.1", "5"])
@pytest.mark.parametrize("kept", [False, True])
async def test_subscriptions_come_back(scripted: ScriptedBroker, protocol: str, kept: bool) -> None:
    """With a session that the broker kept, nothing is asked for again; without, everything; messages come either way.

    MQTT 3.1 cannot say whether it kept one, so there it is asked for in both cases.
    """
    scripted.keep_sessions = kept
    scripted.deliver = True
    heard: list[Message] = []
    async with quick(scripted, protocol=protocol, clean_start=not kept) as client, client.messages("a/#", 2) as all_of:
        await client.subscribe("a/b", heard.append, 1)
        for round_ in range(3):
            asked, connects = len(scripted.subscribes), len(scripted.connects)
            scripted.drop()
            await scripted.until(lambda connects=connects: len(scripted.connects) > connects)
            again = 0 if kept and protocol != "3.1" else 2
            await scripted.until(lambda asked=asked, again=again: sum_of(scripted, asked) >= again)
            await client.connected(5)
            await (await client.publish("a/b", b"%d" % round_))
            assert (await asyncio.wait_for(anext(all_of), 5)).payload == b"%d" % round_
            await until(lambda round_=round_: len(heard) > round_)
            assert sum_of(scripted, asked) == again
        await client.unsubscribe("a/b")
        scripted.drop()
        await until(lambda: len(scripted.connects) == 5 and client.status.broker)
        await (await client.publish("a/b", b"last"))
        assert (await asyncio.wait_for(anext(all_of), 5)).payload == b"last"
    assert [one.payload for one in heard] == [b"0", b"1", b"2"]


def sum_of(broker: ScriptedBroker, since: int) -> int:
    """Return how many filters were asked for since then."""
    return sum(len(packet.subscriptions) for packet in broker.subscribes[since:])


@pytest.mark.system
@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
@pytest.mark.parametrize("kept", [False, True])
async def test_subscriptions_come_back_over_a_restart_of_mosquitto(
    mosquitto: Mosquitto, protocol: str, kept: bool
) -> None:
    """A peer's message published after the restart arrives; with a kept session, also one from between."""
    told = Told()
    stay_away = False

    def credentials() -> Credentials:
        if stay_away:
            raise RuntimeError("not yet")
        return Credentials()

    options = {"protocol": protocol, "clean_start": not kept, "session_expiry": 600 if kept else None, **told.calls}
    async with quick(mosquitto.url, credentials=credentials, **options) as client, client.messages("news", 1) as news:
        stay_away = True
        await asyncio.to_thread(mosquitto.stop)
        await until(lambda: told.lost)
        await asyncio.to_thread(mosquitto.start)
        async with Peer(Way("mqtt", mosquitto.port)) as peer:
            await peer.publish("news", b"between", 1)
            stay_away = False
            await client.connected(5)
            await client.subscribe("other")  # asked for after what there was before
            await peer.publish("news", b"after", 1)
            expected = [b"between", b"after"] if kept else [b"after"]
            assert [(await asyncio.wait_for(anext(news), 5)).payload for _ in expected] == expected
        assert told.connected[-1].session_present is kept


# ---- somebody else with the same name


@pytest.mark.system
@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_a_fight_over_the_client_id_is_said_in_words(mosquitto: Mosquitto, protocol: str) -> None:
    """Two clients that throw each other out learn why, nothing of theirs is lost, and they do not spin."""
    one, other = Told(), Told()
    async with (
        quick(mosquitto.url, client_id="twin", protocol=protocol, **one.calls) as first,
        quick(mosquitto.url, client_id="twin", protocol=protocol, **other.calls) as second,
    ):
        words = 'another client uses the client id "twin": give each its own'
        await until(lambda: any(words in lost.reason for lost in (*one.lost, *other.lost)), 15)
        for client in (first, second):
            await client.publish("t", b"x")
        assert await second.flush(10)
        assert first.status.quarantined == second.status.quarantined == 0
