"""The outbox against a model: anything in any order, a crash at any point, and every reading accounted for."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Coroutine, Generator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.clock import Clock
from gateway.outbox import ends
from gateway.outbox.boots import Epoch
from gateway.outbox.bounds import Bounds
from gateway.outbox.card.room import Written
from gateway.outbox.card.store import Store
from gateway.outbox.commit import Commit
from gateway.outbox.follower import Follower
from gateway.outbox.ledger import Loss
from gateway.outbox.log import Log
from gateway.outbox.quarantine import Quarantined
from gateway.outbox.shedding import Shedding
from gateway.outbox.times import Times
from gateway.reading import Publication, Reading

INTERVAL = 1.0
LEAD = 0.25
UPLINKS = ("near", "far")
SHM = Path("/dev/shm")
T = TypeVar("T")


@dataclass
class Ends:
    """What has become of the readings of one uplink: sets of ids."""

    acked: set[int] = field(default_factory=set)
    lost: set[int] = field(default_factory=set)
    aside: set[int] = field(default_factory=set)
    again: set[int] = field(default_factory=set)  # was aside, and was put in again under another id

    def all(self) -> set[int]:
        return self.acked | self.lost | self.aside | self.again


def boot(reading: Reading) -> float:
    return reading.boot


class AtOnce:
    """A writer whose thread has always done already what it was given."""

    def submit(self, job: Callable[[], Any]) -> AtOnce:
        self.result = job()
        return self

    def __await__(self) -> Generator[None, None, Any]:
        return self.result
        yield


def now(work: Coroutine[Any, Any, T]) -> T:
    """Return what comes of something that waits only for such a writer."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    raise AssertionError("it waits")


class Quiet:
    def warning(self, *_: object, **__: object) -> None:
        return None


class OutboxMachine(RuleBasedStateMachine):
    """Three streams, two uplinks, one file.

    Time goes on only where a rule says so; commits happen when they are due.
    """

    @initialize(durable_first=st.booleans(), policy=st.sampled_from(["drop-oldest", "drop-newest", "thin"]))
    def begin(self, durable_first: bool, policy: str) -> None:
        self.policy = policy
        self.folder = Path(tempfile.mkdtemp(dir=SHM if SHM.is_dir() else None))
        self.durable_first = durable_first
        self.now = 100.0
        self.last = self.now
        self.readings: dict[int, Reading] = {}  # every reading that was ever taken in
        self.on_card: set[int] = set()
        self.ends = {name: Ends() for name in UPLINKS}
        self.ends_on_card = {name: Ends() for name in UPLINKS}
        self.not_for: dict[str, set[int]] = {name: set() for name in UPLINKS}  # put in again for the other uplink
        self.gone_in_crash: set[int] = set()
        self.gone_for_good: set[int] = set()
        self.released_ever: dict[str, set[int]] = {name: set() for name in UPLINKS}
        self.open()

    def open(self) -> None:
        self.store = Store(self.folder / "outbox.db", max_size=10**9, keep_free=0, uplinks=UPLINKS)
        state, _ = self.store.open("boot", 0.0, 0.0 if self.durable_first else INTERVAL)
        self.log = Log(state, UPLINKS, durable_first=self.durable_first, high={"alarm"})
        clock = Clock(boot=lambda: self.now, wall=lambda: self.now, boot_id="boot")
        times = Times(clock, [Epoch(state.epoch, "boot", 0.0)], 0.0)
        bounds = Bounds(
            self.log, times, max_count=None, max_size=10**9, max_age=None, when_full=self.policy, logger=Quiet()
        )
        self.shedding = Shedding(self.log, self.store, AtOnce(), times, bounds)  # type: ignore[arg-type]
        self.job: tuple[Commit, float, dict[str, Ends]] | None = None
        self.written: Written | None = None  # of that job, once it is durable
        self.in_flight: dict[str, list[int]] = {name: [] for name in UPLINKS}
        self.sure: dict[str, set[int]] = {name: set() for name in UPLINKS}  # released, and `then` was called
        self.first_taken: dict[str, list[int]] = {name: [] for name in UPLINKS}
        self.told: dict[str, list[int]] = {name: [] for name in UPLINKS}
        self.ended: dict[str, set[int]] = {name: set() for name in UPLINKS}  # in this run
        for name, follower in self.log.followers.items():
            follower.on_fate = lambda ids, _, told=self.told[name]: told.extend(ids)  # type: ignore[misc]

    def teardown(self) -> None:
        if not hasattr(self, "store"):
            return
        try:
            self.commit()
            for name in UPLINKS:
                follower = self.log.followers[name]
                self.link_lost(name)
                if follower.released:
                    self.ack(name, sorted(follower.released))
                while follower.account.waiting:
                    ids = self.take(name, 1000)
                    assert ids, f"{follower.account.waiting} waiting for {name}, and none can be taken"
                    self.ack(name, ids)
                assert self.take(name, 1) == [], "and it passes over what is not there any more"
                assert self.ends[name].all() == self.everything(name), "taken in = delivered + lost + set aside"
                assert sorted(self.told[name]) == sorted(self.ended[name]), "every end is told, once"
            self.commit()
            self.commit()
            assert self.log.blocks == 0, "what all have is deleted"
            in_ledger = dict.fromkeys(UPLINKS, 0)
            losses = self.store.ledger()
            self.check_windows([loss for loss in losses if loss.reason == "crash-window"])
            for loss in losses:
                if loss.reason == "crash-window":
                    continue
                span = loss.last_seq - loss.first_seq + 1
                assert loss.count == span or (self.policy == "thin" and 0 < loss.count < span)
                in_ledger[loss.uplink] += loss.count
            every = {name: self.ends[name] for name in UPLINKS}
            assert in_ledger == {name: len(ends.lost | ends.aside | ends.again) for name, ends in every.items()}
            aside = {(entry.uplink, entry.reading.id): entry.reading for entry in self.store.quarantined()}
            assert aside == {(name, one): self.readings[one] for name in UPLINKS for one in self.ends[name].aside}
        finally:
            self.store.close()
            shutil.rmtree(self.folder)

    # ---- what may happen

    @rule(stream=st.sampled_from(["a", "b", "alarm"]), count=st.integers(1, 5), publication=st.booleans())
    def put(self, stream: str, count: int, publication: bool = False) -> None:
        for _ in range(count):
            n = self.log.next_id
            values = Publication(stream, b"%d" % n, n % 3, properties={"correlation_data": b"\xff"})
            self.log.put(stream, values if publication else {"n": n}, self.now, None)
            self.note(n)
            if self.durable_first:
                self.start()

    @rule(name=st.sampled_from(UPLINKS), limit=st.integers(1, 12))
    def send(self, name: str, limit: int) -> None:
        self.in_flight[name] += self.take(name, limit)

    @rule(name=st.sampled_from(UPLINKS), data=st.data())
    def acknowledge(self, name: str, data: st.DataObject) -> None:
        """PUBACK; or PUBCOMP, also for what an earlier run has released."""
        candidates = [*self.in_flight[name], *sorted(self.log.followers[name].released)]
        if candidates:
            self.ack(name, data.draw(st.lists(st.sampled_from(candidates), unique=True, min_size=1)))

    @rule(names=st.sampled_from([["near"], ["far"], ["near", "far"]]), limit=st.integers(1, 12))
    def deliver(self, names: list[str], limit: int) -> None:
        """Brokers that answer at once."""
        for name in names:
            if ids := self.take(name, limit):
                self.ack(name, ids)

    @rule(stream=st.sampled_from(["a", "b", "alarm"]), count=st.integers(1, 5))
    def put_and_commit(self, stream: str, count: int) -> None:
        """A device speaks while every broker is away."""
        self.put(stream, count)
        self.commit()

    @rule(name=st.sampled_from(UPLINKS))
    def link_lost(self, name: str) -> None:
        self.log.followers[name].left(self.in_flight[name], sent=True)
        assert all(map(self.log.followers[name].was_sent, set(self.in_flight[name]) - self.ends[name].all()))
        self.in_flight[name] = []

    @rule(name=st.sampled_from(UPLINKS), data=st.data())
    def release(self, name: str, data: st.DataObject) -> None:
        """PUBREC: noted at once, and sure when the card knows."""
        if ids := self.draw_in_flight(name, data):
            self.log.followers[name].release(ids)
            self.log.noted = True
            self.log.urgent.append(lambda: self.sure[name].update(set(ids) & self.log.followers[name].released))
            self.released_ever[name].update(ids)

    @rule(name=st.sampled_from(UPLINKS))
    def unrelease(self, name: str) -> None:
        """The broker has lost the session: nothing is taken until the card knows."""
        follower = self.log.followers[name]
        if ids := follower.unrelease():
            follower.held = self.log.noted = True
            self.sure[name].clear()
            self.log.urgent.append(lambda: self.unreleased(follower, ids))

    def unreleased(self, follower: Follower, ids: list[int]) -> None:
        follower.held = False
        follower.left(ids, sent=True)

    @rule(name=st.sampled_from(UPLINKS), data=st.data())
    def set_aside(self, name: str, data: st.DataObject) -> None:
        """A broker will never take these."""
        if ids := self.draw_in_flight(name, data):
            fresh = set(ids) - self.ends[name].all()
            follower = self.log.followers[name]
            ends.set_aside(self.log, follower, [self.readings[one] for one in ids], "too-big", self.now, boot)
            follower.tell()
            self.ends[name].aside |= fresh
            self.ended[name] |= fresh

    @rule(again=st.booleans())
    @precondition(lambda self: self.job is None)
    def empty_the_quarantine(self, again: bool) -> None:
        """A person tries again what was set aside, or discards it."""
        entries: list[Quarantined] = self.log.quarantine.view(self.store.quarantined())
        for name in UPLINKS:
            assert {entry.reading.id for entry in entries if entry.uplink == name} == self.ends[name].aside
        first = self.log.next_id
        if again:
            ends.retry(self.log, entries, self.now, boot)
            for one, entry in zip(range(first, self.log.next_id), entries, strict=True):
                self.note(one)
                self.not_for[next(name for name in UPLINKS if name != entry.uplink)].add(one)
                self.ends[entry.uplink].again.add(entry.reading.id)
        else:
            ends.discard(self.log, entries)
            for entry in entries:
                self.ends[entry.uplink].lost.add(entry.reading.id)
        for entry in entries:
            self.ends[entry.uplink].aside.discard(entry.reading.id)

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
            commit = self.shedding.begin()
            self.note_losses()
            self.job = (commit, self.now, deepcopy(self.ends))
            self.last = self.now

    @rule()
    def settle(self) -> None:
        if self.job is not None:
            commit = self.job[0]
            written = self.write()
            self.shedding.done(commit, written)
            self.note_losses()
            self.shedding.take_note(written)
            self.log.finish(commit, written.blocks)
            self.job = None
            for then in commit.then:
                then()
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
        self.shedding.failed()
        self.job = None
        self.start()
        assert self.job is not None
        self.job = (self.job[0], began, self.job[2])

    @rule(size=st.integers(1, 400), new=st.sampled_from(["a", "alarm", None]))
    @precondition(lambda self: self.job is None)
    def too_full(self, size: int, new: str | None) -> None:
        """The card is full: something goes, with the next transaction; what is of high priority goes last."""
        first = self.log.next_id
        if new is not None:
            self.put(new, 1)
        self.commit()
        commit = Commit(self.log.tail.slice(first, self.log.next_id), self.log.next_id, {}, 0)
        spans = [span for name in UPLINKS for span in self.log.followers[name].in_flight()]
        left, idle = self.normal_left([]), self.normal_left(spans)
        flying = {name: set(self.in_flight[name]) - self.ends[name].all() for name in UPLINKS}
        written = Written(self.log.blocks, 16 + size, 16, 0, 16)
        self.shedding.take_note(written)
        now(self.shedding.bound(commit, written))
        lost = self.note_losses()
        for name in UPLINKS:
            high = {one for one in lost[name] if self.readings[one].stream == "alarm"}
            assert not high or not left, "what is of high priority goes when nothing else is left"
            assert not lost[name] & flying[name] or not idle, "what is with a broker when no other block is left"

    def normal_left(self, spared: list[tuple[int, int]]) -> set[int]:
        """Return what is on the card, is not of high priority, and is lacking."""
        pieces = self.store.oldest(1 << 30, spared, high=False)
        followers = self.log.followers.values()
        return {one.id for piece in pieces for one in piece.readings if any(each.lacks(one) for each in followers)}

    def note_losses(self) -> dict[str, set[int]]:
        """Return what was given up since the last time, of what this model has not given up itself."""
        lost = {}
        for name in UPLINKS:
            lost[name] = set(self.told[name]) - self.ended[name]
            assert not lost[name] & self.ends[name].all(), "nothing has two ends"
            self.ends[name].lost |= lost[name]
            self.ended[name] |= lost[name]
            self.sure[name] -= lost[name]
        return lost

    @rule(written=st.booleans(), seconds=st.sampled_from([0.0, 0.0625, 1.0]))
    def crash(self, written: bool, seconds: float) -> None:
        """SIGKILL, in the middle of a transaction if there is one, before or after it has become durable."""
        self.time_goes_on(seconds)
        if self.job is not None and written:
            self.write()
            for name in UPLINKS:
                self.ends[name].lost |= self.ends_on_card[name].lost
        self.store.close()
        for name in UPLINKS:
            ends = self.ends[name].all() | self.not_for[name]
            old = {one for one, reading in self.readings.items() if reading.boot <= self.now - INTERVAL}
            kept = self.on_card - self.ends_on_card[name].all()
            assert old - ends - self.gone_in_crash <= kept, "nothing older than commit_interval is lost"
            if self.durable_first:
                seen = {one for other in UPLINKS for one in self.first_taken[other]}
                assert seen - ends - self.gone_in_crash <= kept, "nothing is sent before it is on the card"
        sure = self.sure
        self.forget()
        self.open()
        for name in UPLINKS:
            follower = self.log.followers[name]
            expected = self.everything(name) - self.ends[name].all()
            assert follower.account.waiting == len(expected), "what is on the card is waiting again"
            assert sure[name] - self.ends[name].all() <= follower.released, (
                "nothing that was surely released is forgotten"
            )
            assert follower.released <= self.released_ever[name] & expected

    def forget(self) -> None:
        """Take out of the model what only memory knew."""
        for name in UPLINKS:
            ends, stored = self.ends[name], self.ends_on_card[name]
            ends.acked &= stored.acked | (ends.acked - self.on_card)
            ends.lost, ends.aside, ends.again = set(stored.lost), set(stored.aside), set(stored.again)
        by_all = set.intersection(*(self.ends[name].acked | self.not_for[name] for name in UPLINKS))
        alive = (self.on_card | by_all).union(*(ends.lost | ends.aside | ends.again for ends in self.ends.values()))
        self.gone_in_crash = self.readings.keys() - alive
        self.gone_for_good |= self.gone_in_crash
        for name in UPLINKS:
            # What one uplink had delivered and the crash took from the other stands for nothing any more.
            self.ends[name].acked -= self.gone_in_crash

    def check_windows(self, windows: Sequence[Loss]) -> None:
        """What a crash has taken is behind what the ledger says of its stream and epoch, for each uplink."""
        assert not (windows and self.durable_first), "nothing that was accepted can be lost"
        for one in () if self.durable_first else self.gone_for_good:
            reading = self.readings[one]
            for name in UPLINKS:
                mine = [each for each in windows if (each.uplink, each.epoch) == (name, reading.epoch)]
                assert mine, "the epoch is named"
                # A stream that began after the last transaction is one that the card has never heard of.
                assert all(each.first_seq <= reading.seq for each in mine if each.stream == reading.stream)

    # ---- what must hold all the time

    @invariant()
    def conserved(self) -> None:
        if not hasattr(self, "log"):
            return
        for name, follower in self.log.followers.items():
            ends, account = self.ends[name], follower.account
            waiting = self.everything(name) - ends.all()
            assert account.waiting == len(waiting), "taken in = delivered + waiting + lost"
            assert account.quarantined == len(ends.aside)
            assert follower.released <= waiting
            assert len(self.told[name]) == len(set(self.told[name])), "every end is told once"

    # ---- tools

    def draw_in_flight(self, name: str, data: st.DataObject) -> list[int]:
        """Return some of what is in flight, and no longer is; send first if nothing is."""
        if not self.in_flight[name]:
            self.put("a", 2, publication=True)
            self.commit()
            self.send(name, 4)
        if not self.in_flight[name]:
            return []
        ids = data.draw(st.lists(st.sampled_from(self.in_flight[name]), unique=True, min_size=1))
        self.in_flight[name] = [one for one in self.in_flight[name] if one not in ids]
        return ids

    def everything(self, name: str) -> set[int]:
        return self.readings.keys() - self.gone_in_crash - self.not_for[name]

    def note(self, one: int) -> None:
        (self.readings[one],) = self.log.tail.slice(one, one + 1)

    def take(self, name: str, limit: int) -> list[int]:
        follower = self.log.followers[name]
        readings: list[Reading] = self.log.take(follower, limit)
        while not readings and (wanted := list(follower.wanted(self.log.tail.start))):
            for shelf, start, upto in wanted:
                page, damaged = self.store.read(start, upto, 3)
                assert not damaged
                if self.shedding.is_stale(page):
                    return []  # it is read again when the transaction is over
                shelf.put(page)
            readings = self.log.take(follower, limit)
        ids = [reading.id for reading in readings]
        for reading in readings:
            assert reading == self.readings[reading.id]
            assert reading.id not in self.ends[name].all(), "nothing that has met its end is sent again"
            assert reading.id not in follower.released, "nothing that is released is sent again"
        for is_high in (True, False):
            mine = [one for one in ids if (self.readings[one].stream == "alarm") is is_high]
            assert mine == sorted(mine), "in order"
        normal = {one for one in self.readings if self.readings[one].stream != "alarm"}
        seen = set(self.first_taken[name]) - self.released_ever[name]
        new = [one for one in ids if one not in seen | self.released_ever[name]]
        before, after = seen & normal, [one for one in new if one in normal]
        assert not (before and after) or min(after) > max(before), "order is kept"
        self.first_taken[name] += new
        return ids

    def ack(self, name: str, ids: Sequence[int]) -> None:
        self.in_flight[name] = [one for one in self.in_flight[name] if one not in ids]
        fresh = set(ids) - self.ends[name].all()
        self.log.acknowledge(self.log.followers[name], list(ids))
        self.ends[name].acked |= fresh
        self.ended[name] |= fresh
        self.sure[name] -= fresh

    def write(self) -> Written:
        assert self.job is not None
        commit, _, ends = self.job
        written = self.store.commit(commit, None)
        self.on_card |= {reading.id for reading in commit.readings}
        self.ends_on_card = ends
        if written.thinned is not None:
            for name, ids in written.thinned.ids.items():
                assert not {one for one in ids if self.readings[one].stream == "alarm"}, "never of high priority"
                ends[name].lost |= set(ids)
            self.on_card -= {one for one in self.on_card if not self.is_on_card(one)}
        return written

    def is_on_card(self, one: int) -> bool:
        page, _ = self.store.read(one, one + 1, 1)
        return any(reading.id == one for reading in page.readings)

    def commit(self) -> None:
        self.settle()
        self.start()
        self.settle()


OutboxMachine.TestCase.settings = settings(max_examples=600, stateful_step_count=50, deadline=None)
test_outbox_conserves_readings = OutboxMachine.TestCase
