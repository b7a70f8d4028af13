"""The outbox in memory, with bounds, against a model: whatever happens, no bound is passed and every id has one end."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.clock import Clock
from gateway.outbox import OutboxFull
from gateway.outbox.boots import Epoch
from gateway.outbox.bounds import POLICIES, Bounds
from gateway.outbox.log import Log, State
from gateway.outbox.times import Times
from gateway.reading import Publication, weigh

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
        self.log = Log(State(1), self.names, has_card=False)
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

    @rule(size=st.integers(0, 40), reading=st.booleans())
    def put(self, size: int, reading: bool) -> None:
        values = {"n": 1} if reading else Publication("t", b"x" * size)
        weight = weigh(values)
        idle = {name: self.waiting(name) - self.in_flight[name] for name in self.names}
        try:
            fits = self.bounds.admit(weight)
        except OutboxFull as error:
            words = str(error)
            fits = None
        if fits is None:
            assert self.policy == "reject"
            assert "max_count" in words or "max_size" in words
            assert self.is_full(weight), "refused for a reason"
            return
        assert fits or self.policy != "reject"
        one = self.log.put("", values, self.now, None)
        self.weights[one] = weight
        if not fits:
            self.bounds.refuse(one)
        self.bounds.tell()
        for name in self.names:
            dropped = {other for other in idle[name] if other in self.fates[name]}
            assert not dropped or self.policy in ("drop-oldest", "thin")
            assert not dropped or max(dropped) < min(idle[name] - dropped, default=one), "the oldest go first"

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
            self.log.lose(follower, readings, "rejected", lambda reading: reading.boot)
        elif fate == "aside":
            self.log.set_aside(follower, readings, "poison", self.now, lambda reading: reading.boot)
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
        log.lose(follower, [reading], "rejected", lambda reading: reading.boot)
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
    log.set_aside(follower, log.take(follower, 1500), "too-big: 9 bytes", 5.0, lambda reading: 1.0)
    assert (follower.account.quarantined, follower.account.lost, follower.account.waiting) == (1000, 1500, 0)
    (loss,) = log.ledger.losses
    assert (loss.first_seq, loss.last_seq, loss.reason) == (1, 1500, "too-big")
    assert log.quarantine.entries[0].reading.seq == 501
    assert log.weight == 0
