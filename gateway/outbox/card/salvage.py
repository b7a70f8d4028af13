"""The salvage: what can be read of a damaged outbox goes into a new one, block by block, while that is in use already.

The damaged file was put aside. As long as a salvage is not over, the claims in the new database do not begin at id 0;
after a restart it begins again, and what was found before is there once.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections import Counter
from collections.abc import Collection, Generator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gateway.outbox.card import aside
from gateway.outbox.card.block import decode, encode
from gateway.outbox.card.finds import BLOCK, Finds
from gateway.outbox.card.mark import Mark
from gateway.outbox.card.opening import log_of
from gateway.outbox.card.pages import Pages, Row
from gateway.outbox.card.rows import GAP, LOSS, Run, block_sum, claims, enter, write_claims
from gateway.outbox.claims import Claim
from gateway.outbox.ledger import Loss
from gateway.outbox.ranges import END, Ranges
from gateway.reading import EPOCH_SHIFT

STEP = 1 << 23
"""Bytes that are written in one transaction, at most, about."""
ROWS = 100
"""Blocks that are sorted out between two looks at the clock."""
RESERVE = 1 << 23
"""Bytes that stay free on the card, for what comes in; on a small one less, a sixteenth of it."""
EARLIER = 1 << 40
"""By how much less the number of a row is that an earlier ledger had: it comes before those of the new one."""


def awaited(db: sqlite3.Connection) -> int:
    """Return below which id a salvage still has to find out what has become of readings; 0: none. Raises DamagedRow."""
    held = claims(db).values()
    if not held and db.execute("SELECT 1 FROM epoch LIMIT 1").fetchone() is None:
        return END
    return max((claim.acked[0][0] for claim in held if claim.acked), default=0)


def awaiting(epoch: int) -> Claim:
    """Return what is known of an uplink in a run, of `epoch`, that begins before the salvage is over."""
    never = epoch << EPOCH_SHIFT  # no reading has this id: all below is open
    return Claim([(never, never + 1)], [], {})


@dataclass(slots=True)
class Salvaged:
    """What has become of a damaged file."""

    found: bool = False  # anything that an outbox has
    no_room: bool = False  # for all that was readable
    readings: int = 0  # in blocks that were whole
    claims: dict[str, Claim] = field(default_factory=dict)  # of all ids that it may have held
    losses: list[Loss] = field(default_factory=list)  # for the ledger; a count of 0 is not known
    runs: list[Run] = field(default_factory=list)
    ledger: list[tuple[int, Loss]] = field(default_factory=list)  # what it said, by the number of the row
    aside: list[tuple[Any, ...]] = field(default_factory=list)  # rows of its quarantine

    def write_all(self, db: sqlite3.Connection) -> None:
        """Write all that, before a run begins, in one transaction. Raises sqlite3.Error, and DamagedRow."""
        db.execute("BEGIN IMMEDIATE")
        try:
            self.write(db)
            held = claims(db)  # of runs since
            for name, claim in self.claims.items():
                before = held.get(name, claim)
                write_claims(db, [(name, replace(before, acked=list(Ranges([*before.acked, *claim.acked]))))])
            for loss in self.losses:
                enter(db, loss)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    def write(self, db: sqlite3.Connection) -> None:
        """Write what it knew beside blocks and claims, in the transaction that is under way. Raises sqlite3.Error."""
        for run in self.runs:
            run.write(db)
        rows = [(number - EARLIER, *(getattr(loss, name) for name in LOSS.split(", "))) for number, loss in self.ledger]
        db.executemany(f"INSERT OR REPLACE INTO ledger (id, {LOSS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)  # noqa: S608 (a constant)
        columns = "uplink, id, reason, time, data"
        db.executemany(f"INSERT OR IGNORE INTO quarantine ({columns}) VALUES (?, ?, ?, ?, ?)", self.aside)  # noqa: S608 (a constant)

    def say(self, why: str, kept: Path) -> str:
        """Return what the user should know: `why` it was put aside, if that is known, and where it is `kept`."""
        because = f" ({why})" if why else ""
        if kept.name.rpartition(".")[2].startswith("foreign"):
            return f"there was a file that is no outbox{because}: it was moved to {kept}, and a new one was begun"
        counts = Counter({loss.uplink: 0 for loss in self.losses})
        for loss in self.losses:
            counts[loss.uplink] += loss.count
        missing = max(counts.values(), default=0)
        room = "; there was no room for more" if self.no_room else ""
        return (
            f"the outbox was damaged{because}: {self.readings} readings were salvaged{room}, and "
            f"{missing} are known to be missing; the ledger has more. What is left of the file is kept in {kept}"
        )


class Salvage:
    """One after the other: reads what was put aside, sorts out what it has found, and settles whose it is."""

    def __init__(self, path: Path, uplinks: Collection[str], *, end: int = END, below: int = END) -> None:
        """`end`: no id of a damaged file is higher. Blocks that begin at id `below`, or behind, are left out.

        An uplink of `uplinks` whose acknowledgements cannot be read is sent everything again.
        """
        self.path = path
        self.end = end
        self._uplinks = uplinks
        self._below = min(end, below)
        self._begin(no_room=False)

    @property
    def newest(self) -> int:
        """The newest epoch that was seen so far."""
        ends = [end for claim in self._finds.claims.values() for _, end in claim.acked if end < END]
        return max([max([self._finds.end, *ends]) >> EPOCH_SHIFT, *self._finds.runs])

    def limit(self, end: int) -> None:
        """Have no id higher than what is below `end`: a run has begun there."""
        self.end = self._below = self._finds.below = end

    def go(self, db: sqlite3.Connection, until: float) -> None:
        """Go on until that time on the monotonic clock, and some way in any case, in one transaction.

        Raises sqlite3.Error; the next time, it begins again.
        """
        db.execute("BEGIN IMMEDIATE")
        try:
            self._finds.keeps_blocks = self._finds.keeps_blocks and _has_room(self.path)
            self._go(db, until)
            db.execute("COMMIT")
        except BaseException as error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            is_full = isinstance(error, sqlite3.Error) and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL
            goes_on = is_full and self._pieces is not None and self._finds.keeps_blocks
            self.close()
            self._begin(no_room=is_full)
            if not goes_on:
                raise

    def close(self) -> None:
        """Read no further."""
        if self._pieces is not None:
            self._pieces.close()

    def settle(self, db: sqlite3.Connection, mark: Mark | None) -> Salvaged:
        """Return what is known when it is over; write nothing. Raises sqlite3.Error.

        With a `mark` beside it, the file was an outbox, whatever it looks like now.
        """
        finds, stored = self._finds, self._stored
        result = Salvaged(finds.any, not finds.keeps_blocks, self._readings)
        result.runs = [run for one, run in sorted(finds.runs.items()) if one << EPOCH_SHIFT < self.end]
        result.ledger = sorted(finds.losses.items())
        result.aside = list(finds.aside.values())
        ends = [end for claim in finds.claims.values() for _, end in claim.acked]
        if mark is not None and mark.end < self.end:  # else it is newer than what was salvaged
            ends.append(mark.end)
        known = min(max([stored.last[1] if stored else 0, *ends]), self.end)
        newest = max(self.newest, min(mark.epoch, (self.end >> EPOCH_SHIFT) - 1) if mark is not None else 0)
        unknown = dict.fromkeys(range(max(min(finds.runs, default=1), newest - GAP + 1), newest + 1), 0)
        for name in dict.fromkeys([*finds.claims, *self._uplinks]):
            claim = finds.claims.get(name)
            counts = unknown if claim is None else _missing(claim, stored, known)
            # Nobody can name them: how many of each epoch, and 0 where it is not known, as of what left no trace.
            numbers = dict.fromkeys([*counts.items(), (newest, 0)]) if finds.any or mark is not None else {}
            losses = [Loss(name, "?", epoch, 0, 0, 0.0, 0.0, count, "disk-error") for epoch, count in numbers]
            result.losses += [loss for loss in losses if loss.count or not _is_said(db, loss)]
            claim = claim or Claim([], [], {})
            acked = Ranges([*claim.acked, *stored.gaps(0, min(self.end, max(known, 1)))])
            acked.add(known, self.end if self.end < END else known)
            result.claims[name] = replace(claim, acked=list(acked))
        return result

    # ----

    def _begin(self, *, no_room: bool) -> None:
        self.is_over = False
        self._finds = Finds(self._below)
        self._finds.keeps_blocks = not no_room
        self._pieces: Generator[Iterator[Row]] | None = self._read()
        self._stored = Ranges()
        self._readings = 0
        self._after, self._sorted = -1, 0  # the block that was sorted out last, and one past the ids of all that were
        self._cut: set[int] = set()  # blocks that were made then

    def _read(self) -> Generator[Iterator[Row]]:
        for source in aside.unfinished(self.path):
            with Pages(source, log_of(source)) as pages:
                yield from pages.pieces()

    def _go(self, db: sqlite3.Connection, until: float) -> None:
        written = 0
        while not self.is_over and written <= STEP:
            if self._pieces is None:
                self._sort(db)
            elif (piece := next(self._pieces, None)) is None:
                self._pieces = None
            else:
                written += self._finds.take(db, piece)
            if time.monotonic() >= until:
                break

    def _sort(self, db: sqlite3.Connection) -> None:
        """Look at the next blocks: no two may hold the same reading, and what all have is needed no more."""
        rows = db.execute(
            "SELECT first_id, last_id, count FROM block WHERE first_id > ? AND first_id < ? ORDER BY first_id LIMIT ?",
            (self._after, self.end, ROWS),
        ).fetchall()
        known = self._finds.claims
        claims = [] if set(self._uplinks) - set(known) else [Ranges(claim.acked) for claim in known.values()]
        for first, last, count in rows:
            self._after = first
            if first in self._cut:
                continue
            if first < self._sorted:
                self._shorten(db, first, last)
                continue
            self._sorted = last + 1
            self._stored.add(first, self._sorted)
            if claims and all(acked.overlap(first, last + 1) == last + 1 - first for acked in claims):
                db.execute("DELETE FROM block WHERE first_id = ?", (first,))
            else:
                self._readings += count
        self.is_over = len(rows) < ROWS

    def _shorten(self, db: sqlite3.Connection, first: int, last: int) -> None:
        """Take out of a block what an earlier one holds as well."""
        data, *kind = db.execute("SELECT data, priority, level FROM block WHERE first_id = ?", (first,)).fetchone()
        db.execute("DELETE FROM block WHERE first_id = ?", (first,))
        rest = [reading for reading in decode(data) if reading.id >= self._sorted]
        if not rest:
            return
        start = rest[0].id
        other = db.execute("SELECT last_id FROM block WHERE first_id = ?", (start,)).fetchone()
        if other is not None and other[0] >= last:
            return  # that one has it
        db.execute("DELETE FROM block WHERE first_id = ?", (start,))
        data = encode(rest)
        db.execute(BLOCK, (start, last, len(rest), block_sum(start, last, len(rest), data), data, *kind))
        self._cut.add(start)
        self._sorted = last + 1
        self._stored.add(start, self._sorted)
        self._readings += len(rest)


def _missing(claim: Claim, stored: Ranges, end: int) -> dict[int, int]:
    """Return how many ids of each epoch are neither acknowledged nor stored; 0: it is not known."""
    counts: dict[int, int] = {}
    for a, b in Ranges(claim.acked).gaps(0, end):
        for first, stop in stored.gaps(a, b):
            epoch, last = first >> EPOCH_SHIFT, stop >> EPOCH_SHIFT
            counts[epoch] = counts.get(epoch, 0)
            if epoch == last:
                counts[epoch] += stop - first
            elif stop > last << EPOCH_SHIFT:  # nobody knows where the one ended
                counts.setdefault(last, 0)
    return counts


def _is_said(db: sqlite3.Connection, loss: Loss) -> bool:
    """Say whether it is in the ledger already that it is not known how many are missing."""
    row = db.execute(
        "SELECT 1 FROM ledger WHERE uplink = ? AND stream = ? AND epoch = ? AND reason = ? AND count = 0", loss.kind
    )
    return row.fetchone() is not None


def _has_room(path: Path) -> bool:
    """Say whether there is more room on the card than what has to stay free."""
    card = os.statvfs(path.parent)
    return card.f_bavail * card.f_frsize > min(RESERVE, card.f_blocks * card.f_frsize // 16)
