"""A clock that is never set: what bounds the time of readings, and what the card has to know for that."""

from __future__ import annotations

import asyncio
import tempfile
import zlib
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.outbox.boots import Epoch, begun_after, boots
from gateway.outbox.card.rows import Run
from gateway.outbox.times import Correction
from gateway.timesync import RELEASED, Evidence
from tests.outbox.following import take_all
from tests.outbox.machine import (
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

A_BOOT = st.fixed_dictionaries(
    {
        "down": st.floats(10.0, 1e6),
        "shows": st.one_of(st.just(0.0), st.floats(-1e7, 1e7), st.none()),  # 1970, or so far from the truth, or right
        "rate": st.floats(1 - 4e-4, 1 + 4e-4),
        "is_set": st.sampled_from(["never", "first", "later"]),
        "runs": st.lists(st.floats(0.5, 1e5), min_size=1, max_size=2),
        "sends": st.booleans(),
    }
)


@given(machine_boots=st.lists(A_BOOT, min_size=1, max_size=5))
@settings(max_examples=40)
def test_the_bounds_of_a_time_in_doubt_contain_the_truth(machine_boots: list[dict[str, Any]]) -> None:
    """Whatever boots there were, a reading is either right or marked; if marked, the truth lies between its bounds."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_through(machine_boots, Path(folder, "o.db")))


async def _through(machine_boots: list[dict[str, Any]], path: Path) -> None:
    machine = Machine()
    told: list[dict[str, Any]] = []
    taken = 0
    for boot in machine_boots:
        shows = boot["shows"] and machine.now + boot["down"] + boot["shows"]
        machine.reboot(boot["down"], shows=shows, rate=boot["rate"] if boot["is_set"] == "never" else 1.0)
        if boot["is_set"] == "first":
            machine.set()
        for number, length in enumerate(boot["runs"]):
            async with outbox_of(machine, path, hold=0.0) as outbox:
                for _ in range(3):
                    put(outbox, machine, 1, every=length / 3)
                taken += 3
                if boot["is_set"] == "later" and number == len(boot["runs"]) - 1:
                    machine.set()
                look(outbox)
                if boot["sends"]:
                    feed = outbox.follow("cloud")
                    told += sent(feed, await take_all(feed, feed.account.waiting))
    async with outbox_of(machine, path, hold=0.0) as outbox:
        feed = outbox.follow("cloud")
        told += sent(feed, await take_all(feed, feed.account.waiting))
    assert len(told) == taken
    for one in told:
        if "time_quality" in one:
            assert one["ts_min"] <= one["truth"] * 1000
            assert one["truth"] * 1000 <= one.get("ts_max", float("inf"))
        else:
            assert is_exact(one)


async def test_bounds_are_as_narrow_as_what_is_known(tmp_path: Path) -> None:
    """Between two boots whose clocks were set, one that never was lies between the end of the first and the second."""
    path = tmp_path / "o.db"
    machine = Machine()
    machine.set()
    async with outbox_of(machine, path) as outbox:
        put(outbox, machine, 5, every=100.0)
        await outbox.flush()
    ended = machine.now
    machine.reboot(60.0, shows=0.0)
    async with outbox_of(machine, path) as outbox:
        put(outbox, machine, 5, every=100.0)
    for _ in range(2):
        machine.reboot(60.0)
        machine.set()
        async with outbox_of(machine, path) as outbox:
            put(outbox, machine, 1, every=1000.0)
    async with outbox_of(machine, path) as outbox:
        feed = outbox.follow("cloud")
        told = sent(feed, await take_all(feed, 12))
    assert not any("time_quality" in one for one in [*told[:5], *told[10:]])
    for number, one in enumerate(told[5:10], 1):
        assert one["ts_min"] == pytest.approx((ended + 100.0 * number) * 1000, abs=2000)
        assert one["ts_max"] == pytest.approx((ended + 60.0 + 500.0 + 60.0) * 1000, abs=2000)


async def test_a_clock_that_is_put_back_leaves_bounds_true(tmp_path: Path) -> None:
    """Once it was set it stays so, whatever somebody does to it; the end of an earlier boot is not moved by that."""
    path = tmp_path / "o.db"
    machine = Machine(shows=0.0)
    async with outbox_of(machine, path) as outbox:
        put(outbox, machine, 1)
    machine.reboot()
    machine.set()
    async with outbox_of(machine, path) as outbox:
        machine.step(-TEN_YEARS)
        feed = outbox.follow("cloud")
        (told,) = sent(feed, await take_all(feed, 1))
        assert told["truth"] * 1000 <= told["ts_max"] <= (machine.now + 2) * 1000


@given(lengths=st.lists(st.floats(1000.0, 1e6), min_size=2, max_size=4), rate=st.floats(1 - 4e-4, 1 + 4e-4))
def test_boots_that_never_were_set_follow_one_another(lengths: list[float], rate: float) -> None:
    """What has passed in each counts for those after it, by a clock that may run too fast; restarts take no time."""
    known: list[Epoch] = []
    truth = START
    for number, length in enumerate([0.0, *lengths]):
        since = begun_after(boots(known))
        assert since <= truth
        assert number == 0 or truth - since < 2.0 + 1e-3 * (truth - START), "and no earlier than that explains"
        offset, synced = (truth, True) if number == 0 else (0.0, False)
        known.append(Epoch(number + 1, f"boot {number}", offset, synced, since, length * rate))
        truth += length


# ---- what the card knows


def test_a_clock_that_nobody_has_called_wrong_is_found_out_by_the_next() -> None:
    """A boot in 2036 before one that was set in 2026 was not: it gets its bounds."""
    machine = Machine()
    machine.set()
    times = times_of(machine, Epoch(1, "earlier", START + TEN_YEARS, since=RELEASED, seen=50.0))
    times.judge(machine.evidence)
    ((_, _, doubt),) = times.moments([reading(1, 10.0)], 5.0)
    assert doubt is not None
    assert doubt.latest == pytest.approx(START * 1000, abs=1001)
    assert doubt.earliest == pytest.approx((RELEASED + 10.0) * 1000, abs=6)


def test_a_clock_that_is_put_to_nonsense_is_noticed_at_once() -> None:
    """Nobody has to look first: what goes out in the meantime is marked, and nothing is when it is right again."""
    machine = Machine(evidence=NOBODY)
    machine.now += 50.0
    times = times_of(machine)
    times.judge(machine.evidence)
    for step, is_marked in ((-TEN_YEARS, True), (TEN_YEARS, False)):
        machine.step(step)
        ((_, _, doubt),) = times.moments([reading(100, 10.0)], 5.0)
        assert (doubt is not None) == is_marked


def test_the_newest_run_of_a_boot_knows_its_clock_best() -> None:
    """An earlier run of the same boot, before its clock was set, has the offset that a later one has learned."""
    machine = Machine()
    before = [Epoch(1, "b", 0.0, synced=False, seen=10.0), Epoch(2, "b", START - 5000.0, synced=True, seen=500.0)]
    machine.set()
    times = times_of(machine, *before)
    ((ts, _, doubt),) = times.moments([reading(1, 10.0)], 5.0)
    assert ts == round((START - 4990.0) * 1000)
    assert doubt is None


async def test_the_card_knows_how_long_a_boot_has_lasted(tmp_path: Path) -> None:
    """With each transaction that has readings: after a power cut, the next boot is bounded by the last of them."""
    machine = Machine()
    machine.set()
    async with outbox_of(machine, tmp_path / "o.db") as outbox:
        for _ in range(3):
            put(outbox, machine, 1, every=500.0)
            await outbox.flush()
        assert outbox._store is not None
        assert outbox._store._run.epoch == Epoch(1, machine.boot_id, START, True, RELEASED, 1500.0)


def test_the_card_is_told_of_a_correction_and_not_of_jitter() -> None:
    """Half a second is worth a write, and so is that the clock was set."""
    machine = Machine(evidence=NOBODY)
    times = times_of(machine)
    times.judge(machine.evidence)
    machine.step(0.4)
    times.refresh()
    assert times.correction() is None
    machine.step(0.4)
    times.refresh()
    told = times.correction()
    assert told == Correction(pytest.approx(START + 0.8), None, 0.0)
    times.stored(told)
    assert times.correction() is None
    times.judge(Evidence(kernel=True))
    assert times.correction() == Correction(pytest.approx(START + 0.8), True, 0.0)


@given(
    offset=st.floats(0, 2e9),
    synced=st.sampled_from([None, True, False]),
    since=st.none() | st.floats(0, 2e9),
    seen=st.floats(0, 1e9),
)
def test_a_row_comes_back_as_it_was_written(
    offset: float, synced: bool | None, since: float | None, seen: float
) -> None:
    """Also where a database gives a whole number back as one, and as an earlier version has written it."""
    run = Run(3, "b", offset, 5.0, 1.0, '{"boiler":7}', None, synced, since, seen)
    assert Run.read((*run[:7], run.crc, *run[7:])) == run
    assert Run.read((*run[:7], run.crc, None if synced is None else int(synced), since, seen)) == run
    older = Run(*run[:7])
    old_sum = zlib.crc32(orjson.dumps([float(one) if isinstance(one, int) else one for one in older[:7]]))
    assert Run.read((*older[:7], old_sum)) == older
    assert Run.read((*older[:7], old_sum, None, None, 0.0)) == older
    assert Run.read(older[:4]) == Run(*older[:4])
