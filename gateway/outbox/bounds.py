"""The bounds: how much may wait, and what is given up, or refused, when it is more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.outbox import ends
from gateway.outbox.errors import OutboxFull
from gateway.outbox.follower import Follower
from gateway.outbox.log import Log
from gateway.outbox.ranges import END
from gateway.outbox.times import Times
from gateway.reading import Reading

POLICIES = ("drop-oldest", "drop-newest", "thin", "reject")
WORDS = {
    "full": "it has reached max_size",
    "count": "it has reached max_count",
    "no-space": "the card has no more free than keep_free",
    "too-old": "they are older than max_age",
    "fault": "the card takes nothing, and in memory there are as many as memory_limit allows",
}

BESIDE = 500
"""Bytes of memory that a reading takes beside what it weighs, about."""


class Bounds:
    """Holds an outbox to `max_count` readings for each uplink, `max_size` bytes and `max_age` seconds."""

    def __init__(
        self,
        log: Log,
        times: Times,
        *,
        max_count: int | None,
        max_size: int,
        max_age: float | None,
        when_full: str,
        memory_limit: int = END,
        logger: Any,
    ) -> None:
        self.max_count = END if max_count is None else max_count
        self.max_age = max_age
        self.drop_newest = when_full == "drop-newest"
        self.drop_oldest = when_full in ("drop-oldest", "thin")  # in number, and in memory
        self.thins = when_full == "thin"
        """On the card, the oldest blocks are thinned before any is dropped."""
        self.tight = self._tight = max_count is not None or when_full == "reject" or not log.has_card
        """Whether `admit` has to be asked for each reading."""
        self._memory_limit = memory_limit
        self._fault: str | None = None
        self._reject = when_full == "reject"
        self._log = log
        self._times = times
        self._logger = logger
        # Bytes that may exist only in memory. What goes over on the card is dropped there.
        self._room = max_size if self._reject or not log.has_card else END
        self._limit = ("max_size", max_size)
        self._gave_up: set[str] = set()  # what the user has been told

    def on_card(self, used: int, limit: int, name: str) -> None:
        """Take note of how many bytes the card holds, how many it may, and which bound says so."""
        if self._reject:
            self._room = limit - used
            self._limit = (name, limit)

    def on_fault(self, reason: str | None) -> None:
        """Hold to `memory_limit` what is in memory while the card takes nothing, for `reason`; None: it does."""
        self._fault = reason
        self.tight = self._tight or reason is not None
        if reason is None:
            self._gave_up.discard("fault")

    def admit(self, size: int, count: int = 1, *, high: bool = False) -> bool:
        """Make room for what weighs `size` bytes; return False if it is itself what has to go. Raises OutboxFull.

        Where it is the newest that goes, and it is of `high` priority, then the newest that is not goes in its place.
        """
        if self._fault is not None and self._in_memory(size, count) > self._memory_limit:
            self._spill(size, count)
        if self._log.weight + size <= self._room:
            for follower in self._log.followers.values():
                if follower.account.waiting + count > self.max_count:
                    break
            else:
                return True
        return self._make_way(size, count, high=high)

    def refuse(self, one: int) -> None:
        """Give up what was just taken in."""
        self.give_up(self._log.tail.slice(one, one + 1), self._over(0, 0)[0] or "full")

    def give_up(self, readings: Sequence[Reading], why: str, *, in_flight: bool = False, level: int = 1) -> int:
        """Put what any uplink still has of these into the ledger, and return how many that is.

        What is with a broker may arrive: it is kept, unless it is `in_flight` that has to go. `level`: see `entries`.
        """
        count = 0
        for follower in self._log.followers.values():
            mine = readings if in_flight else [reading for reading in readings if reading.id in follower.todo]
            count += self._lose(follower, mine, why, level)
        return count

    def give_up_of(self, follower: Follower, readings: Sequence[Reading], why: str, limit: int) -> int:
        """Put up to `limit` of these that `follower` still has, and no link has taken, into the ledger."""
        return self._lose(follower, [reading for reading in readings if reading.id in follower.todo][:limit], why)

    def excess(self) -> list[tuple[Follower, int]]:
        """Return who has too many waiting, and how many too many."""
        followers = self._log.followers.values() if self.drop_oldest else ()
        excess = [(follower, follower.account.waiting - self.max_count) for follower in followers]
        return [(follower, count) for follower, count in excess if count > 0]

    def give_up_too_old(self, readings: Sequence[Reading], level: int = 1) -> int:
        """Put what is older than `max_age` into the ledger, and return how many that is."""
        if self.max_age is None:
            return 0
        old = [reading for reading in readings if self._times.age(reading) > self.max_age]
        return self.give_up(old, "too-old", level=level)

    def too_old_in(self, readings: Sequence[Reading]) -> float:
        """Return in how many seconds the first of these that still waits is too old; 0.0 if none waits or one is."""
        waiting = (one for one in readings if any(one.id in each.todo for each in self._log.followers.values()))
        oldest = max(map(self._times.age, waiting), default=None)
        return 0.0 if oldest is None or self.max_age is None else max(0.0, self.max_age - oldest)

    def tell(self) -> None:
        """Tell the uplinks what was given up."""
        for follower in self._log.followers.values():
            follower.tell()

    def left(self) -> tuple[int, int]:
        """Return how many readings, and how many bytes, can be admitted for sure; END where there is no bound."""
        if not self._reject:
            return END, END
        most = self._most()
        count, size = self.max_count - most, self._room - self._log.weight
        if self._fault is not None:
            half = (self._memory_limit - self._in_memory(0, 0)) // 2
            count, size = min(count, half // BESIDE), min(size, half)
        return count, size

    def _in_memory(self, size: int, count: int) -> int:
        """Return about how many bytes of memory are used with `count` readings more that weigh `size`."""
        return self._log.weight + size + BESIDE * (len(self._log.tail) + len(self._log.kept) + count)

    def _spill(self, size: int, count: int) -> None:
        """Make room in memory: first what needs not be there, then the oldest, those of high priority last.

        Raises OutboxFull.
        """
        log = self._log
        log.forget()
        if self._reject and self._in_memory(size, count) > self._memory_limit:
            raise OutboxFull(f"the card takes nothing ({self._fault}), and memory_limit is {self._memory_limit}")
        if self._in_memory(size, count) <= self._memory_limit:
            return
        much = self._memory_limit - self._memory_limit // 16  # many at once, because each time costs
        while (over := self._in_memory(size, count) - much) > 0 and len(log.tail):
            end = log.tail.start + 1 + over * len(log.tail) // self._in_memory(0, 0)
            oldest = log.tail.slice(log.tail.start, end)
            self.give_up([one for one in oldest if not log.is_high(one.stream)], "fault", in_flight=True)
            log.keep_high(end)
        while (over := self._in_memory(size, count) - much) > 0 and log.kept:
            self.give_up(log.kept[: 1 + over // BESIDE], "fault", in_flight=True)
            log.keep_high(log.tail.start)

    def _most(self) -> int:
        """Return how many wait for the uplink for which most do."""
        return max((follower.account.waiting for follower in self._log.followers.values()), default=0)

    def _over(self, size: int, count: int) -> tuple[str, str]:
        """Return (word, sentence) for the bound that is reached with `size` bytes and `count` readings more."""
        log, most = self._log, self._most()
        if most + count > self.max_count:
            return "count", f"the outbox is full: {most} wait, and max_count is {self.max_count}"
        if log.weight + size > self._room:
            name, limit = self._limit
            held = limit - self._room + log.weight
            return "full", f"the outbox is full: it holds {held} bytes, {size} more are too many: {name} is {limit}"
        return "", ""

    def _make_way(self, size: int, count: int, *, high: bool) -> bool:
        log = self._log
        if log.weight + size > self._room and not log.has_card:
            log.thin()
        if self._reject:
            if words := self._over(size, count)[1]:
                raise OutboxFull(words)
            return True
        if self.drop_newest and high:
            self._drop_newest(size, count)
        if self.drop_newest or size > self._room:
            return not self._over(size, count)[0]
        for follower in log.followers.values():
            if (excess := follower.account.waiting + count - self.max_count) > 0:
                self.give_up_of(follower, follower.idle(log.tail, excess, sparing=True), "count", excess)
        while log.weight + size > self._room and (idle := self._oldest_idle()) is not None:
            self.give_up([idle], "full")
        return log.has_card or not self._over(size, count)[0]

    def _oldest_idle(self) -> Reading | None:
        """Return the oldest in memory that no link has taken; of high priority only if all are."""
        log = self._log
        idle = [one for each in log.followers.values() for one in each.idle(log.tail, 1, sparing=True)]
        return min(idle, default=None, key=lambda one: (log.is_high(one.stream), one.id))

    def _drop_newest(self, size: int, count: int) -> None:
        """Give up the newest in memory that no link has taken, and that are not of high priority."""
        log = self._log
        for follower in log.followers.values():
            while follower.account.waiting + count > self.max_count and (newest := follower.newest(log.tail)):
                self.give_up_of(follower, newest, "count", 1)
        while log.weight + size > self._room:
            newest = [one for each in log.followers.values() for one in each.newest(log.tail)]
            if not newest:
                return
            self.give_up([max(newest, key=lambda one: one.id)], "full")

    def _lose(self, follower: Follower, readings: Sequence[Reading], why: str, level: int = 1) -> int:
        reason = {"count": "full", "fault": self._fault or "disk-error"}.get(why, why)
        count = ends.lose(self._log, follower, readings, reason, self._times.wall, level)
        self.warn(why, count)
        return count

    def warn(self, why: str, count: int) -> None:
        """Say once that so many were given up."""
        if count and why not in self._gave_up:
            self._gave_up.add(why)
            self._logger.warning(f"the outbox gives readings up: {WORDS[why]}; the ledger says which", readings=count)
