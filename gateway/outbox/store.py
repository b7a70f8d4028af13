"""The file: one SQLite connection, one transaction a commit. Only the writer thread calls it."""

from __future__ import annotations

import os
import sqlite3
import time
import zlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from sqlite_utils import Database

from gateway.outbox.block import DamagedBlock, cut, decode, encode
from gateway.outbox.errors import OutboxError
from gateway.outbox.follower import Claim, Page
from gateway.outbox.ledger import Loss
from gateway.outbox.lock import lock
from gateway.outbox.log import Commit, State
from gateway.outbox.quarantine import Quarantined
from gateway.outbox.ranges import Ranges
from gateway.outbox.rows import enter
from gateway.outbox.schema import migrations
from gateway.outbox.times import Epoch
from gateway.reading import EPOCH_SHIFT, Reading

PAGE_SIZE = 1024  # a commit of a few readings writes few bytes
CHECKPOINT_PAGES = 1000  # the log is at most about as long as this, or a sixteenth of a small max_size


@dataclass(frozen=True, slots=True)
class Written:
    """What a transaction left behind. Sizes in bytes."""

    blocks: int
    used: int  # in use, in the file and its log
    limit: int  # what may be in use: max_size, or less where the card has to keep its free space
    free: int  # left on the card
    max_size: int

    @property
    def reason(self) -> str:
        """Why nothing more fits, in the ledger's words."""
        return "full" if self.limit >= self.max_size else "no-space"


class Store:
    """The outbox's database. `open` first; every method may raise sqlite3.Error, and then has changed nothing."""

    def __init__(self, path: Path, *, max_size: int, keep_free: int) -> None:
        self.path = path
        self._max_size = max_size
        self._keep_free = keep_free
        self._checkpoint = max(32, min(CHECKPOINT_PAGES, max_size // 16 // PAGE_SIZE))
        self._blocks = 0
        self._lock = -1

    def open(self, boot_id: str, offset: float) -> tuple[State, list[Epoch]]:
        """Lock, open or create, migrate, and begin a new epoch. Raises OutboxError."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = lock(self.path.with_name(self.path.name + ".lock"))
        except OutboxError:
            raise
        except OSError as error:
            raise OutboxError(f"cannot open the outbox {self.path}: {error.strerror}") from error
        try:
            self._db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            self._configure()
            migrations.apply(Database(self._db))
            self._check()
            return self._begin_epoch(boot_id, offset)
        except sqlite3.Error as error:
            self.close()
            raise OutboxError(f"cannot open the outbox {self.path}: {error}") from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Checkpoint and close the file, and let another process have it."""
        if hasattr(self, "_db"):
            self._db.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def commit(self, commit: Commit, offset: tuple[int, float] | None) -> Written:
        """Write a block, the acknowledgements and the ledger, and delete what all have, in one transaction.

        `offset` is (epoch, seconds) when the clock was corrected.
        """
        db = self._db
        blocks = [(part[0].id, part[-1].id, len(part), encode(part)) for part in cut(commit.readings)]
        db.execute("BEGIN IMMEDIATE")
        try:
            rows = [(first, last, count, zlib.crc32(data), data) for first, last, count, data in blocks]
            db.executemany("INSERT INTO block VALUES (?, ?, ?, ?, ?)", rows)
            deleted = db.execute("DELETE FROM block WHERE first_id < ? AND last_id < ?", (commit.floor, commit.floor))
            deleted_blocks = deleted.rowcount
            db.executemany(
                "INSERT INTO uplink (name, acked, released, session) VALUES (?, ?, ?, ?) ON CONFLICT(name) "
                "DO UPDATE SET acked = excluded.acked, released = excluded.released, session = excluded.session",
                [(name, *map(_json, (one.acked, one.released, one.session))) for name, one in commit.claims.items()],
            )
            for loss in commit.losses:
                enter(db, loss)
            db.executemany(
                "INSERT OR REPLACE INTO quarantine (uplink, id, reason, time, data) VALUES (?, ?, ?, ?, ?)",
                [(one.uplink, one.reading.id, one.reason, one.time, encode([one.reading])) for one in commit.aside],
            )
            db.executemany("DELETE FROM quarantine WHERE uplink = ? AND id = ?", commit.gone)
            if offset is not None:
                db.execute("UPDATE epoch SET clock_offset = ? WHERE id = ?", (offset[1], offset[0]))
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        self._blocks += len(blocks) - deleted_blocks
        return self.written()

    def read(self, start: int, upto: int, limit: int) -> tuple[Page, list[tuple[int, int]]]:
        """Read back at least `limit` readings from id `start` on, if there are as many below `upto`.

        Returns the page, and (first, last) id of each block that is damaged.
        """
        readings: list[Reading] = []
        damaged: list[tuple[int, int]] = []
        end = upto
        rows = self._db.execute(
            "SELECT first_id, last_id, crc, data FROM block WHERE first_id < ? AND first_id >= "
            "(SELECT coalesce(max(first_id), 0) FROM block WHERE first_id <= ?) ORDER BY first_id",
            (upto, start),
        )
        for first, last, crc, data in rows:
            if last < start:
                continue
            try:
                if zlib.crc32(data) != crc:
                    raise DamagedBlock("checksum")
                readings.extend(decode(data))
            except DamagedBlock:
                damaged.append((first, last))
            if len(readings) >= limit:
                end = last + 1
                break
        rows.close()
        return Page(start, end, readings), damaged

    def oldest(self, size: int, spared: Iterable[tuple[int, int]] = ()) -> list[Reading]:
        """Return the readings of the oldest blocks that together take at least `size` bytes, or of the only one.

        A block with an id in the ranges `spared` is passed over.
        """
        kept = Ranges(spared)
        readings: list[Reading] = []
        rows = self._db.execute("SELECT first_id, last_id, data FROM block ORDER BY first_id")
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

    def quarantined(self) -> list[Quarantined]:
        """Return what is set aside, oldest first. What is damaged is left out."""
        found = []
        for uplink, data, reason, when in self._db.execute(
            "SELECT uplink, data, reason, time FROM quarantine ORDER BY time, id"
        ):
            with suppress(DamagedBlock):
                found.append(Quarantined(uplink, decode(data)[0], reason, when))
        return found

    def ledger(self) -> list[Loss]:
        """Return every entry of the ledger, oldest first."""
        columns = "uplink, stream, epoch, first_seq, last_seq, first_time, last_time, count, reason"
        return [Loss(*row) for row in self._db.execute(f"SELECT {columns} FROM ledger ORDER BY id")]  # noqa: S608 (a constant)

    def _configure(self) -> None:
        """Set what durability rests on, and read it back."""
        db = self._db
        db.execute("PRAGMA busy_timeout = 5000")
        db.execute(f"PRAGMA page_size = {PAGE_SIZE}")
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA wal_autocheckpoint = {self._checkpoint}")
        db.execute(f"PRAGMA journal_size_limit = {self._checkpoint * PAGE_SIZE}")
        synchronous = db.execute("PRAGMA synchronous").fetchone()[0]
        if mode != "wal" or synchronous != 2:
            raise OutboxError(
                f"cannot make the outbox {self.path} durable: journal_mode is {mode}, synchronous is {synchronous}; "
                "put it on a local file system"
            )

    def _check(self) -> None:
        tables = {name for (name,) in self._db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        missing = {"epoch", "block", "uplink", "ledger", "quarantine"} - tables
        if missing:
            raise OutboxError(f"{self.path} is not an outbox: it has no table {', '.join(sorted(missing))}")

    def _begin_epoch(self, boot_id: str, offset: float) -> tuple[State, list[Epoch]]:
        db = self._db
        stored_end = db.execute("SELECT coalesce(max(last_id), -1) + 1 FROM block").fetchone()[0]
        last = db.execute("SELECT coalesce(max(id), 0) FROM epoch").fetchone()[0]
        # Never an epoch that a stored reading has, whatever became of the epoch table.
        epoch = max(last, stored_end >> EPOCH_SHIFT) + 1
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO epoch VALUES (?, ?, ?, ?)", (epoch, boot_id, offset, time.time()))
        oldest = db.execute("SELECT coalesce(min(first_id), ?) FROM block", (epoch << EPOCH_SHIFT,)).fetchone()[0]
        db.execute("DELETE FROM epoch WHERE id < ?", (oldest >> EPOCH_SHIFT,))
        db.execute("COMMIT")
        claims = {
            name: Claim(_ranges(acked), _ranges(released), orjson.loads(session))
            for name, acked, released, session in db.execute("SELECT name, acked, released, session FROM uplink")
        }
        self._blocks = db.execute("SELECT count(*) FROM block").fetchone()[0]
        waiting = {name: self._waiting(Ranges(claim.acked)) for name, claim in claims.items()}
        aside = dict(db.execute("SELECT uplink, count(*) FROM quarantine GROUP BY uplink").fetchall())
        epochs = [Epoch(*row) for row in db.execute("SELECT id, boot_id, clock_offset FROM epoch ORDER BY id")]
        return State(epoch, stored_end, self._blocks, claims, waiting, aside), epochs

    def _waiting(self, acked: Ranges) -> int:
        """Count the readings on the card that are not in `acked`; only blocks that are partly in it are opened."""
        total = 0
        for first, last, count in self._db.execute("SELECT first_id, last_id, count FROM block"):
            known = acked.overlap(first, last + 1)
            if known == 0:
                total += count
            elif known < last + 1 - first:
                page, damaged = self.read(first, last + 1, 1)
                total += last + 1 - first - known if damaged else sum(one.id not in acked for one in page.readings)
        return total

    def written(self) -> Written:
        """Return what the last transaction left behind."""
        pages = self._db.execute("PRAGMA page_count").fetchone()[0]
        free = self._db.execute("PRAGMA freelist_count").fetchone()[0]
        try:
            log = self.path.with_name(self.path.name + "-wal").stat().st_size
            card = os.statvfs(self.path.parent)
        except OSError as error:
            raise sqlite3.OperationalError(str(error)) from error
        left = card.f_bavail * card.f_frsize
        limit = allowed(self._max_size, pages * PAGE_SIZE + log, left, self._keep_free)
        return Written(self._blocks, (pages - free) * PAGE_SIZE + log, limit, left, self._max_size)


def allowed(max_size: int, size: int, free: int, keep_free: int) -> int:
    """Return how many bytes the outbox may use: `max_size`, or less, to leave `keep_free` on the card."""
    return min(max_size, max(0, size + free - keep_free))


def _ranges(text: str) -> list[tuple[int, int]]:
    return [(start, end) for start, end in orjson.loads(text)]


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
