"""The receiver's proof: which readings are missing among those that came, and which the ledger explains. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.formats.packing import ZstdMissing, unpack
from gateway.outbox.ranges import END, Ranges
from gateway.reading import LEDGER

Span = tuple[int, int]
"""The first and the last of a run of sequence numbers."""


@dataclass(frozen=True, slots=True)
class Row:
    """One stream of one epoch. Missing is what lies between `first` and `last` and never came."""

    topic: str
    epoch: int
    first: int
    last: int
    received: int  # different readings
    duplicates: int  # arrivals of what had come before
    reordered: int  # first arrivals after a higher seq of their class: live, or historical
    explained: Mapping[str, int]  # how many of the missing the ledger names, by reason
    unexplained: tuple[Span, ...]  # the other missing ones

    @property
    def missing(self) -> int:
        """How many readings are missing, explained or not."""
        return sum(self.explained.values()) + self.unknown

    @property
    def unknown(self) -> int:
        """How many readings are missing that nothing explains."""
        return sum(last - first + 1 for first, last in self.unexplained)


@dataclass(frozen=True, slots=True)
class Report:
    """What came, stream by stream."""

    rows: tuple[Row, ...]
    entries: int  # of the ledger, which concern what should have come here
    others: int  # messages that are not readable, or hold something without seq and epoch

    @property
    def received(self) -> int:
        """How many different readings came."""
        return sum(row.received for row in self.rows)

    @property
    def unknown(self) -> int:
        """How many readings are missing that nothing explains."""
        return sum(row.unknown for row in self.rows)

    @property
    def proved(self) -> bool:
        """Whether something came, and nothing is missing without an explanation."""
        return self.received > 0 and self.unknown == 0


@dataclass(frozen=True, slots=True)
class Loss:
    """What an entry of the ledger explains: up to `count` of the readings from `first` to `last`."""

    topic: str  # "+" in it stands for any level, or part of one
    epoch: int
    first: int
    last: int
    count: int
    reason: str

    @classmethod
    def read(cls, entry: Mapping[str, Any]) -> Loss | None:
        """Read a message of the ledger; None if it is none, or concerns another destination.

        One without seq (0) concerns readings that could not be named, and a count of 0 is not known: either way it may
        be any reading from its first on.
        """
        topic, epoch, reason = entry.get("topic"), entry.get("stream_epoch"), entry.get("reason")
        first, last, count = (entry.get(key) for key in ("first_seq", "last_seq", "count"))
        if not isinstance(topic, str) or not isinstance(reason, str):
            return None
        if not (isinstance(epoch, int) and isinstance(first, int) and isinstance(last, int) and isinstance(count, int)):
            return None
        open_ended = first == 0 or count == 0
        return cls(topic, epoch, max(1, first), END if open_ended else last, count or END, reason)

    @property
    def exact(self) -> bool:
        """Whether all from the first to the last are lost."""
        return self.count >= self.last - self.first + 1

    def concerns(self, topic: str, epoch: int) -> bool:
        """Tell whether this is about the stream of `topic` in `epoch`."""
        if epoch != self.epoch:
            return False
        if "+" not in self.topic:
            return topic == self.topic
        return re.fullmatch("[^/]+".join(map(re.escape, self.topic.split("+"))), topic) is not None


@dataclass(slots=True)
class _Stream:
    """What came of one stream in one epoch."""

    seen: Ranges = field(default_factory=Ranges)
    received: int = 0
    duplicates: int = 0
    reordered: int = 0
    highest: dict[bool, int] = field(default_factory=lambda: {False: 0, True: 0})  # by class: historical or not

    def take(self, seq: int, historical: bool) -> None:
        if not self.seen.add(seq, seq + 1):
            self.duplicates += 1
            return
        self.received += 1
        if seq < self.highest[historical]:
            self.reordered += 1
        else:
            self.highest[historical] = seq


class Proof:
    """Takes messages in the order in which they came, and tells at any time what they prove.

    `whole`: the receiver was there from the first reading of each epoch on, so that what is missing before the first
    that came counts as well.
    """

    def __init__(self, *, whole: bool = False) -> None:
        self.received = 0
        """Readings so far, each counted as often as it came."""
        self.remark: str | None = None
        """Why messages could not be read that may be readings, if there were any."""
        self._whole = whole
        self._streams: dict[tuple[str, int], _Stream] = {}
        self._losses: dict[tuple[str, int, int, str], Loss] = {}
        self._others = 0

    def take(self, topic: str, payload: bytes) -> None:
        """Take a message: readings in any form that `unpack` knows, an entry of the ledger, or anything else."""
        try:
            content = unpack(payload)
        except ZstdMissing as error:
            self.remark = str(error)
            content = []
        except ValueError:
            content = []
        known = [self._take(topic, one) for one in content]
        if not known or not all(known):
            self._others += 1

    def explain(self, entry: Mapping[str, Any]) -> None:
        """Take an entry of the ledger. One that says more replaces what was said of the same loss before."""
        loss = Loss.read(entry)
        if loss is None:
            return
        kind = (loss.topic, loss.epoch, loss.first, loss.reason)
        before = self._losses.get(kind)
        if before is None or (loss.last, loss.count) > (before.last, before.count):
            self._losses[kind] = loss

    def report(self) -> Report:
        """Return what is proved so far."""
        left = {kind: loss.count for kind, loss in self._losses.items()}
        rows = tuple(self._row(topic, epoch, left) for topic, epoch in sorted(self._streams))
        return Report(rows, len(self._losses), self._others)

    def _take(self, topic: str, one: Any) -> bool:
        """Take one JSON value; return whether it is a reading or an entry of the ledger."""
        seq, epoch = (one.get("seq"), one.get("epoch")) if isinstance(one, dict) else (None, None)
        if type(seq) is not int or type(epoch) is not int or seq < 1:
            return False
        if topic.endswith(f"/{LEDGER}") and "stream_epoch" in one:
            self.explain(one)
        else:
            self.received += 1
            stream = self._streams.get((topic, epoch))
            if stream is None:
                stream = self._streams[topic, epoch] = _Stream()
            stream.take(seq, one.get("historical") is True)
        return True

    def _row(self, topic: str, epoch: int, left: dict[tuple[str, int, int, str], int]) -> Row:
        """Judge one stream; `left` is how many readings each loss can still explain."""
        stream = self._streams[topic, epoch]
        losses = [(kind, loss) for kind, loss in self._losses.items() if loss.concerns(topic, epoch)]
        first, last = stream.seen.first[0], stream.seen.last[1] - 1
        if self._whole:
            first = 1
            last = max([last, *(loss.last for _, loss in losses if loss.last < END)])
        missing = Ranges(stream.seen.gaps(first, last + 1))
        explained: dict[str, int] = {}
        # What names every single one explains it for nothing. Of the others, whoever can wait least comes first.
        for kind, loss in sorted(losses, key=lambda each: (not each[1].exact, each[1].last)):
            count = _explain(missing, loss, END if loss.exact else left[kind])
            if not loss.exact:
                left[kind] -= count
            if count:
                explained[loss.reason] = explained.get(loss.reason, 0) + count
        unexplained = tuple((start, end - 1) for start, end in missing)
        return Row(
            topic, epoch, first, last, stream.received, stream.duplicates, stream.reordered, explained, unexplained
        )


def _explain(missing: Ranges, loss: Loss, limit: int) -> int:
    """Take the lowest of what is missing and lies within `loss` out, up to `limit`; return how many that is."""
    count = 0
    for start, end in _within(missing, loss.first, loss.last + 1):
        end = min(end, start + limit - count)
        count += missing.remove(start, end)
    return count


def _within(ranges: Ranges, first: int, end: int) -> Iterable[Span]:
    return [(max(a, first), min(b, end)) for a, b in ranges if b > first and a < end]
