"""The walk: what earlier runs have left on the card, looked through block by block, as far as time allows."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.outbox.card.contents import read
from gateway.outbox.card.opening import Damaged, is_whole
from gateway.outbox.claims import Claim, is_for
from gateway.outbox.ranges import Ranges

ROWS = 100
"""Blocks that are looked at between two looks at the clock."""


@dataclass(slots=True)
class Walked:
    """What is in [start, end)."""

    start: int
    end: int
    waiting: dict[str, int] = field(default_factory=dict)  # by uplink: readings that it lacks
    high: list[tuple[int, int]] = field(default_factory=list)  # [start, end) of what is of high priority
    blocks: int = 0


class Walk:
    """Goes once over all blocks in [start, end), which nobody adds to or takes from meanwhile."""

    def __init__(self, claims: Mapping[str, Claim], start: int, end: int) -> None:
        """`claims` are those of all uplinks, as far as they concern what is there."""
        self.at, self.end = start, end
        self._newest = start - 1  # the block that was looked at last
        self._acked = {name: Ranges(claim.acked) for name, claim in claims.items()}
        self._devices = {name: claim.devices for name, claim in claims.items()}

    @property
    def is_over(self) -> bool:
        """Whether all was looked at."""
        return self.at >= self.end

    def go(self, db: sqlite3.Connection, until: float) -> Walked:
        """Look at what comes next, until that time on the monotonic clock; at some of it in any case.

        Raises sqlite3.Error, and Damaged where a block is not what was written, and then has not moved.
        """
        found = Walked(self.at, self.at, dict.fromkeys(self._acked, 0))
        newest = self._newest
        while found.end < self.end:
            rows = db.execute(
                "SELECT first_id, last_id, count, priority FROM block WHERE first_id > ? AND first_id < ? "
                "ORDER BY first_id LIMIT ?",
                (newest, self.end, ROWS),
            ).fetchall()
            for newest, last, count, priority in rows:
                self._look(db, found, newest, last, count)
                if priority:
                    found.high.append((newest, last + 1))
            found.blocks += len(rows)
            if len(rows) < ROWS:
                found.end = self.end
            elif time.monotonic() >= until:
                break
        self.at, self._newest = found.end, newest
        return found

    def _look(self, db: sqlite3.Connection, found: Walked, first: int, last: int, count: int) -> None:
        """Count what a block holds; only one with gaps, or of which an uplink lacks a part, is opened."""
        span = last - first + 1
        if first < found.end or not 0 < count <= span or last >= self.end:
            raise Damaged(f"the block of {first} is not what was written")
        if count < span:
            row = db.execute("SELECT first_id, last_id, count, crc, data FROM block WHERE first_id = ?", (first,))
            if not is_whole(*row.fetchone()):
                raise Damaged(f"the block of {first} is not what was written")
        for name, acked in self._acked.items():
            known, devices = acked.overlap(first, last + 1), self._devices[name]
            if known == 0 and devices is None:
                found.waiting[name] += count
            elif known < span:
                page, damaged = read(db, first, last + 1, 1)
                lacks = [one.id not in acked and is_for(one.stream, devices) for one in page.readings]
                found.waiting[name] += min(count, span - known) if damaged else sum(lacks)
        found.end = last + 1
