"""What the database holds, read back. Every function may raise sqlite3.Error."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import NamedTuple

from gateway.outbox.card.block import DamagedBlock, decode
from gateway.outbox.card.rows import LOSS, is_block
from gateway.outbox.claims import is_for
from gateway.outbox.ledger import Loss
from gateway.outbox.quarantine import Quarantined
from gateway.outbox.ranges import Ranges
from gateway.outbox.shelf import Bad, Page
from gateway.reading import Reading


def read(db: sqlite3.Connection, start: int, upto: int, limit: int) -> tuple[Page, list[Bad]]:
    """Read back at least `limit` readings from id `start` on, if there are as many below `upto`.

    Returns the page, and each block that is damaged.
    """
    readings: list[Reading] = []
    damaged: list[Bad] = []
    end = start
    while len(readings) < limit:
        try:
            if not (found := block_at(db, end, upto)):
                end = upto
                break
            first, last, _ = found[0]
            (row,) = db.execute("SELECT count, crc, data FROM block WHERE first_id = ?", (first,))
        except sqlite3.Error:
            if end == start:
                raise
            break  # what was read before is good
        try:
            if not is_block(first, last, *row):
                raise DamagedBlock("checksum")
            readings.extend(decode(row[2]))
        except DamagedBlock:
            damaged.append((first, last, row[0]))
        end = last + 1
    return Page(start, end, readings), damaged


def block_at(db: sqlite3.Connection, start: int, upto: int) -> list[Bad]:
    """Return the block that has id `start`, or the next, without a look into it."""
    return db.execute(
        "SELECT first_id, last_id, count FROM block WHERE first_id < ? AND last_id >= ? AND first_id >= "
        "(SELECT coalesce(max(first_id), 0) FROM block WHERE first_id <= ?) ORDER BY first_id LIMIT 1",
        (upto, start, start),
    ).fetchall()


class Piece(NamedTuple):
    """Readings of one or more blocks, and [start, end) in which there are no others. See `thin` for the level."""

    start: int
    end: int
    level: int
    readings: list[Reading]


def oldest(
    db: sqlite3.Connection, size: int, spared: Iterable[tuple[int, int]] = (), *, high: bool | None = None
) -> list[Piece]:
    """Return the oldest blocks that together take at least `size` bytes, or the only one.

    A block with an id in the ranges `spared` is passed over, and with `high` one of another priority.
    """
    kept = Ranges(spared)
    pieces: list[Piece] = []
    end, is_open = 0, False
    rows = db.execute("SELECT first_id, last_id, priority, level FROM block ORDER BY first_id")
    for first, last, priority, level in rows:
        readings: list[Reading] = []
        if not kept.overlap(first, last + 1) and high in (None, priority > 0):
            data = _data(db, first)
            with suppress(DamagedBlock):  # has its entry in the ledger when it is read
                readings = decode(data)
                size -= len(data)
        if readings and is_open and pieces[-1].level == level:
            pieces[-1] = pieces[-1]._replace(end=last + 1, readings=pieces[-1].readings + readings)
        elif readings:
            pieces.append(Piece(end, last + 1, level, readings))
        end, is_open = last + 1, bool(readings)
        if size <= 0:
            break
    rows.close()
    return pieces


def newest(db: sqlite3.Connection, spared: Iterable[tuple[int, int]]) -> list[Piece]:
    """Return the newest block that has no id in `spared`, and is not of high priority; none if there is none."""
    kept = Ranges(spared)
    rows = db.execute("SELECT first_id, last_id, level FROM block WHERE priority = 0 ORDER BY first_id DESC")
    for first, last, level in rows:
        with suppress(DamagedBlock):
            if not kept.overlap(first, last + 1):
                return [Piece(first, last + 1, level, decode(_data(db, first)))]
    return []


def _data(db: sqlite3.Connection, first: int) -> bytes:
    data: bytes = db.execute("SELECT data FROM block WHERE first_id = ?", (first,)).fetchone()[0]
    return data


def quarantined(db: sqlite3.Connection) -> list[Quarantined]:
    """Return what is set aside, oldest first. What is damaged is left out."""
    found = []
    for uplink, data, reason, when in db.execute("SELECT uplink, data, reason, time FROM quarantine ORDER BY time, id"):
        with suppress(DamagedBlock):
            found.append(Quarantined(uplink, decode(data)[0], reason, when))
    return found


def ledger(db: sqlite3.Connection) -> list[Loss]:
    """Return every entry of the ledger, oldest first."""
    return [Loss(*row) for row in db.execute(f"SELECT {LOSS} FROM ledger ORDER BY id")]  # noqa: S608 (a constant)


def waiting(db: sqlite3.Connection, acked: Ranges, devices: Collection[str] | None) -> int:
    """Count the readings on the card that an uplink lacks; only blocks of which it lacks a part are opened."""
    total = 0
    for first, last, count in db.execute("SELECT first_id, last_id, count FROM block"):
        known = acked.overlap(first, last + 1)
        if known == 0 and devices is None:
            total += count
        elif known < last + 1 - first:
            page, damaged = read(db, first, last + 1, 1)
            lacks = [one.id not in acked and is_for(one.stream, devices) for one in page.readings]
            total += min(count, last + 1 - first - known) if damaged else sum(lacks)
    return total


def high(db: sqlite3.Connection) -> list[tuple[int, int]]:
    """Return [start, end) of what is of high priority."""
    rows = db.execute("SELECT first_id, last_id FROM block WHERE priority > 0 ORDER BY first_id")
    return [(first, last + 1) for first, last in rows]
