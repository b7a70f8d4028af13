"""The time of readings: a clock that is set late, or put forward and back, on a machine that the test runs."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway.clock import Clock
from gateway.outbox import Outbox
from gateway.outbox.boots import Epoch
from gateway.outbox.times import HOUR
from gateway.reading import Reading
from gateway.timesync import RELEASED, Evidence, Sync
from tests.outbox.following import take_all
from tests.outbox.machine import (
    AWAITED,
    NOBODY,
    START,
    TEN_YEARS,
    Machine,
    is_exact,
    look,
    outbox_of,
    put,
    reading,
    sent,
    times_of,
)

# ---- a clock that is set late


@pytest.mark.parametrize(
    ("shows", "evidence"),
    [(0.0, NOBODY), (0.0, AWAITED), (START + 10.0, NOBODY), (START + 10.0, AWAITED), (START - 3000.0, NOBODY)],
    ids=["1970", "1970, with a daemon", "last shutdown", "last shutdown, with a daemon", "an hour before the last one"],
)
@pytest.mark.parametrize("by", [None, NOBODY], ids=["NTP", "somebody"])
async def test_what_is_taken_in_before_the_clock_is_set_goes_out_with_the_right_time(
    tmp_path: Path, shows: float, evidence: Evidence, by: Evidence | None
) -> None:
    """Boot at 1970, or at the last shutdown; 500 readings, half of them in an earlier run; the clock is set: all right.

    "Somebody" sets it without a word to the kernel; where a daemon is there, that is not enough.
    """
    path = tmp_path / "o.db"
    machine = Machine(evidence=NOBODY)
    async with outbox_of(machine, path) as outbox:
        put(outbox, machine, 10)
        assert len(sent(outbox.follow("cloud"), await take_all(outbox.follow("cloud"), 10))) == 10
    machine.reboot(7000.0, shows=shows, evidence=evidence)
    async with outbox_of(machine, path) as outbox:
        put(outbox, machine, 250)
        assert outbox.follow("cloud").take(1000) == [], "they wait for the clock"
    async with outbox_of(machine, path) as outbox:
        put(outbox, machine, 250)
        feed = outbox.follow("cloud")
        look(outbox)
        assert feed.take(1000) == []
        machine.set() if by is None else machine.set(by=evidence)
        look(outbox)
        if by is not None and evidence is AWAITED:
            assert feed.take(1000) == []
            machine.set()
            look(outbox)
        told = sent(feed, await take_all(feed, 500))
        assert all(is_exact(one) for one in told)
        assert not any("time_quality" in one for one in told)
        assert [one["seq"] for one in told] == [*range(1, 251)] * 2


async def test_a_reading_that_is_taken_in_late_has_the_time_at_which_it_was_measured(tmp_path: Path) -> None:
    """Its age is taken off on the clock that never jumps, so that a clock that is set later corrects it as well."""
    path, told = tmp_path / "o.db", []
    machine = Machine(shows=0.0, evidence=AWAITED)
    async with outbox_of(machine, path) as outbox:
        for age in (0.0, 3.0, 0.25):
            machine.now += 10.0
            outbox.put("boiler", {"truth": machine.now - age}, None, age)
    async with outbox_of(machine, path) as outbox:  # now they come from the card
        machine.set()
        look(outbox)
        told = sent(outbox.follow("cloud"), await take_all(outbox.follow("cloud"), 3))
    assert [is_exact(one) for one in told] == [True] * 3


async def test_the_hold_ends_by_itself_and_calls_the_uplinks(tmp_path: Path) -> None:
    """Nobody has to ask: after `hold_unsynced` at most, uplinks are told that there is something to take."""
    machine = Machine(shows=0.0)
    async with Outbox(tmp_path / "o.db", ["cloud"], clock=Clock(evidence=lambda: AWAITED), hold_unsynced=0.1) as outbox:
        outbox.put("boiler", {"truth": 1.0})
        feed = outbox.follow("cloud")
        ready = asyncio.Event()
        feed.on_ready(ready.set)
        assert feed.take(10) == []
        async with asyncio.timeout(10):
            await ready.wait()
        assert len(feed.take(10)) == 1
        assert outbox.clock == ("unset", None)
    assert machine.wall == 0.0


async def test_the_hold_is_bounded_and_then_readings_are_marked(tmp_path: Path) -> None:
    """A clock that nobody sets delays readings by `hold_unsynced`; each then says that its time is not to be trusted.

    What is sent before somebody has set it after all stays as it was sent; what comes later is right.
    """
    machine = Machine(shows=0.0)
    with capture_logs() as logs:
        async with outbox_of(machine, tmp_path / "o.db") as outbox:
            feed = outbox.follow("cloud")
            put(outbox, machine, 10)
            machine.now += 29.8
            look(outbox)
            assert feed.take(100) == []
            assert outbox.clock == ("unset", pytest.approx(0.1, abs=0.01))
            machine.now += 0.2
            look(outbox)
            assert outbox.clock == ("unset", None)
            told = sent(feed, feed.take(5))
            assert [one["time_quality"] for one in told] == ["unsynced"] * 5
            assert [one["ts"] for one in told] == [10, 20, 30, 40, 50]
            assert all(RELEASED * 1000 <= one["ts_min"] <= one["truth"] * 1000 for one in told)
            assert not any("ts_max" in one for one in told), "nobody knows yet"
            machine.set()
            look(outbox)
            told = sent(feed, feed.take(5))
            assert all(is_exact(one) and "time_quality" not in one for one in told)
            assert outbox.clock == ("set", None)
            assert outbox._timekeeper._timer is None, "nobody looks any more"
    *said, (level, last) = [(entry["log_level"], entry["event"]) for entry in logs]
    assert said == [
        ("warning", "the clock is not set yet: readings wait for it, up to 30 s"),
        ("warning", "the clock is not set yet: readings go out, marked"),
    ]
    assert level == "info"
    assert last.startswith("the clock was set: it was ")
    assert last.endswith(" s behind")


async def test_a_daemon_that_starts_after_the_gateway_is_waited_for_as_well(tmp_path: Path) -> None:
    """What counts is the time since the start, and not in which order services come up."""
    machine = Machine(evidence=NOBODY)
    async with outbox_of(machine, tmp_path / "o.db") as outbox:
        put(outbox, machine, 2)
        assert len(outbox.follow("cloud").take(1)) == 1
        machine.evidence = AWAITED
        look(outbox)
        assert outbox.follow("cloud").take(1) == []
        machine.set()
        look(outbox)
        assert len(outbox.follow("cloud").take(1)) == 1


async def test_nobody_waits_who_does_not_want_to(tmp_path: Path) -> None:
    """With `hold_unsynced = "0s"` readings go out at once, marked."""
    machine = Machine(shows=0.0)
    async with outbox_of(machine, tmp_path / "o.db", hold=0.0) as outbox:
        put(outbox, machine, 3)
        told = sent(outbox.follow("cloud"), outbox.follow("cloud").take(10))
        assert [one["time_quality"] for one in told] == ["unsynced"] * 3


async def test_where_nobody_sets_the_clock_nothing_waits_and_nothing_is_marked(tmp_path: Path) -> None:
    """A container, or a machine with a hardware clock and no network: a time that may be right is taken as it is."""
    machine = Machine(evidence=NOBODY)
    for _ in range(3):
        with capture_logs() as logs:
            async with outbox_of(machine, tmp_path / "o.db") as outbox:
                put(outbox, machine, 5)
                told = sent(outbox.follow("cloud"), outbox.follow("cloud").take(10))
                assert len(told) == 5
                assert all(is_exact(one) and "time_quality" not in one for one in told)
                assert outbox.clock == ("unknown", None)
        assert logs == []
        machine.reboot(3600.0, evidence=NOBODY)


async def test_a_boot_that_may_go_on_from_the_last_time_is_held_and_not_marked(tmp_path: Path) -> None:
    """A Pi without a hardware clock comes up at its last shutdown: to be waited for, and no reason to call it wrong."""
    path = tmp_path / "o.db"
    machine = Machine(evidence=NOBODY)
    async with outbox_of(machine, path) as outbox:
        put(outbox, machine, 5)
        assert len(outbox.follow("cloud").take(5)) == 5
    machine.reboot(50_000.0, shows=machine.wall + 5.0, evidence=NOBODY)
    async with outbox_of(machine, path) as outbox:
        put(outbox, machine, 5)
        assert outbox.follow("cloud").take(5) == []
        machine.now += 30.0
        look(outbox)
        told = sent(outbox.follow("cloud"), await take_all(outbox.follow("cloud"), 10))
        assert not any("time_quality" in one for one in told)
        assert outbox.clock == ("unknown", None)
    async with outbox_of(machine, path, hold=0.0) as outbox:
        assert outbox.clock == ("unknown", None)


async def test_once_set_it_stays_set_until_the_next_boot(tmp_path: Path) -> None:
    """A network that goes away later, and another start, change nothing; the next boot has to show it anew."""
    path = tmp_path / "o.db"
    machine = Machine()
    machine.set()
    async with outbox_of(machine, path) as outbox:
        put(outbox, machine, 5)
        await outbox.flush()
        machine.evidence = AWAITED
        look(outbox)
        assert outbox.clock == ("set", None)
    async with outbox_of(machine, path) as outbox:
        assert outbox.clock == ("set", None)
    machine.reboot(3600.0)
    async with outbox_of(machine, path) as outbox:
        assert outbox.clock == ("unset", 30.0)


async def test_a_device_s_own_time_is_kept(tmp_path: Path) -> None:
    """Whoever has a clock of its own is not marked for ours."""
    machine = Machine(shows=0.0)
    async with outbox_of(machine, tmp_path / "o.db", hold=0.0) as outbox:
        outbox.put("meter", {"n": 1}, START)
        (told,) = sent(outbox.follow("cloud"), outbox.follow("cloud").take(10))
        assert told == {"ts": round(START * 1000), "seq": 1, "epoch": 1, "n": 1}


# ---- a clock that is put forward and back


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.integers(1, 20)),
            st.tuples(st.just("step"), st.sampled_from([TEN_YEARS, -TEN_YEARS])),
            st.tuples(st.just("take"), st.integers(1, 30)),
            st.tuples(st.just("pass"), st.floats(0.0, 60.0)),
            st.tuples(st.just("commit"), st.none()),
            st.tuples(st.just("restart"), st.none()),
            st.tuples(st.just("reboot"), st.none()),
        ),
        max_size=25,
    ),
    evidence=st.sampled_from([NOBODY, AWAITED, Evidence(kernel=True)]),
)
@example(
    steps=[
        *[("put", 1), ("commit", None), ("step", 80_000.0), ("pass", 4000.0), ("reboot", None)],
        *[("step", 80_000.0), ("pass", 4000.0), ("restart", None), ("pass", 4000.0), ("commit", None)],
    ],
    evidence=NOBODY,
)
@example(steps=[("put", 1), ("step", -TEN_YEARS), ("reboot", None), ("restart", None)], evidence=Evidence(kernel=True))
@example(
    steps=[("put", 1), ("reboot", None), ("step", TEN_YEARS), ("restart", None), ("restart", None)],
    evidence=Evidence(kernel=False),
)
@settings(max_examples=40)
def test_steps_of_ten_years_change_no_order_and_lose_nothing(steps: list[tuple[str, Any]], evidence: Evidence) -> None:
    """Ids and seqs keep their order and have no gap, no clock makes anything too old, and the account is right."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_step(steps, evidence, Path(folder, "o.db")))


async def _step(steps: list[tuple[str, Any]], evidence: Evidence, path: Path) -> None:
    machine = Machine(evidence=evidence)
    taken_in, got = 0, list[Reading]()
    left = [*steps, ("end", None)]
    while left:
        async with outbox_of(machine, path, hold=0.0, max_age=86_400.0) as outbox:
            feed = outbox.follow("cloud")
            while left:
                what, how = left.pop(0)
                if what == "put":
                    put(outbox, machine, how)
                    taken_in += how
                elif what == "step":
                    machine.step(how)
                    look(outbox)
                elif what == "pass":
                    machine.now += how
                elif what == "commit":
                    outbox._keeper.begin()
                    await outbox.flush()
                elif what in ("restart", "reboot"):
                    break
                count = how if what == "take" else feed.account.waiting if what == "end" else 0
                if count := min(count, feed.account.waiting):
                    some = await take_all(feed, count)
                    assert len(sent(feed, some)) == count
                    got += some
            assert feed.account.lost == 0
            assert len(got) + feed.account.waiting == taken_in
            assert await outbox.ledger() == []
        if what == "reboot":
            machine.reboot(evidence=evidence)
    ids = [reading.id for reading in got]
    assert ids == sorted(set(ids))
    assert len(ids) == taken_in
    for epoch in {one.epoch for one in got}:
        seqs = [one.seq for one in got if one.epoch == epoch]
        assert seqs == list(range(1, len(seqs) + 1))


def test_age_is_by_the_time_since_boot() -> None:
    """What this boot has taken in is as old as that, whatever its own time and the clock say."""
    machine = Machine()
    machine.now += 500.0
    times = times_of(machine)
    machine.step(TEN_YEARS)
    assert times.age(reading(100, 100.0)) == pytest.approx(400.0)
    assert times.age(reading(100, 100.0, time=0.0)) == pytest.approx(400.0)


def test_a_clock_that_has_jumped_lately_makes_nothing_old() -> None:
    """Of an earlier boot it is sure that it is over; how long that is takes a clock that is to be trusted."""
    machine = Machine(evidence=NOBODY)
    before = Epoch(1, "earlier", START - 5000.0)
    machine.now += 500.0
    times = times_of(machine, before)
    assert times.age(reading(1, 100.0)) == pytest.approx(500.0), "it may have jumped just before this run"
    machine.now += HOUR + 1
    assert times.age(reading(1, 100.0)) == pytest.approx(HOUR + 501.0 + 4900.0)
    assert times.age(reading(1, 100.0, time=0.0)) == pytest.approx(HOUR + 501.0 + 4900.0), "when it was taken in counts"
    machine.step(TEN_YEARS)
    times.refresh()
    assert times.age(reading(1, 100.0)) == pytest.approx(HOUR + 501.0)
    machine.now += HOUR + 1
    assert times.age(reading(1, 100.0)) > TEN_YEARS, "that is what the clock says, and has said for an hour"


def test_a_clock_that_is_not_set_makes_nothing_old() -> None:
    """Neither this one nor that of the boot which took the reading in."""
    machine = Machine()
    machine.now += 500.0
    before = Epoch(1, "earlier", START - 5000.0, synced=True), Epoch(2, "later", 0.0, synced=False)
    times = times_of(machine, *before)
    times.judge(AWAITED)
    assert times.sync is Sync.UNSET
    assert times.age(reading(1, 100.0)) == pytest.approx(500.0)
    machine.set()
    times.judge(machine.evidence)
    machine.now += HOUR + 1
    assert times.age(reading(1, 100.0)) == pytest.approx(HOUR + 501.0 + 4900.0)
    assert times.age(reading(2, 100.0)) == pytest.approx(HOUR + 501.0)


def test_only_clocks_that_are_known_to_be_right_make_what_an_earlier_boot_has_left_older_than_it_certainly_is() -> None:
    """A step of some hours that nobody has confirmed, before or after a reboot: only what boots have lasted counts."""
    hours = 20 * HOUR
    for synced, evidence, at_least in (
        (None, NOBODY, True),
        (True, NOBODY, True),
        (None, Evidence(kernel=True), True),
        (True, Evidence(kernel=True), False),
    ):
        machine = Machine(evidence=evidence)
        machine.step(hours)
        old = Epoch(1, "earlier", START - 5000.0, synced=synced, seen=300.0)
        times = times_of(machine, old, Epoch(2, "between", START - 4000.0, synced=True, seen=1000.0))
        times.judge(evidence)
        machine.now += HOUR + 1
        certain = HOUR + 1 + 1000.0 + 200.0
        assert (times.age(reading(1, 100.0)) == pytest.approx(certain)) is at_least
        assert times.age(reading(1, 100.0)) >= certain - 0.001
        if not at_least:
            machine.step(5.0)
            times.refresh()
            assert times.age(reading(1, 100.0)) == pytest.approx(certain), "it was set a moment ago: was that right?"


def test_boots_without_a_name_are_not_counted_twice() -> None:
    """Two runs of which nobody knows the boot may have been of the same one."""
    machine = Machine(evidence=NOBODY)
    times = times_of(machine, Epoch(1, "", 0.0, seen=900.0), Epoch(2, "", 0.0, seen=1000.0))
    times.judge(NOBODY)
    machine.now += 50.0
    assert times.age(reading(1, 100.0)) == pytest.approx(50.0)
