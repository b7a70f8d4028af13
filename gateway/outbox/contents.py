"""What the database holds, read back. Every function may raise sqlite3.Error."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import suppress

from gateway.outbox.block import DamagedBlock, decode
from gateway.outbox.follower import Page
from gateway.outbox.ledger import Loss
from gateway.outbox.quarantine import Quarantined
from gateway.outbox.ranges import Ranges
from gateway.outbox.rows import LOSS, is_block
from gateway.reading import Reading


def read(db: sqlite3.Connection, start: int, upto: int, limit: int) -> tuple[Page, list[tuple[int, int]]]:
    """Read back at least `limit` readings from id `start` on, if there are as many below `upto`.

    Returns the page, and (first, last) id of each block that is damaged.
    """
    readings: list[Reading] = []
    damaged: list[tuple[int, int]] = []
    end = start
    while len(readings) < limit:
        try:
            if not (found := block_at(db, end, upto)):
                end = upto
                break
            (first, last) = found[0]
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
            damaged.append((first, last))
        end = last + 1
    return Page(start, end, readings), damaged


def block_at(db: sqlite3.Connection, start: int, upto: int) -> list[tuple[int, int]]:
    """Return (first, last) id of the block that has id `start`, or of the next; what is in it is not read."""
    return db.execute(
        "SELECT first_id, last_id FROM block WHERE first_id < ? AND last_id >= ? AND first_id >= "
        "(SELECT coalesce(max(first_id), 0) FROM block WHERE first_id <= ?) ORDER BY first_id LIMIT 1",
        (upto, start, start),
    ).fetchall()


def oldest(db: sqlite3.Connection, size: int, spared: Iterable[tuple[int, int]] = ()) -> list[Reading]:
    """Return the readings of the oldest blocks that together take at least `size` bytes, or of the only one.

    A block with an id in the ranges `spared` is passed over.
    """
    kept = Ranges(spared)
    readings: list[Reading] = []
    rows = db.execute("SELECT first_id, last_id, data FROM block ORDER BY first_id")
    for first, last, data in rows:
        if kept.overlap(first, last + 1):
            continue
        try:
            readings.extend(decode(data))
        except DamagedBlock:
            continue  # has its entry in the ledger when it is read
        size -= len(data)
        if size <= 0:
            break
    rows.close()
    return readings


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


def waiting(db: sqlite3.Connection, acked: Ranges) -> int:
    """Count the readings on the card that are not in `acked`; only blocks that are partly in it are opened."""
    total = 0
    for first, last, count in db.execute("SELECT first_id, last_id, count FROM block"):
        known = acked.overlap(first, last + 1)
        if known == 0:
            total += count
        elif known < last + 1 - first:
            page, damaged = read(db, first, last + 1, 1)
            total += last + 1 - first - known if damaged else sum(one.id not in acked for one in page.readings)
    return total
