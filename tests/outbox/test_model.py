"""The outbox against a model: anything in any order, a crash at any point, and every reading accounted for."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.outbox.log import Commit, Log
from gateway.outbox.store import Store
from gateway.reading import Reading

INTERVAL = 1.0
LEAD = 0.25
UPLINKS = ("near", "far")
SHM = Path("/dev/shm")


class OutboxMachine(RuleBasedStateMachine):
    """Two streams, two uplinks, one file. Time goes on only where a rule says so; commits happen when they are due."""

    @initialize(durable_first=st.booleans())
    def begin(self, durable_first: bool) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=SHM if SHM.is_dir() else None))
        self.durable_first = durable_first
        self.now = 100.0
        self.last = self.now
        self.put_at: dict[int, float] = {}  # every reading that was ever taken in: id -> when
        self.what: dict[int, tuple[str, int]] = {}
        self.on_card: set[int] = set()
        self.acked: dict[str, set[int]] = {name: set() for name in UPLINKS}
        self.acked_on_card: dict[str, set[int]] = {name: set() for name in UPLINKS}
        self.lost: dict[str, set[int]] = {name: set() for name in UPLINKS}
        self.lost_on_card: dict[str, set[int]] = {name: set() for name in UPLINKS}
        self.gone_in_crash: set[int] = set()
        self.first_taken: dict[str, list[int]] = {name: [] for name in UPLINKS}
        self.job: tuple[Commit, float, dict[str, set[int]], dict[str, set[int]]] | None = None
        self.open()

    def open(self) -> None:
        self.store = Store(self.folder / "outbox.db", max_size=10**9, keep_free=0)
        state, _ = self.store.open("boot", 0.0)
        self.log = Log(state, UPLINKS, durable_first=self.durable_first)
        self.in_flight: dict[str, list[int]] = {name: [] for name in UPLINKS}
        self.job = None

    def teardown(self) -> None:
        if not hasattr(self, "store"):
            return
        try:
            self.commit()
            for name in UPLINKS:
                follower = self.log.followers[name]
                follower.left(self.in_flight[name], sent=True)
                self.in_flight[name] = []
                while follower.account.waiting:
                    ids = self.take(name, 1000)
                    assert ids, f"{follower.account.waiting} waiting for {name}, and none can be taken"
                    self.ack(name, ids)
                everything = self.put_at.keys() - self.gone_in_crash
                assert self.acked[name] | self.lost[name] == everything, "taken in = delivered + in the ledger"
            self.commit()
            self.commit()
            assert self.log.blocks == 0, "what all have is deleted"
            in_ledger = dict.fromkeys(UPLINKS, 0)
            for loss in self.store.ledger():
                assert loss.last_seq - loss.first_seq + 1 == loss.count
                in_ledger[loss.uplink] += loss.count
            assert in_ledger == {name: len(self.lost_on_card[name]) for name in UPLINKS}
        finally:
            self.store.close()
            shutil.rmtree(self.folder)

    # ---- what may happen

    @rule(stream=st.sampled_from(["a", "b"]), count=st.integers(1, 5))
    def put(self, stream: str, count: int) -> None:
        for _ in range(count):
            self.log.put(stream, {"n": self.log.next_id}, self.now, None)
            reading = self.log.tail.slice(self.log.next_id - 1, self.log.next_id)[0]
            self.put_at[reading.id] = self.now
            self.what[reading.id] = (reading.stream, reading.seq)
            if self.durable_first:
                self.start()

    @rule(name=st.sampled_from(UPLINKS), limit=st.integers(1, 12))
    def send(self, name: str, limit: int) -> None:
        self.in_flight[name] += self.take(name, limit)

    @rule(name=st.sampled_from(UPLINKS), data=st.data())
    def acknowledge(self, name: str, data: st.DataObject) -> None:
        if self.in_flight[name]:
            ids = data.draw(st.lists(st.sampled_from(self.in_flight[name]), unique=True, min_size=1))
            self.in_flight[name] = [one for one in self.in_flight[name] if one not in ids]
            self.ack(name, ids)

    @rule(names=st.sampled_from([["near"], ["far"], ["near", "far"]]), limit=st.integers(1, 12))
    def deliver(self, names: list[str], limit: int) -> None:
        """Brokers that answer at once."""
        for name in names:
            if ids := self.take(name, limit):
                self.ack(name, ids)

    @rule(stream=st.sampled_from(["a", "b"]), count=st.integers(1, 5))
    def put_and_commit(self, stream: str, count: int) -> None:
        """A device speaks while every broker is away."""
        self.put(stream, count)
        self.commit()

    @rule(name=st.sampled_from(UPLINKS))
    def link_lost(self, name: str) -> None:
        self.log.followers[name].left(self.in_flight[name], sent=True)
        self.in_flight[name] = []

    @rule(seconds=st.sampled_from([0.0625, 0.5, 1.0, 1.5]))
    def time_goes_on(self, seconds: float) -> None:
        until = self.now + seconds
        while True:
            if self.job is not None:
                end = self.job[1] + LEAD
                if end > until:
                    break
                self.now = max(self.now, end)
                self.settle()
                continue
            due = self.log.due(INTERVAL, LEAD, self.last)
            if due is None or due > until:
                break
            self.now = max(self.now, due)
            self.start()
        self.now = until

    @rule()
    def start(self) -> None:
        """A transaction begins: from here on until `settle` it is under way."""
        if self.job is None:
            acked = {name: set(ids) for name, ids in self.acked.items()}
            lost = {name: set(ids) for name, ids in self.lost.items()}
            self.job = (self.log.begin(), self.now, acked, lost)
            self.last = self.now

    @rule()
    def settle(self) -> None:
        if self.job is not None:
            commit = self.job[0]
            self.log.finish(commit, self.write())
            self.job = None
            if self.durable_first and self.log.oldest() is not None:
                self.start()
                self.settle()

    @rule()
    @precondition(lambda self: self.job is not None)
    def write_fails(self) -> None:
        """The transaction did not happen; the retry comes at once, so the promise stands."""
        assert self.job is not None
        began = self.job[1]
        self.log.failed(self.job[0])
        self.job = None
        self.start()
        assert self.job is not None
        self.job = (self.job[0], began, *self.job[2:])

    @rule()
    @precondition(lambda self: self.job is None)
    def shed_oldest(self) -> None:
        """The card is full: the oldest block goes into the ledger."""
        for name in UPLINKS:
            self.shed(name, self.store.oldest(1))

    @rule(written=st.booleans(), seconds=st.sampled_from([0.0, 0.0625, 1.0]))
    def crash(self, written: bool, seconds: float) -> None:
        """SIGKILL, in the middle of a transaction if there is one, before or after it has become durable."""
        self.time_goes_on(seconds)
        if self.job is not None and written:
            self.write()
        self.store.close()
        for name in UPLINKS:
            done = self.acked[name] | self.lost[name]
            promised = (
                {one for one, when in self.put_at.items() if when <= self.now - INTERVAL} - done - self.gone_in_crash
            )
            kept = self.on_card - self.acked_on_card[name] - self.lost_on_card[name]
            assert promised <= kept, "nothing older than commit_interval is lost"
            if self.durable_first:
                seen = {one for other in UPLINKS for one in self.first_taken[other]}
                assert seen - done - self.gone_in_crash <= kept, "nothing is sent before it is on the card"
        for name in UPLINKS:
            self.acked[name] &= self.acked_on_card[name] | (self.acked[name] - self.on_card)
            self.lost[name] = set(self.lost_on_card[name])
        delivered = set.intersection(*self.acked.values())
        alive = self.on_card | delivered
        for name in UPLINKS:
            alive |= self.lost[name]
        self.gone_in_crash |= self.put_at.keys() - alive
        for name in UPLINKS:
            # What one uplink had delivered and the crash took from the other stands for nothing any more.
            self.acked[name] -= self.gone_in_crash
        self.first_taken = {
            name: [] for name in UPLINKS
        }  # after a crash, what was not known to be delivered comes again
        self.open()
        for name in UPLINKS:
            expected = self.put_at.keys() - self.gone_in_crash - self.acked[name] - self.lost[name]
            assert self.log.followers[name].account.waiting == len(expected), "what is on the card is waiting again"

    # ---- what must hold all the time

    @invariant()
    def conserved(self) -> None:
        if not hasattr(self, "log"):
            return
        for name, follower in self.log.followers.items():
            everything = self.put_at.keys() - self.gone_in_crash
            waiting = everything - self.acked[name] - self.lost[name]
            assert follower.account.waiting == len(waiting), "taken in = delivered + waiting + lost"

    # ---- tools

    def take(self, name: str, limit: int) -> list[int]:
        follower = self.log.followers[name]
        readings: list[Reading] = self.log.take(follower, limit)
        while not readings and (start := follower.wanted(self.log.tail.start)) is not None:
            page, damaged = self.store.read(start, self.log.tail.start, 3)
            assert not damaged
            follower.pages.append(page)
            readings = self.log.take(follower, limit)
        ids = [reading.id for reading in readings]
        assert ids == sorted(ids), "in order"
        for reading in readings:
            assert self.what[reading.id] == (reading.stream, reading.seq)
            assert reading.values == {"n": reading.id}
            assert reading.id not in self.acked[name] | self.lost[name], "nothing acknowledged is sent again"
        seen = set(self.first_taken[name])
        new = [one for one in ids if one not in seen]
        assert not (seen and new) or min(new) > max(seen), "order is kept"
        self.first_taken[name] += new
        return ids

    def ack(self, name: str, ids: list[int]) -> None:
        self.log.acknowledge(self.log.followers[name], ids)
        self.acked[name].update(set(ids) - self.lost[name])

    def shed(self, name: str, readings: list[Reading]) -> None:
        self.log.lose(self.log.followers[name], readings, "full", lambda reading: reading.boot)
        self.lost[name].update({reading.id for reading in readings} - self.acked[name])

    def write(self) -> int:
        assert self.job is not None
        commit, _, acked, lost = self.job
        blocks = self.store.commit(commit, None).blocks
        self.on_card |= {reading.id for reading in commit.readings}
        self.acked_on_card = acked
        self.lost_on_card = lost
        return blocks

    def commit(self) -> None:
        self.settle()
        self.start()
        self.settle()


OutboxMachine.TestCase.settings = settings(max_examples=600, stateful_step_count=50, deadline=None)
test_outbox_conserves_readings = OutboxMachine.TestCase
