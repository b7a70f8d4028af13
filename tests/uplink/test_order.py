"""What goes first after an outage, and how fast: live readings at once, a backlog as the broker can take it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import orjson
import pytest
from structlog.testing import capture_logs

from gateway.clock import BOOTTIME, Clock
from gateway.formats import FORMATS
from gateway.mqtt.packets import Publish
from gateway.outbox import Outbox
from gateway.uplink import Broker, Pace, Readings, Uplink
from gateway.uplink.catchup import KEPT
from tests.scripted_broker import ScriptedBroker
from tests.uplink.test_uplink import Rig, endpoint, readings

LATER = 10_000.0  # seconds by which the clock of these outboxes can be put forward


class AgedRig(Rig):
    """A rig whose readings can become old from one moment to the next, and whose uplink begins when it is told to."""

    def __init__(self, outbox: Outbox, uplink: Uplink, age: Callable[[float], None]) -> None:
        super().__init__(outbox, uplink)
        self.age = age


@asynccontextmanager
async def rig(folder: Path, *brokers: Broker, qos: int = 1, **options: Any) -> AsyncIterator[AgedRig]:
    ahead = [0.0]

    def age(seconds: float) -> None:
        ahead[0] += seconds

    clock = Clock(lambda: BOOTTIME() + ahead[0], lambda: BOOTTIME() + ahead[0] + 1.7e9, "boot")
    async with Outbox(folder / "o.db", ["cloud"], commit_interval=0.2, clock=clock) as outbox:
        route = Readings(lambda stream: f"base/gw/{stream}", FORMATS["json"], qos)
        uplink = Uplink(
            "cloud", brokers, route, outbox.follow("cloud"), reconnect_min=0.02, reconnect_max=0.2, **options
        )
        yield AgedRig(outbox, uplink, age)


class Serving:
    """A broker that acknowledges one message after the other, `rate` a second, however many it holds."""

    def __init__(self, broker: ScriptedBroker, rate: float) -> None:
        self._broker = broker
        self._every = 1 / rate
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self.held: list[int] = []
        """How many it held, each time that it acknowledged one."""

    async def __aenter__(self) -> Self:
        self._broker.hold_acks = True
        self._due = self._loop.time()
        self._serve()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._broker.release()

    def _serve(self) -> None:
        while self._due <= self._loop.time():
            self._due += self._every
            if self._broker.held_back:
                self.held.append(len(self._broker.held_back))
                conversation, data = self._broker.held_back.pop(0)
                conversation.transport.write(data)
        self._timer = self._loop.call_at(self._due, self._serve)


def marked(broker: ScriptedBroker) -> dict[int, bool]:
    """Whether each reading, by its number, came as historical."""
    contents = [orjson.loads(payload) for topic, payload, _, _ in broker.published if topic == "base/gw/boiler"]
    return {content["n"]: content.get("historical", False) for content in contents}


@pytest.mark.parametrize(
    ("live_first", "expected"),
    [(True, [*range(1, 17), *range(101, 151), *range(17, 101)]), (False, list(range(1, 151)))],
)
async def test_what_goes_first(tmp_path: Path, live_first: bool, expected: list[int]) -> None:
    """Live readings overtake what waits of a backlog, in order; with strict order nothing overtakes anything."""
    async with ScriptedBroker() as broker:
        broker.hold_acks = True
        window = 400 if live_first else 16
        async with rig(tmp_path, endpoint(broker, ack_timeout=5.0, window=window), live_first=live_first) as it:
            it.put(100)
            async with it.uplink:
                await broker.until(lambda: len(readings(broker)) == 16)
                it.put(50)
                if live_first:
                    await broker.until(lambda: len(readings(broker)) == 66)
                broker.release()
                await it.empty()
        assert readings(broker) == expected


async def test_a_backlog_is_marked_as_historical_and_live_readings_are_not(tmp_path: Path) -> None:
    """Behind a second of age what comes from a backlog is history; what is live only after five."""
    async with ScriptedBroker() as broker, rig(tmp_path, endpoint(broker), live_first=True) as it:
        it.put(10)
        it.age(2.0)
        async with it.uplink:
            await it.empty()
            broker.hold_acks = True
            it.put(50)  # all that the window takes
            await broker.until(lambda: len(readings(broker)) == 60)
            it.put(10)
            it.age(2.0)
            broker.release()
            await it.empty()
            broker.hold_acks = True
            it.put(60)
            await broker.until(lambda: len(readings(broker)) == 120)
            it.age(6.0)
            broker.release()
            await it.empty()
        assert {number for number, historical in marked(broker).items() if historical} == {
            *range(1, 11),
            *range(121, 131),
        }


async def test_strict_order_marks_only_what_is_old(tmp_path: Path) -> None:
    """There is no backlog to tell from the rest."""
    async with ScriptedBroker() as broker, rig(tmp_path, endpoint(broker)) as it:
        it.put(10)
        it.age(4.0)
        it.put(10)
        it.age(2.0)
        async with it.uplink:
            await it.empty()
        assert {number for number, historical in marked(broker).items() if historical} == set(range(1, 11))


@pytest.mark.alone
async def test_a_slow_broker_gets_as_much_of_a_backlog_as_live_readings_can_bear(tmp_path: Path) -> None:
    """Of a window of 400, a broker that takes 400 a second soon holds a fraction, and so answers in a fraction."""
    window, rate = 400, 400.0
    options = {"window": window, "ack_timeout": 10.0}
    async with ScriptedBroker() as broker, rig(tmp_path, endpoint(broker, **options), live_first=True) as it:
        it.put(1600)
        async with Serving(broker, rate) as serving, it.uplink:
            await it.until(lambda: it.uplink.account.delivered >= 800, 20.0)
            settled = len(serving.held)
            it.put(20)
            await it.until(lambda: 1620 in readings(broker), 20.0)
            before = readings(broker).index(1601) + 1
            assert before < 1600, "live readings did not wait for the end of the backlog"
            await it.until(lambda: it.uplink.account.delivered >= 1200, 20.0)
            held = sorted(serving.held[settled:])
            assert held[len(held) * 9 // 10] <= window / 2, "so a live reading waits for less than half a second"
            assert held[len(held) // 2] >= 2, "and the broker is not idle"
            await it.until(lambda: it.uplink.account.waiting == 0, 20.0)
        assert [number for number in readings(broker) if number > 1600] == list(range(1601, 1621))
        assert sorted(readings(broker)) == list(range(1, 1621))


async def test_strict_order_fills_the_window_of_a_slow_broker(tmp_path: Path) -> None:
    """What the test above compares itself with: without pacing the broker holds all that it may."""
    options = {"window": 400, "ack_timeout": 10.0}
    async with ScriptedBroker() as broker, rig(tmp_path, endpoint(broker, **options)) as it:
        it.put(800)
        async with Serving(broker, 400.0) as serving, it.uplink:
            await it.until(lambda: it.uplink.account.delivered >= 300, 20.0)
            assert max(serving.held) >= 390


async def test_at_qos_0_a_backlog_is_not_held_back(tmp_path: Path) -> None:
    """Nothing is acknowledged there, so that the window grows at once, and the transport is what slows down."""
    async with ScriptedBroker() as broker, rig(tmp_path, endpoint(broker), qos=0, live_first=True) as it:
        it.put(3000)
        async with it.uplink:
            await it.empty()
            assert it.uplink.link is not None
            assert it.uplink.link._outgoing._catchup.window == 50 - 50 // KEPT
            await broker.wait_published(3000)
        assert readings(broker) == list(range(1, 3001))


@pytest.mark.parametrize("live_first", [False, True])
@pytest.mark.parametrize("reason", [0x96, 0x97])
async def test_a_quota_slows_down_and_costs_neither_the_link_nor_a_reading(
    tmp_path: Path, live_first: bool, reason: int
) -> None:
    """What is refused because there was too much is sent again, later, over the same link."""
    allowed = [30]

    def refuse(packet: Publish) -> int:
        if packet.topic == "base/gw/boiler":
            allowed[0] -= 1
        return 0 if allowed[0] >= 0 else reason

    async with ScriptedBroker() as broker:
        broker.puback_reason = refuse
        with capture_logs() as logs:
            async with rig(tmp_path, endpoint(broker, ack_timeout=2.0), live_first=live_first) as it, it.uplink:
                it.put(100)
                await it.until(lambda: it.uplink.account.delivered == 30)
                await broker.until(lambda: len(broker.publishes) >= 32)
                allowed[0] = 1000
                it.put(100)
                await it.empty()
                assert it.uplink.account.delivered == 200
        assert len(broker.connects) == 1
        assert sorted(readings(broker)) == list(range(1, 201))
        assert len(broker.publishes) < 320, "it is not asked over and over"
        assert sum("refuses some messages for now" in entry["event"] for entry in logs) == 1


async def test_a_broker_that_takes_nothing_any_more_is_left(tmp_path: Path) -> None:
    """A quota that nothing is left of is as good as a dead broker: after `ack_timeout` the next one carries."""
    async with ScriptedBroker() as first, ScriptedBroker() as second:
        first.puback_reason = lambda packet: 0x97
        async with rig(tmp_path, endpoint(first), endpoint(second), live_first=True) as it, it.uplink:
            it.put(100)
            await it.empty()
        assert set(readings(second)) == set(range(1, 101))
        assert len(first.publishes) < 150


async def test_the_rate_limit_holds_over_all_links_and_live_readings_count(tmp_path: Path) -> None:
    """A metered link is a promise to whoever pays: what is more waits in the outbox, whichever broker is linked to."""
    async with ScriptedBroker() as first, ScriptedBroker() as second:
        brokers = (endpoint(first, ack_timeout=5.0), endpoint(second, ack_timeout=5.0))
        pace = Pace(messages_per_second=20)
        loop = asyncio.get_running_loop()
        async with rig(tmp_path, *brokers, live_first=True, pace=pace) as it:
            it.put(20)
            began = loop.time()
            async with it.uplink:
                await first.until(lambda: len(readings(first)) >= 5)
                await first.stop()
                await second.until(lambda: len(readings(second)) >= 5)
                it.put(2)
                await it.empty()
            took = loop.time() - began
        sent = len(readings(first)) + len(readings(second))
        assert sent <= 20 * max(1.0, took)
        assert sent >= 22
        after = readings(second)
        assert after.index(21) < after.index(20)
        assert after.index(21) + 1 == after.index(22)


async def test_suspects_go_before_what_is_live(tmp_path: Path) -> None:
    """A reading of a backlog on which a broker hangs up is found in three losses, however many live ones there are."""
    sent_after: list[int] = []

    async with ScriptedBroker() as broker, rig(tmp_path, endpoint(broker), live_first=True) as it:

        def hang_up(packet: Publish) -> bool:
            if b'"n":33,' not in packet.payload.replace(b"}", b","):
                return False
            sent_after.append(len(broker.publishes))
            it.put(100)
            return True

        broker.hang_up_on = hang_up
        it.put(200)
        with capture_logs() as logs:
            async with it.uplink:
                await it.until(lambda: it.uplink.account.quarantined == 1)
                newest = [orjson.loads(one.payload)["n"] for one in broker.publishes[sent_after[1] : sent_after[2]]]
                assert newest, "a suspect"
                assert max(newest) <= 200
                await it.empty()
        assert sum(": lost" in entry["event"] for entry in logs) == 3
        assert set(range(1, it.outbox.taken_in + 1)) - set(readings(broker)) == {33}


async def test_a_live_suspect_does_not_become_backlog(tmp_path: Path) -> None:
    """What is suspected and was live is not put behind a backlog of days when the link is lost over it."""
    async with ScriptedBroker() as broker, rig(tmp_path, endpoint(broker), live_first=True) as it:
        broker.hang_up_on = lambda packet: b'"n":2001,' in packet.payload.replace(b"}", b",")
        it.put(2000)
        async with it.uplink:
            await broker.until(lambda: len(readings(broker)) > 0)
            it.put(1)
            await it.until(lambda: it.uplink.account.quarantined == 1)
            assert it.uplink.account.waiting > 1000
            await it.empty()
        assert set(readings(broker)) == set(range(1, 2001))


async def test_a_suspect_that_has_met_another_end_is_waited_for_no_more(tmp_path: Path) -> None:
    """What is given up while it is suspected does not hold up the rest."""
    async with ScriptedBroker() as broker, rig(tmp_path, endpoint(broker, ack_timeout=5.0), live_first=True) as it:
        broker.hold_acks = True
        async with it.uplink:
            it.put(10)
            await broker.until(lambda: len(readings(broker)) == 10)
            feed = it.uplink._feed
            link = it.uplink.link
            assert link is not None
            broker.drop()
            await link.gone.wait()
            feed.rejected([feed.horizon + number for number in range(10)], "full")
            broker.release()
            it.put(50)
            await it.empty()
        assert readings(broker)[10:] == list(range(11, 61))
