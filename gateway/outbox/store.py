"""The file: one SQLite connection, one transaction a commit. Only the writer thread calls it."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

import orjson
from sqlite_utils import Database

from gateway.outbox.block import DamagedBlock, decode, encode
from gateway.outbox.log import Commit, Loss, Page, State
from gateway.outbox.ranges import Ranges
from gateway.outbox.schema import migrations
from gateway.reading import EPOCH_SHIFT, Reading

PAGE_SIZE = 1024  # a commit of a few readings writes few bytes
CHECKPOINT_PAGES = 1000  # the log is at most about as long as this, or a sixteenth of a small max_size


class OutboxError(OSError):
    """The outbox cannot be opened or used."""


class OutboxInUse(OutboxError):
    """Another process has the outbox open."""


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


@dataclass(frozen=True, slots=True)
class Epoch:
    """One run of the gateway: `offset` in seconds turns its times since boot into UTC."""

    id: int
    boot_id: str
    offset: float


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
            self._lock = _lock(self.path.with_name(self.path.name + ".lock"))
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
        readings = commit.readings
        data = encode(readings) if readings else b""
        db.execute("BEGIN IMMEDIATE")
        try:
            if readings:
                row = (readings[0].id, readings[-1].id, len(readings), zlib.crc32(data), data)
                db.execute("INSERT INTO block VALUES (?, ?, ?, ?, ?)", row)
            deleted = db.execute("DELETE FROM block WHERE first_id < ? AND last_id < ?", (commit.floor, commit.floor))
            deleted_blocks = deleted.rowcount
            db.executemany(
                "INSERT INTO uplink VALUES (?, ?) ON CONFLICT(name) DO UPDATE SET acked = excluded.acked",
                [(name, orjson.dumps(ranges).decode()) for name, ranges in commit.acked.items()],
            )
            for loss in commit.losses:
                _enter(db, loss)
            if offset is not None:
                db.execute("UPDATE epoch SET clock_offset = ? WHERE id = ?", (offset[1], offset[0]))
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        self._blocks += bool(readings) - deleted_blocks
        return self.written()

    def read(self, start: int, upto: int, limit: int) -> tuple[Page, list[Loss]]:
        """Read back at least `limit` readings from id `start` on, if there are as many below `upto`.

        Returns the page, and an entry without stream for each block that is damaged.
        """
        readings: list[Reading] = []
        damaged: list[Loss] = []
        end = upto
        rows = self._db.execute(
            "SELECT first_id, last_id, count, crc, data FROM block WHERE first_id < ? AND first_id >= "
            "(SELECT coalesce(max(first_id), 0) FROM block WHERE first_id <= ?) ORDER BY first_id",
            (upto, start),
        )
        for first, last, count, crc, data in rows:
            if last < start:
                continue
            try:
                if zlib.crc32(data) != crc:
                    raise DamagedBlock("checksum")
                readings.extend(decode(data))
            except DamagedBlock:
                damaged.append(Loss("", "?", first >> EPOCH_SHIFT, 0, 0, 0.0, 0.0, count, "disk-error"))
            if len(readings) >= limit:
                end = last + 1
                break
        rows.close()
        return Page(start, end, readings), damaged

    def oldest(self, size: int) -> list[Reading]:
        """Return the readings of the oldest blocks that together take at least `size` bytes, or of the only one."""
        readings: list[Reading] = []
        rows = self._db.execute("SELECT data FROM block ORDER BY first_id")
        for (data,) in rows:
            try:
                readings.extend(decode(data))
            except DamagedBlock:
                continue  # has its entry in the ledger when it is read
            size -= len(data)
            if size <= 0:
                break
        rows.close()
        return readings

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
        missing = {"epoch", "block", "uplink", "ledger"} - tables
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
        acked = {
            name: [(a, b) for a, b in orjson.loads(text)] for name, text in db.execute("SELECT name, acked FROM uplink")
        }
        self._blocks = db.execute("SELECT count(*) FROM block").fetchone()[0]
        waiting = {name: self._waiting(Ranges(ranges)) for name, ranges in acked.items()}
        epochs = [Epoch(*row) for row in db.execute("SELECT id, boot_id, clock_offset FROM epoch ORDER BY id")]
        return State(epoch, stored_end, self._blocks, acked, waiting), epochs

    def _waiting(self, acked: Ranges) -> int:
        """Count the readings on the card that are not in `acked`; only blocks that are partly in it are opened."""
        total = 0
        for first, last, count in self._db.execute("SELECT first_id, last_id, count FROM block"):
            known = acked.overlap(first, last + 1)
            if known == 0:
                total += count
            elif known < last + 1 - first:
                page, _ = self.read(first, last + 1, 1)
                total += sum(reading.id not in acked for reading in page.readings)
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


def _enter(db: sqlite3.Connection, loss: Loss) -> None:
    """Add to the ledger; a loss that continues the last one of its kind makes that row longer."""
    row = db.execute(
        "SELECT id FROM ledger WHERE uplink = ? AND stream = ? AND epoch = ? AND reason = ? AND last_seq = ? "
        "ORDER BY id DESC LIMIT 1",
        (loss.uplink, loss.stream, loss.epoch, loss.reason, loss.first_seq - 1),
    ).fetchone()
    if row is not None:
        db.execute(
            "UPDATE ledger SET last_seq = ?, last_time = ?, count = count + ? WHERE id = ?",
            (loss.last_seq, loss.last_time, loss.count, row[0]),
        )
        return
    db.execute(
        "INSERT INTO ledger (uplink, stream, epoch, first_seq, last_seq, first_time, last_time, count, reason) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            loss.uplink,
            loss.stream,
            loss.epoch,
            loss.first_seq,
            loss.last_seq,
            loss.first_time,
            loss.last_time,
            loss.count,
            loss.reason,
        ),
    )


def _lock(path: Path) -> int:
    """Take the lock file and write our process id into it. Raises OutboxInUse."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(descriptor, 32).decode(errors="replace").strip() or "?"
        os.close(descriptor)
        raise OutboxInUse(
            f"the outbox {path.with_suffix('')} is in use by process {holder}: "
            "one outbox serves one gateway. Stop that one, or give this one another [outbox] path"
        ) from error
    except BaseException:
        os.close(descriptor)
        raise
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor
