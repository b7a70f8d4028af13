"""The salvage: what can be read of a damaged outbox becomes a new one, block by block; the old file is kept aside."""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import NoneType
from typing import Any, TypeGuard

from sqlite_utils import Database

from gateway.outbox.card import aside
from gateway.outbox.card.block import DamagedBlock, decode, encode
from gateway.outbox.card.mark import Mark
from gateway.outbox.card.opening import is_whole, log_of
from gateway.outbox.card.pages import Pages
from gateway.outbox.card.rows import (
    LAST_EPOCH,
    LOSS,
    DamagedRow,
    Run,
    block_sum,
    enter,
    is_block,
    read_claim,
    write_claims,
)
from gateway.outbox.card.schema import migrations
from gateway.outbox.card.starting import GAP
from gateway.outbox.card.wear import PAGE_SIZE
from gateway.outbox.follower import Claim
from gateway.outbox.ledger import Loss
from gateway.outbox.ranges import END, Ranges
from gateway.reading import EPOCH_SHIFT

STEP = 1 << 23
"""Bytes that are written in one transaction, about: where the card has no more room, what was written before stays."""
_BLOCK = (
    "INSERT OR IGNORE INTO block (first_id, last_id, count, crc, data, priority, level) VALUES (?, ?, ?, ?, ?, ?, ?)"
)


@dataclass(slots=True)
class Salvage:
    """What has become of a damaged file."""

    kept: Path
    readings: int = 0  # in blocks that were whole
    losses: list[Loss] = field(default_factory=list)  # as entered into the ledger; a count of 0 is not known
    found: bool = False  # anything that an outbox has
    no_room: bool = False  # for all that was readable

    def say(self, why: str) -> str:
        """Return what the user should know."""
        if self.kept.name.rpartition(".")[2].startswith("foreign"):
            return f"there was a file that is no outbox ({why}): it was moved to {self.kept}, and a new one was begun"
        counts = Counter({loss.uplink: 0 for loss in self.losses})
        for loss in self.losses:
            counts[loss.uplink] += loss.count
        missing = max(counts.values(), default=0)
        room = "; there was no room for more" if self.no_room else ""
        return (
            f"the outbox was damaged ({why}): {self.readings} readings were salvaged{room}, and "
            f"{missing} are known to be missing; the ledger has more. What is left of the file is kept in {self.kept}"
        )


def salvage(
    path: Path,
    uplinks: Collection[str],
    mark: Mark | None,
    *,
    max_size: int,
    below: int = END,
    account: bool = True,
) -> Salvage:
    """Put a sound database in the place of a damaged or foreign one. Raises sqlite3.Error and OSError.

    An uplink of `uplinks` whose acknowledgements cannot be read is sent everything again. With a `mark` beside it, the
    file was an outbox, whatever it looks like now. Blocks that begin at id `below`, or behind, are left
    out. Without `account`, the caller enters what is missing into the ledger.
    """
    draft = aside.draft_of(path)
    with closing(sqlite3.connect(draft, isolation_level=None)) as db:
        db.execute(f"PRAGMA page_size = {PAGE_SIZE}")
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("PRAGMA synchronous = OFF")  # it counts for nothing before it is complete
        migrations.apply(Database(db))
        reader = _Reader(db, below)
        with Pages(path, log_of(path)) as pages:
            reader.read(pages)
        result = Salvage(path, found=reader.found, no_room=reader.no_room)
        if result.found or mark is not None:
            result.losses = reader.settle(uplinks, mark or Mark(0, 0, 0), account=account)
        result.readings = db.execute("SELECT coalesce(sum(count), 0) FROM block").fetchone()[0]
    _sync(draft)
    result.kept = aside.take_place(path, "damaged" if result.found or mark is not None else "foreign")
    with suppress(OSError):
        aside.prune(path, max_size)
    return result


class _Reader:
    """Takes rows as they are found, in any order and more than once, and makes one database of them."""

    def __init__(self, db: sqlite3.Connection, below: int) -> None:
        self.found = False
        self.no_room = False
        self._db = db
        self._below = below
        self._runs: dict[int, Run] = {}
        self._claims: dict[str, Claim] = {}
        self._losses: dict[int, Loss] = {}
        self._aside: dict[tuple[str, int], tuple[Any, ...]] = {}

    def read(self, pages: Pages) -> None:
        """Take all that is readable, as long as there is room for it."""
        db, written = self._db, 0
        db.execute("BEGIN")
        try:
            for row_id, columns in pages.rows():
                with suppress(DamagedRow, DamagedBlock, TypeError):
                    written += self._take(row_id, columns)
                if written > STEP:
                    db.execute("COMMIT")
                    db.execute("BEGIN")
                    written = 0
            db.execute("COMMIT")
        except sqlite3.Error as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_FULL:
                raise
            self.no_room = True
            if db.in_transaction:
                db.execute("ROLLBACK")

    def _take(self, row_id: int, columns: tuple[Any, ...]) -> int:
        """Take a row of any table, if it is one of ours; return the bytes that were written for it."""
        shape = tuple(map(type, columns))
        if shape[:5] == (NoneType, int, int, int, bytes) and shape[5:] in ((), (int, int)):
            return self._take_block(row_id, *columns[1:])
        if len(shape) == 5 and shape[:3] == (str, int, str) and shape[4] is bytes and _is_number(columns[3]):
            decode(columns[4])
            self._aside.setdefault((columns[0], columns[1]), columns)
        elif shape[:1] == (str,) and len(shape) in (2, 4, 5, 6) and set(shape[:4]) == {str}:
            self._take_claim(*read_claim(columns))
        elif len(shape) in (4, 8, 11) and shape[:2] == (NoneType, str) and _is_number(columns[2]):
            run = Run.read((row_id, *columns[1:]))
            self._runs.setdefault(run.id, run)
        elif len(shape) == 10 and shape[:3] == (NoneType, str, str) and shape[3:6] == (int,) * 3:
            self._take_loss(row_id, Loss(*columns[1:]))
        else:
            return 0
        self.found = True
        return 0

    def _take_block(
        self, first: int, last: int, count: int, crc: int, data: bytes, priority: int = 0, level: int = 1
    ) -> int:
        is_sound = is_block if crc == block_sum(first, last, count, data) else is_whole
        if not 1 << EPOCH_SHIFT < first <= last < END or not is_sound(first, last, count, crc, data):
            return 0
        self.found = True
        if first >= self._below:
            return 0
        self._db.execute(_BLOCK, (first, last, count, block_sum(first, last, count, data), data, priority, level))
        return len(data)

    def _take_claim(self, name: str, claim: Claim) -> None:
        """What was acknowledged only grows: all that any version says is true, and the fullest is the newest."""
        other = self._claims.get(name, claim)
        newest = max(other, claim, key=_size)
        self._claims[name] = replace(newest, acked=list(Ranges([*other.acked, *claim.acked])))

    def _take_loss(self, row_id: int, loss: Loss) -> None:
        numbers = (loss.first_time, loss.last_time, loss.count)
        if not 0 <= loss.epoch <= LAST_EPOCH or not isinstance(loss.reason, str) or not all(map(_is_number, numbers)):
            return
        other = self._losses.get(row_id, loss)
        self._losses[row_id] = max(loss, other, key=lambda one: (one.count, one.last_seq))

    # ---- when all was read

    def settle(self, uplinks: Collection[str], mark: Mark, *, account: bool) -> list[Loss]:
        """Make one outbox of it; return what was entered into its ledger."""
        db = self._db
        db.execute("BEGIN")
        blocks = list(self._disjoint())
        stored = Ranges(blocks)
        losses: list[Loss] = []
        ends = [end for _, end in blocks] + [end for claim in self._claims.values() for _, end in claim.acked]
        end = max([mark.end, *ends])
        newest = max([mark.epoch, end >> EPOCH_SHIFT, *self._runs])
        unknown = dict.fromkeys(range(max(min(self._runs, default=1), newest - GAP + 1), newest + 1), 0)
        rows = [(one, *_fields(loss)) for one, loss in sorted(self._losses.items())]
        db.executemany(f"INSERT INTO ledger (id, {LOSS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)  # noqa: S608 (a constant)
        for name in dict.fromkeys([*self._claims, *uplinks]):
            claim = self._claims.get(name)
            counts = unknown if claim is None else _missing(claim, stored, end)
            # Nobody can name them: how many of each epoch, and 0 where it is not known, as of what left no trace.
            numbers = dict.fromkeys([*counts.items(), (newest, 0)]) if account else {}
            losses += [Loss(name, "?", epoch, 0, 0, 0.0, 0.0, count, "disk-error") for epoch, count in numbers]
            known = claim or Claim([], [], {})
            acked = list(Ranges([*known.acked, *stored.gaps(0, end)]))
            write_claims(db, [(name, replace(known, acked=acked))])
        for loss in losses:
            enter(db, loss)
        for _, run in sorted(self._runs.items()):
            run.write(db)
        if not set(uplinks) - set(self._claims):
            acked_by = [Ranges(claim.acked) for claim in self._claims.values()]
            for first, stop in blocks:
                if all(each.overlap(first, stop) == stop - first for each in acked_by):
                    db.execute("DELETE FROM block WHERE first_id = ?", (first,))
        columns = "uplink, id, reason, time, data"
        db.executemany(f"INSERT INTO quarantine ({columns}) VALUES (?, ?, ?, ?, ?)", self._aside.values())  # noqa: S608 (a constant)
        db.execute("COMMIT")
        return losses

    def _disjoint(self) -> Iterator[tuple[int, int]]:
        """Yield [first, end) of each block; what an earlier one holds as well is taken out of a later one."""
        db, end = self._db, 0
        rows = db.execute("SELECT first_id, last_id FROM block ORDER BY first_id, last_id DESC").fetchall()
        for first, last in rows:
            start = first
            if first < end:
                data, *kind = db.execute(
                    "SELECT data, priority, level FROM block WHERE first_id = ?", (first,)
                ).fetchone()
                db.execute("DELETE FROM block WHERE first_id = ?", (first,))
                rest = [reading for reading in decode(data) if reading.id >= end]
                if not rest:
                    continue
                start, data = rest[0].id, encode(rest)
                db.execute(_BLOCK, (start, last, len(rest), block_sum(start, last, len(rest), data), data, *kind))
            end = last + 1
            yield start, end


def _missing(claim: Claim, stored: Ranges, end: int) -> dict[int, int]:
    """Return how many ids of each epoch are neither acknowledged nor stored; 0: it is not known."""
    counts: dict[int, int] = {}
    for a, b in Ranges(claim.acked).gaps(0, end):
        for first, stop in stored.gaps(a, b):
            epoch, last = first >> EPOCH_SHIFT, (stop - 1) >> EPOCH_SHIFT
            counts[epoch] = counts.get(epoch, 0)
            if epoch == last:
                counts[epoch] += stop - first
            else:  # nobody knows where the one ended
                counts.setdefault(last, 0)
    return counts


def _size(claim: Claim) -> int:
    return sum(end - start for start, end in claim.acked)


def _fields(loss: Loss) -> Sequence[Any]:
    return [getattr(loss, name) for name in LOSS.split(", ")]


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
