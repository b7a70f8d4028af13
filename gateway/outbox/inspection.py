"""The outbox as somebody beside the gateway sees it: read-only, while it runs, and on a card that was pulled out."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from gateway.outbox.boots import Epoch, boots
from gateway.outbox.card.block import DamagedBlock, decode
from gateway.outbox.card.rows import is_block, read_claim
from gateway.outbox.card.salvage import awaited
from gateway.outbox.claims import Claim, is_for
from gateway.outbox.errors import OutboxError
from gateway.outbox.ledger import Loss
from gateway.outbox.quarantine import Quarantined
from gateway.outbox.ranges import Ranges
from gateway.reading import EPOCH_SHIFT, Reading

AT_ONCE = 8
"""Blocks read in one transaction, so that no look at a file, however long it takes, keeps its log from being reused."""
LATELY = 300.0
"""Seconds over which a rate is taken."""


class Seen(NamedTuple):
    """A reading on the card, and when it was measured, in UTC seconds, as far as the card knows."""

    reading: Reading
    time: float


@dataclass(frozen=True, slots=True)
class Standing:
    """What the card knows of one uplink: readings that wait, are set aside, and are in the ledger."""

    waiting: int
    oldest: float | None  # of what waits: UTC seconds
    quarantined: int
    lost: int  # over all runs


@dataclass(frozen=True, slots=True)
class Stored:
    """What there is on the card. Sizes in bytes."""

    readings: int  # some of which may have been delivered to all
    payload: int  # that they take
    used: int  # by the file and its log
    free: int  # left on the card
    rate: float  # readings a second, as the newest on the card were taken in; 0.0 if there are too few to tell


class Block(NamedTuple):
    """A row of the table of blocks."""

    first: int
    last: int
    length: int
    crc: int
    data: bytes

    def decode(self) -> list[Reading]:
        """Return its readings. Raises DamagedBlock."""
        if not is_block(*self):
            raise DamagedBlock("checksum")
        return decode(self.data)


class Inspection:
    """A look at the file. Use as `with`; entering raises OutboxError, and everything else may raise sqlite3.Error.

    Nothing is written, and nobody is kept from writing. What the gateway has only in memory is not seen.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged: list[tuple[int, int]] = []
        """(first, last) id of blocks that could not be read so far."""
        self._stack = ExitStack()
        self._db: sqlite3.Connection

    def __enter__(self) -> Self:
        if not self.path.is_file():
            raise OutboxError(f"there is no outbox at {self.path}")
        try:
            self._db = self._open()
            tables = {name for (name,) in self._db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            if missing := {"epoch", "block", "uplink", "ledger", "quarantine"} - tables:
                raise OutboxError(f"{self.path} is not an outbox: it has no table {', '.join(sorted(missing))}")
        except (OSError, sqlite3.Error) as error:
            self._stack.close()
            if isinstance(error, OutboxError):
                raise
            raise OutboxError(f"cannot read the outbox {self.path}: {error}") from error
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def in_use(self) -> bool:
        """Whether a process has it open for writing."""
        try:
            descriptor = os.open(self.path.with_name(self.path.name + ".lock"), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def snapshot(self) -> None:
        """See everything from now on as it is now; the log of a gateway that runs grows meanwhile."""
        self._db.execute("BEGIN")
        self._db.execute("SELECT 1 FROM epoch LIMIT 1").fetchone()

    # ---- what there is

    def uplinks(self) -> list[str]:
        """Return the uplinks that the card knows, in the order of their names."""
        return [name for (name,) in self._db.execute("SELECT name FROM uplink ORDER BY name")]

    def claim(self, uplink: str) -> Claim:
        """Return what the card knows of an uplink. Raises OutboxError if it is nothing, and DamagedRow."""
        row = self._db.execute("SELECT * FROM uplink WHERE name = ?", (uplink,)).fetchone()
        if row is None:
            known = ", ".join(self.uplinks()) or "none"
            raise OutboxError(f'the outbox knows no uplink "{uplink}"; there is: {known}')
        return read_claim(row)[1]

    def salvaged_below(self) -> int:
        """Return below which id a damaged file is still being salvaged; 0: none is."""
        return awaited(self._db)

    def lacking(self, uplink: str) -> Callable[[Reading], bool]:
        """Return what says of a reading whether it waits for this uplink. Raises as `claim` does."""
        claim = self.claim(uplink)
        acked = Ranges(claim.acked)
        acked.add(0, acked.first[0] if acked else 0)  # of what is still being salvaged, nobody knows who lacks it
        return lambda reading: reading.id not in acked and is_for(reading.stream, claim.devices)

    def offsets(self) -> dict[int, float]:
        """Return, for each epoch, the seconds from time since boot to UTC, as its boot knew them last."""
        rows = self._db.execute("SELECT id, boot_id, clock_offset FROM epoch ORDER BY id").fetchall()
        return {epoch: boot.offset for boot in boots([Epoch(*row) for row in rows]) for epoch in boot.epochs}

    def standing(self, uplink: str) -> Standing:
        """Return what the card knows of an uplink."""
        claim, lacks = self.claim(uplink), self.lacking(uplink)
        acked = Ranges(claim.acked)
        waiting = 0
        for first, last, count in self._db.execute("SELECT first_id, last_id, count FROM block").fetchall():
            known = acked.overlap(first, last + 1)
            if known == 0 and claim.devices is None:
                waiting += count
            elif known < last + 1 - first:
                waiting += sum(map(lacks, self._readings_of(first)))
        first_seen = next(self.readings(uplink), None)
        aside = self._db.execute("SELECT count(*) FROM quarantine WHERE uplink = ?", (uplink,)).fetchone()[0]
        lost = self._db.execute("SELECT coalesce(sum(count), 0) FROM ledger WHERE uplink = ?", (uplink,)).fetchone()[0]
        return Standing(waiting, None if first_seen is None else first_seen.time, aside, lost)

    def readings(self, uplink: str | None = None) -> Iterator[Seen]:
        """Yield what waits for an uplink, or for any, in order. What cannot be read goes into `damaged`."""
        names = self.uplinks() if uplink is None else [uplink]
        acked = [Ranges(self.claim(name).acked) for name in names]
        lack = [self.lacking(name) for name in names]
        offsets = self.offsets()
        for block in self.blocks():
            length = block.last + 1 - block.first
            if all(known.overlap(block.first, block.last + 1) == length for known in acked):
                continue
            try:
                readings = block.decode()
            except DamagedBlock:
                self.damaged.append((block.first, block.last))
                continue
            for reading in readings:
                if any(lacks(reading) for lacks in lack):
                    yield Seen(reading, wall(reading, offsets))

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks in order, as they are."""
        after = -1
        columns = "first_id, last_id, count, crc, data"
        query = f"SELECT {columns} FROM block WHERE first_id > ? ORDER BY first_id LIMIT {AT_ONCE}"  # noqa: S608 (constants)
        while rows := self._db.execute(query, (after,)).fetchall():
            for row in rows:
                yield Block(*row)
            after = rows[-1][0]

    def ledger(self) -> list[Loss]:
        """Return every entry of the ledger, oldest first."""
        columns = "uplink, stream, epoch, first_seq, last_seq, first_time, last_time, count, reason"
        return [Loss(*row) for row in self._db.execute(f"SELECT {columns} FROM ledger ORDER BY id")]  # noqa: S608 (a constant)

    def quarantined(self) -> list[Quarantined]:
        """Return what is set aside, oldest first. What cannot be read goes into `damaged`."""
        found = []
        rows = self._db.execute("SELECT uplink, id, data, reason, time FROM quarantine ORDER BY time, id")
        for uplink, one, data, reason, when in rows.fetchall():
            try:
                found.append(Quarantined(uplink, decode(data)[0], reason, when))
            except DamagedBlock:
                self.damaged.append((one, one))
        return found

    def stored(self) -> Stored:
        """Return how much there is on the card, and how fast it came."""
        readings, payload = self._db.execute(
            "SELECT coalesce(sum(count), 0), coalesce(sum(length(data)), 0) FROM block"
        ).fetchone()
        page, pages, free = (
            self._db.execute(f"PRAGMA {what}").fetchone()[0] for what in ("page_size", "page_count", "freelist_count")
        )
        used = (pages - free) * page
        with suppress(OSError):
            used += self.path.with_name(self.path.name + "-wal").stat().st_size
        card = os.statvfs(self.path.parent)
        return Stored(readings, payload, used, card.f_bavail * card.f_frsize, self._rate())

    # ----

    def _readings_of(self, first: int) -> list[Reading]:
        columns = "first_id, last_id, count, crc, data"
        row = self._db.execute(f"SELECT {columns} FROM block WHERE first_id = ?", (first,)).fetchone()  # noqa: S608 (a constant)
        try:
            return Block(*row).decode() if row is not None else []
        except DamagedBlock:
            return []  # named when the readings are asked for

    def _rate(self) -> float:
        """Return the readings a second that the newest blocks of one epoch tell of."""
        count, newest, oldest, epoch = 0, 0.0, 0.0, -1
        for (first,) in self._db.execute("SELECT first_id FROM block ORDER BY first_id DESC LIMIT 1000").fetchall():
            readings = self._readings_of(first)
            if not readings or (epoch >= 0 and readings[0].epoch != epoch):
                break
            if epoch < 0:
                epoch, newest = readings[0].epoch, readings[-1].boot
            count += len(readings)
            oldest = readings[0].boot
            if newest - oldest > LATELY:
                break
        return (count - 1) / (newest - oldest) if count > 1 and newest - oldest >= 1.0 else 0.0

    def _open(self) -> sqlite3.Connection:
        """Open in the way that leaves the least traces. Raises sqlite3.Error and OSError.

        SQLite may want to make files beside the database, which must then belong to whom the database belongs to: only
        root's SQLite sees to that. On a card that cannot be written there is no such way at all, and then nobody else
        can write either: it is read as it stands or, if its log holds something, from a copy.
        """
        log = self.path.with_name(self.path.name + "-wal")
        mine = os.geteuid() in (0, self.path.stat().st_uid)
        if mine or self.in_use:
            try:
                return self._connect(self.path, "mode=ro")
            except sqlite3.OperationalError:
                if self.in_use:
                    raise
        if not log.exists() or not log.stat().st_size:
            return self._connect(self.path, "mode=ro&immutable=1")
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="outbox-")))
        for file in (self.path, log):
            shutil.copyfile(file, folder / file.name)
        return self._connect(folder / self.path.name, "mode=ro")

    def _connect(self, path: Path, how: str) -> sqlite3.Connection:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, isolation_level=None, timeout=5.0)
        try:
            db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
        except BaseException:
            db.close()
            raise
        self._stack.callback(db.close)
        return db


def wall(reading: Reading, offsets: dict[int, float]) -> float:
    """Return the UTC time in seconds at which it was measured, with the offset of its epoch."""
    if reading.time is not None:
        return reading.time
    return reading.boot + offsets.get(reading.id >> EPOCH_SHIFT, 0.0)
