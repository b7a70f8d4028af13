"""The outbox in memory, with bounds, against a model: whatever happens, no bound is passed and every id has one end."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.cli.selftest.card import FULL, Card, during
from gateway.clock import Clock
from gateway.outbox import Outbox, OutboxFull, ends
from gateway.outbox.audit import audit
from gateway.outbox.boots import Epoch
from gateway.outbox.bounds import BESIDE, POLICIES, Bounds
from gateway.outbox.commit import State
from gateway.outbox.inspection import Inspection
from gateway.outbox.log import Log
from gateway.outbox.times import Times
from gateway.reading import A_READING, Publication, weigh
from tests.outbox.following import take_all, until

UPLINKS = ("near", "far")


class Quiet:
    def warning(self, *_: object, **__: object) -> None:
        return None


class MemoryMachine(RuleBasedStateMachine):
    """One or two uplinks, bounds by count and bytes, publications and readings, and nothing ever written."""

    @initialize(
        uplinks=st.integers(1, 2),
        policy=st.sampled_from(POLICIES),
        max_count=st.sampled_from([None, 1, 5]),
        max_size=st.sampled_from([30, 250, 10**9]),
    )
    def begin(self, uplinks: int, policy: str, max_count: int | None, max_size: int) -> None:
        self.names = UPLINKS[:uplinks]
        self.policy, self.max_count, self.max_size = policy, max_count, max_size
        self.log = Log(State(1), self.names, has_card=False, high={"alarm"})
        self.high: set[int] = set()
        self.now = 100.0
        clock = Clock(boot=lambda: self.now, wall=lambda: self.now, boot_id="b")
        self.bounds = Bounds(
            self.log,
            Times(clock, [Epoch(1, "b", 0.0)], 0.0),
            max_count=max_count,
            max_size=max_size,
            max_age=60.0,
            when_full=policy,
            logger=Quiet(),
        )
        self.weights: dict[int, int] = {}
        self.in_flight: dict[str, set[int]] = {name: set() for name in self.names}
        self.fates: dict[str, dict[int, str | None]] = {name: {} for name in self.names}
        for name, follower in self.log.followers.items():
            follower.on_fate = lambda ids, reason, name=name: self.tell(name, ids, reason)  # type: ignore[misc]

    def tell(self, name: str, ids: Any, reason: str | None) -> None:
        for one in ids:
            assert one not in self.fates[name], "every end is told once"
            self.fates[name][one] = reason
            self.in_flight[name].discard(one)

    def waiting(self, name: str) -> set[int]:
        return self.weights.keys() - self.fates[name].keys()

    # ---- what may happen

    @rule(size=st.integers(0, 40), reading=st.booleans(), stream=st.sampled_from(["", "", "alarm"]))
    def put(self, size: int, reading: bool, stream: str) -> None:
        values = {"n": 1} if reading else Publication("t", b"x" * size)
        weight = weigh(values)
        idle = {name: self.waiting(name) - self.in_flight[name] for name in self.names}
        try:
            fits = self.bounds.admit(weight, high=stream == "alarm")
        except OutboxFull as error:
            words = str(error)
            fits = None
        if fits is None:
            assert self.policy == "reject"
            assert "max_count" in words or "max_size" in words
            assert self.is_full(weight), "refused for a reason"
            return
        assert fits or self.policy != "reject"
        one = self.log.put(stream, values, self.now, None)
        self.weights[one] = weight
        if stream == "alarm":
            self.high.add(one)
        if not fits:
            self.bounds.refuse(one)
        self.bounds.tell()
        for name in self.names:
            dropped = {other for other in idle[name] if other in self.fates[name]}
            high, normal = dropped & self.high, dropped - self.high
            left = idle[name] - dropped
            assert not high or not left - self.high, "what is of high priority goes last"
            if self.policy == "drop-newest":
                assert not high
                assert not normal or (one in self.high and min(normal) > max(left - self.high, default=0))
            else:
                assert not dropped or self.policy in ("drop-oldest", "thin")
                assert not normal or max(normal) < min(left - self.high, default=one), "the oldest go first"
                assert not high or max(high) < min(left & self.high, default=one)

    @rule(name=st.sampled_from(UPLINKS), limit=st.integers(1, 5))
    def take(self, name: str, limit: int) -> None:
        if name in self.names:
            readings = self.log.take(self.log.followers[name], limit)
            assert len(readings) == min(limit, len(self.waiting(name) - self.in_flight[name]))
            assert all(weigh(reading.values) == self.weights[reading.id] for reading in readings)
            self.in_flight[name] |= {reading.id for reading in readings}

    @rule(name=st.sampled_from(UPLINKS), fate=st.sampled_from(["acknowledge", "lose", "aside", "left"]), data=st.data())
    def end(self, name: str, fate: str, data: st.DataObject) -> None:
        if name in self.names and not self.in_flight[name]:
            self.take(name, 4)
        if name not in self.names or not self.in_flight[name]:
            return
        ids = data.draw(st.lists(st.sampled_from(sorted(self.in_flight[name])), unique=True, min_size=1))
        follower = self.log.followers[name]
        readings = [self.log.tail.slice(one, one + 1)[0] for one in ids]
        assert [reading.id for reading in readings] == ids, "what is in flight is still there"
        if fate == "acknowledge":
            self.log.acknowledge(follower, ids)
        elif fate == "lose":
            ends.lose(self.log, follower, readings, "rejected", lambda reading: reading.boot)
        elif fate == "aside":
            ends.set_aside(self.log, follower, readings, "poison", self.now, lambda reading: reading.boot)
        else:
            follower.left(ids, sent=True)
            self.in_flight[name] -= set(ids)
        follower.tell()
        if fate != "left":
            assert set(ids) <= self.fates[name].keys()

    @rule()
    def thin(self) -> None:
        """What is done with behind something that waits is forgotten now and then: its bytes are not counted."""
        self.log.thin()
        needed = set().union(*(self.waiting(name) for name in self.names))
        assert self.log.weight == sum(self.weights[one] for one in needed)

    # ---- what must hold all the time

    @invariant()
    def conserved(self) -> None:
        if not hasattr(self, "log"):
            return
        for name, follower in self.log.followers.items():
            account, fates = follower.account, list(self.fates[name].values())
            assert account.waiting == len(self.waiting(name))
            assert account.delivered == fates.count(None)
            assert account.quarantined == fates.count("poison")
            assert account.lost == len(fates) - fates.count(None)
            if self.max_count is not None:
                assert account.waiting <= self.max_count
        assert self.log.weight <= self.max_size
        assert sum(loss.count for loss in self.log.ledger.losses) == sum(
            follower.account.lost for follower in self.log.followers.values()
        )

    def is_full(self, weight: int) -> bool:
        needed = set().union(*(self.waiting(name) for name in self.names))
        counts = [len(self.waiting(name)) for name in self.names]
        return (self.max_count is not None and max(counts) >= self.max_count) or (
            sum(self.weights[one] for one in needed) + weight > self.max_size
        )


MemoryMachine.TestCase.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
test_bounds_hold_and_every_id_has_one_end = MemoryMachine.TestCase


def test_the_ledger_in_memory_stays_short_and_its_sum_right() -> None:
    """Whatever is given up, in whatever pattern, the ledger of a run without a card is bounded."""
    log = Log(State(1), ["client"], has_card=False)
    for _ in range(10_000):
        log.put("", {"n": 1}, 0.0, None)
    follower = log.followers["client"]
    for reading in log.take(follower, 10_000)[::2]:
        ends.lose(log, follower, [reading], "rejected", lambda reading: reading.boot)
    assert len(log.ledger.losses) <= 1000
    assert sum(loss.count for loss in log.ledger.losses) == follower.account.lost == 5000
    assert log.ledger.losses[0].first_seq == 1
    assert log.ledger.losses[-1].last_seq == 9999


def test_the_quarantine_in_memory_is_bounded() -> None:
    """What is set aside without a card does not fill the memory: the oldest goes, and the ledger has all."""
    log = Log(State(1), ["client"], has_card=False)
    for _ in range(1500):
        log.put("", Publication("t", b"x"), 0.0, None)
    follower = log.followers["client"]
    ends.set_aside(log, follower, log.take(follower, 1500), "too-big: 9 bytes", 5.0, lambda reading: 1.0)
    assert (follower.account.quarantined, follower.account.lost, follower.account.waiting) == (1000, 1500, 0)
    (loss,) = log.ledger.losses
    assert (loss.first_seq, loss.last_seq, loss.reason) == (1, 1500, "too-big")
    assert log.quarantine.entries[0].reading.seq == 501
    assert log.weight == 0


@pytest.mark.parametrize("policy", ["drop-oldest", "thin", "drop-newest"])
async def test_high_priority_is_kept_longest_on_the_card(tmp_path: Path, policy: str) -> None:
    """On a full card other readings go first, in which place they ever are, and room is there at once."""
    path = tmp_path / "outbox.db"
    dice = random.Random(3)
    async with Outbox(
        path, ["cloud"], max_size=100_000, commit_interval=3600, when_full=policy, high=["alarm"]
    ) as outbox:
        feed = outbox.follow("cloud")
        for n in range(20_000):
            outbox.put("boiler", {"n": n, "noise": dice.random()})
            if n % 200 == 0:
                outbox.put("alarm", {"n": n})
            if n % 100 == 99:
                await outbox.flush()
                assert outbox.used < 140_000
        assert feed.account.lost > 5000
        assert {loss.stream for loss in await outbox.ledger()} == {"boiler"}
        left = [one for one in await take_all(feed, feed.account.waiting) if one.stream == "alarm"]
        assert sorted(one.seq for one in left) == list(range(1, 101))
        feed.left([one.id for one in left])
    with Inspection(path) as card:
        assert audit(card).problems == []


@pytest.mark.parametrize("policy", ["drop-oldest", "thin", "drop-newest"])
async def test_high_priority_goes_when_nothing_else_is_left(tmp_path: Path, policy: str) -> None:
    """A card full of alarms stays within its bound: the oldest of them go, or the newest."""
    dice = random.Random(4)
    async with Outbox(
        tmp_path / "o.db", ["cloud"], max_size=100_000, commit_interval=3600, when_full=policy, high=["alarm"]
    ) as outbox:
        feed = outbox.follow("cloud")
        outbox.put("boiler", {"n": 1})
        for n in range(15_000):
            outbox.put("alarm", {"n": n, "noise": dice.random()})
            if n % 100 == 99:
                await outbox.flush()
                assert outbox.used < 140_000
        for _ in range(10):
            await outbox.flush()
        assert feed.account.lost + feed.account.waiting == 15_001
        losses = await outbox.ledger()
        assert losses[0].stream == "boiler", "first"
        left = [one.seq for one in await take_all(feed, feed.account.waiting)]
        assert left == list(range(left[0], left[-1] + 1))
        assert left[0] == 1 if policy == "drop-newest" else left[-1] == 15_000


async def test_high_priority_is_kept_longest_in_memory(tmp_path: Path) -> None:
    """While the card takes nothing, others go beyond memory_limit; alarms are sent, or written when it does."""
    with Card() as card:
        async with Outbox(
            tmp_path / "o.db", ["cloud", "near"], commit_interval=0.02, memory_limit=1_000_000, high=["alarm"]
        ) as outbox:
            feed, near = outbox.follow("cloud"), outbox.follow("near")
            outbox.put("boiler", {"n": -1})
            await outbox.flush()
            card.restart(during({"write"}, FULL))
            outbox.put("boiler", {"n": -1})
            await until(lambda: outbox.fault == "no-space")
            for n in range(20_000):
                outbox.put("alarm" if n % 100 == 0 else "boiler", {"n": n})
            log = outbox._log
            assert (len(log.tail) + len(log.kept)) * (BESIDE + A_READING) <= 1_000_000
            assert len(log.kept) > 100
            assert log.oldest() == log.kept[0]
            assert not log.is_stored(log.kept[0].id)
            some = await take_all(feed, 150)
            assert {one.stream for one in some} == {"alarm"}, "read back from memory, and before all others"
            feed.acknowledged([one.id for one in some[:100]])
            feed.left([one.id for one in some[100:]])
            outbox.put("boiler", {"n": -1})
            card.heal()
            await until(lambda: outbox.fault is None and not log.kept)
            assert {loss.stream for loss in await outbox.ledger()} == {"boiler"}
            for one, count in ((feed, 100), (near, 200)):
                assert one.account.waiting + one.account.lost + one.account.delivered == 20_003
                rest = await take_all(one, one.account.waiting)
                assert sum(reading.stream == "alarm" for reading in rest) == count
                one.acknowledged([reading.id for reading in rest])
            await outbox.flush()
            assert (log.weight, sum(log.pending.values())) == (0, 0)
    async with Outbox(tmp_path / "o.db", ["cloud", "near"]) as outbox:
        assert outbox.follow("near").account.waiting == 0


async def test_alarms_that_fill_the_memory_go_oldest_first(tmp_path: Path) -> None:
    """memory_limit holds for what is of high priority as well, when nothing else is left."""
    with Card() as card:
        async with Outbox(
            tmp_path / "o.db", ["cloud"], commit_interval=0.02, memory_limit=300_000, high=["alarm"]
        ) as outbox:
            card.restart(during({"write"}, FULL))
            outbox.put("boiler", {"n": -1})
            await until(lambda: outbox.fault == "no-space")
            for n in range(3000):
                outbox.put("alarm", {"n": n})
            log, account = outbox._log, outbox.follow("cloud").account
            assert (len(log.tail) + len(log.kept)) * (BESIDE + A_READING) <= 300_000
            assert (account.waiting, account.lost) == (len(log.tail) + len(log.kept), 3001 - account.waiting)
            card.heal()
            await until(lambda: outbox.fault is None and not log.kept)
            left = [one.seq for one in await take_all(outbox.follow("cloud"), account.waiting)]
            assert left == list(range(3001 - len(left), 3001))


async def test_what_is_more_than_may_wait_goes_with_high_priority_last(tmp_path: Path) -> None:
    """max_count holds for what is on the card, and passes over alarms."""
    async with Outbox(
        tmp_path / "o.db", ["cloud"], commit_interval=3600, max_count=100, when_full="drop-oldest", high=["alarm"]
    ) as outbox:
        for n in range(400):
            outbox.put("alarm" if n % 8 == 0 else "boiler", {"n": n})
            if n % 60 == 59:
                await outbox.flush()
        await outbox.flush()
        await outbox.flush()
        feed = outbox.follow("cloud")
        assert feed.account.waiting == 100
        assert Counter(one.stream for one in await take_all(feed, 100)) == {"alarm": 50, "boiler": 50}
