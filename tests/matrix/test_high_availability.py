"""High availability: several brokers, one of which works; each failure has its bound, and nothing is missing."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from gateway import Broker, Outcome, Tls, Will
from gateway.mqtt.properties import Properties
from tests.matrix.failures import AT_THE_START, IN_SERVICE, TIMEOUTS, bound_in_words, silent_name_server, took
from tests.matrix.quick import Told, numbers, publish, quick, until
from tests.scripted_broker import ScriptedBroker
from tests.system.harness import Mosquitto
from tests.uplink.test_uplink import endpoint, rig

SLACK = 1.0
"""Seconds for everything that is not waited for on purpose, with two dozen clients at once on a busy machine."""
PAGE = Path(__file__).parents[2] / "docs/explanation/high-availability.md"


# ---- the bounds


@pytest.mark.alone
@pytest.mark.parametrize("mode", ["hunt", "equal"])
async def test_the_next_broker_carries_within_the_bound(mode: str) -> None:
    """However a broker fails, the next one has the messages after the options that the bound names, and no sooner."""
    failures = AT_THE_START + IN_SERVICE
    with silent_name_server():
        async with asyncio.TaskGroup() as group:
            jobs = [group.create_task(took(failure, mode)) for failure in failures]
    for failure, measured in zip(failures, (job.result() for job in jobs), strict=True):
        assert failure.seconds - 0.1 <= measured <= failure.seconds + SLACK, (failure.what, measured)


def test_the_documentation_promises_the_same() -> None:
    """Each failure stands in the documentation with the bound that is tested here, and was measured within it."""
    rows = re.findall(r"^\| (.+?) +\| (.+?) +\| +([\d.]+) s \| +([\d.]+) s \|$", PAGE.read_text(), re.MULTILINE)
    assert [row[:2] for row in rows] == [(one.what, bound_in_words(one)) for one in AT_THE_START + IN_SERVICE]
    for failure, (_, _, hunt, equal) in zip(AT_THE_START + IN_SERVICE, rows, strict=True):
        assert max(float(hunt), float(equal)) <= failure.seconds + 0.5
    assert ", ".join(f"{name} = {value:g} s" for name, value in TIMEOUTS.items()) in PAGE.read_text()


@pytest.mark.system
@pytest.mark.parametrize("how", ["kill", "freeze"])
async def test_real_brokers(broker: Mosquitto, second: Mosquitto, how: str) -> None:
    """A mosquitto that is killed or stopped in the middle of a stream is left for the next, and nothing is missing."""
    told = Told()
    async with (
        quick(broker.url, second.url, failback=None, ack_timeout=1.0, **told.calls) as client,
        quick(second.url, client_id="reader") as reader,
        reader.messages("t") as at_second,
    ):
        deliveries = await publish(client, range(500))
        await until(lambda: client.status.delivered >= 100)
        getattr(broker, how)()
        deliveries += await publish(client, range(500, 1000))
        seconds = await until(lambda: client.status.broker == second.url)
        assert seconds < (0.0 if how == "kill" else 1.1) + SLACK
        async with asyncio.timeout(10):
            assert {await delivery for delivery in deliveries} == {Outcome.ACKNOWLEDGED}
            heard: list[int] = []
            while not heard or heard[-1] != 999:
                heard.append(int((await anext(at_second)).payload))
    assert heard == list(range(heard[0], 1000)), "in order, without a gap, from what the first had not acknowledged"


# ---- flapping


@pytest.mark.parametrize(("mode", "qos"), [("hunt", 1), ("equal", 2)])
async def test_a_hundred_failovers_lose_nothing(mode: str, qos: int) -> None:
    """From one broker to the other and back, a hundred times: all arrive, and again only what was in flight."""
    window, flaps = 20, 100
    async with ScriptedBroker() as one, ScriptedBroker() as other:
        in_flight = 0
        options = {"mode": mode, "failback": None, "window": window, "ack_timeout": 5}
        async with quick(one, other, **options) as client:
            brokers = {broker.url: broker for broker in (one, other)}
            deliveries: list[Any] = []
            for flap in range(flaps):
                await until(lambda: client.status.broker)
                active = brokers[client.status.broker]
                active.hold_acks = flap % 2 == 0
                deliveries += await publish(client, range(10 * flap, 10 * flap + 10), qos)
                if active.hold_acks:
                    await active.until(lambda active=active: active.held > 0)
                await active.stop()
                await until(lambda url=active.url: client.status.broker not in (None, url))
                in_flight += window
                active.hold_acks = False
                await active.start()
            async with asyncio.timeout(10):
                assert {await delivery for delivery in deliveries} == {Outcome.ACKNOWLEDGED}
            status = client.status
            assert (status.delivered, status.lost, status.waiting) == (10 * flaps, 0, 0)
        counts = Counter(numbers(one, other))
        assert set(counts) == set(range(10 * flaps))
        assert sum(counts.values()) - len(counts) <= in_flight
        assert len(one.connects) + len(other.connects) >= flaps


async def test_duplicates_are_recognisable(tmp_path: Path) -> None:
    """A reading that arrives twice has the same epoch and seq: a receiver can keep one, and see that it has all."""
    async with ScriptedBroker() as one, ScriptedBroker() as other:
        async with rig(tmp_path, endpoint(one, ack_timeout=5.0), endpoint(other, ack_timeout=5.0)) as it:
            brokers = {broker.url: broker for broker in (one, other)}
            for _ in range(30):
                await it.until(lambda: it.uplink.broker is not None)
                active = brokers[it.uplink.broker]
                active.hold_acks = True
                it.put(20)
                await active.until(lambda active=active: active.held > 0)
                active.hold_acks = False
                await active.stop()
                await active.start()
            await it.empty()
        found = [
            orjson.loads(payload)
            for broker in (one, other)
            for topic, payload, _, _ in broker.published
            if topic == "base/gw/boiler"
        ]
    by_identity: dict[tuple[int, int], dict[str, Any]] = {}
    for reading in found:
        first = by_identity.setdefault((reading["epoch"], reading["seq"]), reading)
        assert (first["n"], first["ts"]) == (reading["n"], reading["ts"])
    assert len(found) > len(by_identity), "else this proves nothing"
    assert sorted(by_identity) == [(1, seq) for seq in range(1, 601)]


async def test_nodes_that_share_sessions_are_exactly_once(tmp_path: Path) -> None:
    """Mode equal, QoS 2, a session that all nodes know: what was in flight on one node goes on at the next, once."""
    async with ScriptedBroker() as one, ScriptedBroker() as other:
        one.keep_sessions = other.keep_sessions = True
        other.sessions = one.sessions
        options = {"mode": "equal", "store": tmp_path / "client.db", "session_expiry": 600, "ack_timeout": 5}
        async with quick(one, other, window=20, **options) as client:
            brokers = {broker.url: broker for broker in (one, other)}
            for flap in range(20):
                await until(lambda: client.status.broker)
                active = brokers[client.status.broker]
                active.hold_acks = True
                deliveries = await publish(client, range(10 * flap, 10 * flap + 10), 2)
                await active.until(lambda active=active: active.held > 0)
                await active.stop()
                active.hold_acks = False
                await active.start()
                async with asyncio.timeout(10):
                    assert {await delivery for delivery in deliveries} == {Outcome.ACKNOWLEDGED}
        assert sorted(numbers(one, other)) == list(range(200))


# ---- failback


async def test_failback_leaves_no_hole_and_no_duplicate(scripted: ScriptedBroker) -> None:
    """A better broker that has been good for `failback` is used again; the other is left in order, without its will."""
    loop = asyncio.get_running_loop()
    await scripted.stop()
    async with (
        ScriptedBroker() as second,
        quick(scripted, second, failback=0.4, will=Will("will", b"gone")) as client,
    ):
        await client.connected(5)
        await scripted.start()
        await scripted.until(lambda: bool(scripted.connects))
        began, count = loop.time(), 0
        while client.status.broker != scripted.url:
            states = [one.state for one in client.status.brokers]
            assert states in (["away", "active"], ["probation", "active"], ["active", "untried"]), states
            await publish(client, [count])
            count += 1
            await asyncio.sleep(0.001)
        assert 0.35 < loop.time() - began < 0.4 + 3 * SLACK  # not measured alone
        await publish(client, range(count, count + 100))
        assert await client.flush(5)
        await second.until(lambda: bool(second.disconnects))
        assert numbers(second) + numbers(scripted) == list(range(count + 100))
        assert (second.wills, scripted.wills) == ([], [])


@pytest.mark.parametrize(("mode", "failback"), [("hunt", None), ("equal", 0.01)])
async def test_who_stays(scripted: ScriptedBroker, mode: str, failback: float | None) -> None:
    """With failback None, and among equals, a working link is never left; the other broker is not even asked."""
    await scripted.stop()
    async with ScriptedBroker() as second, quick(scripted, second, mode=mode, failback=failback) as client:
        await client.connected(5)
        await scripted.start()
        for number in range(50):
            assert await (await client.publish("t", b"%d" % number)) is Outcome.ACKNOWLEDGED
            await asyncio.sleep(0.001)
        assert client.status.broker == second.url
        assert scripted.connects == []


async def test_a_better_broker_that_flaps_is_not_trusted(scripted: ScriptedBroker) -> None:
    """However often it comes and goes, the working link carries on undisturbed until the better one stays."""
    await scripted.stop()
    async with ScriptedBroker() as second, quick(scripted, second, failback=0.3) as client:
        await client.connected(5)
        await scripted.start()
        for turn in range(5):
            await scripted.until(lambda turn=turn: len(scripted.connects) > turn)
            scripted.drop()
            assert await (await client.publish("t", b"%d" % turn)) is Outcome.ACKNOWLEDGED
        assert client.status.broker == second.url
        assert len(second.connects) == 1
        await until(lambda: client.status.broker == scripted.url)


async def test_failback_goes_to_the_best_of_several(scripted: ScriptedBroker) -> None:
    """With three brokers, the middle one is a step on the way back to the first."""
    async with ScriptedBroker() as second, ScriptedBroker() as third:
        await scripted.stop()
        await second.stop()
        async with quick(scripted, second, third, failback=0.05) as client:
            await until(lambda: client.status.broker == third.url)
            await second.start()
            await until(lambda: client.status.broker == second.url)
            await scripted.start()
            await until(lambda: client.status.broker == scripted.url)
            await asyncio.gather(*await publish(client, range(10)))
        assert numbers(scripted) == list(range(10))


# ---- a broker that names another one


@pytest.mark.parametrize("mode", ["hunt", "equal"])
@pytest.mark.parametrize("when", ["connect", "in service"])
@pytest.mark.parametrize("reason", [0x9C, 0x9D])
async def test_a_server_reference_is_followed_within_the_list(
    scripted: ScriptedBroker, mode: str, when: str, reason: int
) -> None:
    """The broker that is named is next, before any other in the list, if it is one of ours."""
    async with ScriptedBroker() as second, ScriptedBroker() as third:
        said = Properties(server_reference=f"127.0.0.1:{third.port}")
        if when == "connect":
            scripted.refuse, scripted.refusal = reason, said
        async with quick(scripted, second, third, mode=mode, failback=None, protocol="5") as client:
            if when == "in service":
                await until(lambda: client.status.broker == scripted.url)
                scripted.refuse = reason
                scripted.disconnect(reason, said)
            await until(lambda: client.status.broker == third.url)
        assert second.connects == []


async def test_a_server_reference_to_a_stranger_is_not_followed(scripted: ScriptedBroker) -> None:
    """Nobody who is not in the list gets the password; it is said once who was named."""
    async with ScriptedBroker() as stranger, ScriptedBroker() as second:
        scripted.refuse = 0x9D
        scripted.refusal = Properties(server_reference=f"127.0.0.1:{stranger.port}")
        with capture_logs() as logs:
            async with quick(scripted, second, failback=0.05, protocol="5") as client:
                await until(lambda: client.status.broker == second.url and len(scripted.connects) > 3)
        assert stranger.connects == []
    named = [entry["event"] for entry in logs if "names another one" in entry["event"]]
    assert len(named) == 1


async def test_brokers_that_name_each_other_are_not_hammered(scripted: ScriptedBroker) -> None:
    """Two brokers that send us to one another are asked at the pace of the back-off, and no faster."""
    async with ScriptedBroker() as second:
        for broker, other in ((scripted, second), (second, scripted)):
            broker.refuse = 0x9C
            broker.refusal = Properties(server_reference=f"127.0.0.1:{other.port}")
        told = Told()
        async with quick(scripted, second, reconnect_min=0.2, reconnect_max=0.2, protocol="5", **told.calls):
            began = asyncio.get_running_loop().time()
            await until(lambda: len(told.reconnecting) >= 12)
            assert asyncio.get_running_loop().time() - began > 0.2


# ---- what can be seen


async def test_the_state_of_each_broker(scripted: ScriptedBroker) -> None:
    """Status tells of each broker what it does, why it is away and until when, its protocol, and if it is insecure."""
    async with ScriptedBroker() as second:
        scripted.refuse = 0x87
        second.levels = (4,)
        insecure = Broker("mqtts://127.0.0.1:1", tls=Tls(insecure=True))
        options = {"failback": 0.2, "reconnect_min": 0.5, "reconnect_max": 0.5}
        async with quick(scripted, insecure, second, "mqtt://127.0.0.1:2", **options) as client:
            await client.connected(5)
            refused, unchecked, active, untried = client.status.brokers
            assert (refused.state, refused.url, refused.protocol) == ("away", scripted.url, None)
            assert "not authorised" in (refused.reason or "")
            assert refused.next_attempt is not None
            assert 0 <= refused.next_attempt <= 0.5
            assert (unchecked.state, unchecked.insecure) == ("away", True)
            assert "connection refused" in (unchecked.reason or "")
            assert (active.state, active.reason, active.protocol) == ("active", None, "3.1.1")
            assert (untried.state, untried.reason, untried.insecure) == ("untried", None, False)
            scripted.refuse = None
            await until(lambda: client.status.brokers[0].state == "probation")
            assert client.status.broker == second.url
            await until(lambda: client.status.brokers[0].state == "active")
            assert client.status.broker == scripted.url
