"""The file: one SQLite connection, one transaction a commit. Only the writer thread calls it."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from gateway.outbox.boots import Epoch
from gateway.outbox.card import aside, contents
from gateway.outbox.card.block import cut, encode
from gateway.outbox.card.earlier import AT_START, Earlier
from gateway.outbox.card.entering import Entrance, mark_of
from gateway.outbox.card.lock import lock
from gateway.outbox.card.mark import Mark
from gateway.outbox.card.mark import write as write_mark
from gateway.outbox.card.opening import Damaged, connect
from gateway.outbox.card.place import carry_over, check, identify
from gateway.outbox.card.room import Written, measure
from gateway.outbox.card.rows import LAG, Run, is_told, known_end, write_claims
from gateway.outbox.card.salvage import Salvage, Salvaged
from gateway.outbox.card.starting import Begun, begin
from gateway.outbox.card.thin import Choice, Terraces, Thinned, choose
from gateway.outbox.card.transaction import write
from gateway.outbox.card.walk import Walked
from gateway.outbox.card.wear import CHECKPOINT, PAGE_SIZE, Meter, log_length
from gateway.outbox.claims import Claim
from gateway.outbox.commit import Commit, State
from gateway.outbox.errors import OutboxError
from gateway.outbox.ledger import Loss
from gateway.outbox.quarantine import Quarantined
from gateway.outbox.ranges import Ranges
from gateway.outbox.shelf import Bad, Page
from gateway.outbox.times import Correction

STEP = 1.0
"""Seconds of a transaction, at most, about, where a broken file is salvaged while all waits for it."""
MARKING = 3600.0
"""Seconds after which the mark beside the database is brought up to date."""


class Store:
    """The outbox's database. `open` first; every method may raise sqlite3.Error, and then has changed nothing."""

    def __init__(
        self,
        path: Path,
        *,
        max_size: int,
        keep_free: int,
        uplinks: Sequence[str] = (),
        streams: Sequence[str] = (),
        devices: Mapping[str, Collection[str]] | None = None,
        seconds: float = AT_START,
    ) -> None:
        """`uplinks` are the names in the config: those for whom a loss of all knowledge of them would be a loss.

        `streams` are those that are known to come. `devices`: of which devices one of the uplinks wants the readings,
        where not of all. `seconds` that opening may take to look through what is there.
        """
        self.path = path
        self._max_size = max_size
        self._keep_free = keep_free
        self._uplinks = uplinks
        self._streams = streams
        self._devices = devices
        self._seconds = seconds
        self.meter = Meter()
        # The log is at most about as long as this, in pages, or a sixteenth of a small max_size.
        self._checkpoint = max(32, min(CHECKPOINT, max_size // 16 // PAGE_SIZE))
        self._lag = 0  # blocks that tell what the row of this run does not
        self._blocks = 0
        self._terraces = Terraces()
        self._lock = -1
        self._run: Run
        self._is_torn = False  # a transaction that failed may have left something in the log
        self._earlier: Earlier
        self._standby: Begun | None = None  # what the card does not know yet
        self._marked = 0.0  # when, on the monotonic clock

    def open(self, boot_id: str, offset: float, interval: float = 0.0, boot: float = 0.0) -> tuple[State, list[Epoch]]:
        """Lock, open or create, migrate, and begin a new epoch, `boot` seconds after the machine started.

        `interval` is the commit_interval in seconds.

        A damaged or foreign file is put aside, and what is readable of it goes on. Raises OutboxError.
        """
        entrance = Entrance(
            self.path,
            (boot_id, offset, interval, boot, self._uplinks, self._streams),
            checkpoint=self._checkpoint,
            max_size=self._max_size,
            devices=self._devices,
            seconds=self._seconds,
        )
        try:
            with self.meter.charged("set-up"):
                self._take_lock()
                entered = entrance.enter()
        except (sqlite3.Error, Damaged, ValueError, OSError) as error:
            self.close()
            if isinstance(error, OutboxError):
                raise
            with suppress(OSError):
                self._take_lock()
            try:
                entered = entrance.stand_by(error)
            except BaseException:
                self.close()
                raise
        except BaseException:
            self.close()
            raise
        begun = entered.begun
        self._db, self._earlier, self._run = entered.db, entered.earlier, begun.run
        if entered.in_standby:
            self._standby = begun
        else:
            self._mark_now(Mark(begun.run.id, begun.run.id, begun.end))
        self._place = identify(self.path)
        self._blocks = begun.state.blocks
        self._written = self._measure()
        return begun.state, begun.epochs

    def _take_lock(self) -> None:
        """Have the outbox for ourselves. Raises OSError, and OutboxInUse if another process has it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        path = self.path.with_name(self.path.name + ".lock")
        if self._lock >= 0 and not path.exists():
            os.close(self._lock)
            self._lock = -1
        if self._lock < 0:
            self._lock = lock(path)

    @property
    def in_standby(self) -> bool:
        """Whether the card does not know of this run yet."""
        return self._standby is not None

    def go_on(self, seconds: float) -> Walked | Salvaged | None:
        """Find out more of what earlier runs have left, for about so many seconds; None: all is known.

        Raises sqlite3.Error, and Damaged.
        """
        with self.meter.charged("set-up"):
            found = self._earlier.go_on(self._db, seconds, can_write=self._standby is None)
        if isinstance(found, Walked):
            self._blocks += found.blocks
        self.checkpoint()
        return found

    def put_away(self, *, is_ours: bool) -> Path | None:
        """Give what was salvaged the name under which it is kept, and return that. Raises OSError."""
        kept = aside.put_away(self.path, is_ours=is_ours)
        aside.prune(self.path, self._max_size)
        return kept

    def _revive(self, begun: Begun) -> None:
        """Begin on the card what was begun without it."""
        self._take_lock()
        db = connect(self.path, self._checkpoint)
        try:
            with self.meter.charged("set-up"):
                begin(db, begun)
        except BaseException:
            db.close()
            raise
        self._db.close()
        self._db, self._standby = db, None
        self._place = identify(self.path)
        self._mark_now(Mark(self._run.id, self._run.id, begun.end))

    def close(self, *, clean: bool = False) -> None:
        """Checkpoint and close the file, and let another process have it. `clean`: nothing was left in memory."""
        if hasattr(self, "_db"):
            self._earlier.close()
            if clean and self._standby is None:
                with suppress(sqlite3.Error):  # the next start takes it for an unclean end, and says so
                    self._end()
            with self.meter.charged("checkpoint"):
                self._db.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _end(self) -> None:
        """Note that this run has ended in order, and which streams it had."""
        streams = {name: seq for name, seq in orjson.loads(self._run.streams).items() if seq}
        self._run = self._run._replace(ended=time.time(), streams=_json(streams))
        self._run.write(self._db)
        self._mark_now(Mark(self._run.id, self._run.id, known_end(self._db)))

    def _mark_now(self, mark: Mark) -> None:
        self._marked = time.monotonic()
        # A card that cannot take this is met by the next transaction.
        with suppress(OSError), self.meter.charged("mark"):
            write_mark(mark_of(self.path), mark)

    def commit(self, commit: Commit, clock: Correction | None) -> Written:
        """Write a block, the acknowledgements and the ledger, and delete what all have, in one transaction.

        `clock` is what is news of it.
        """
        with self.meter.charged("commit" if commit.readings else "acknowledge"):
            if self._standby is not None:
                self._revive(self._standby)
            check(self.path, self._place)
            torn = self._is_torn and not self._begin_log()
            self._is_torn = True
            thinned = self._transact(commit, clock)
            self._is_torn = torn
        with suppress(sqlite3.Error, ValueError, OSError):  # it is done: what fails now is met by the next one
            if time.monotonic() > self._marked + MARKING:
                self._mark_now(Mark(self._run.id, self._run.id, known_end(self._db)))
            self._written = self._measure()
        return self._written if thinned is None else replace(self._written, blocks=self._blocks, thinned=thinned)

    def _begin_log(self) -> bool:
        """Begin a new log, if it can be: what a failed transaction has left looks like damage behind a shorter one."""
        with suppress(sqlite3.Error):
            return bool(self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0)
        return False

    def _transact(self, commit: Commit, clock: Correction | None) -> Thinned | None:
        db = self._db
        if db.in_transaction:  # one that could not even be rolled back
            db.execute("ROLLBACK")
        blocks = [
            (part[0].id, part[-1].id, len(part), encode(part), is_high)
            for part, is_high in cut(commit.readings, commit.high)
        ]
        run = self._run
        if commit.streams:
            run = run._replace(streams=_json({**orjson.loads(run.streams), **commit.streams}))
        if run is not self._run and commit.readings:
            run = run._replace(seen=commit.readings[-1].boot)
        if clock is not None:
            run = run._replace(**clock._asdict())
        db.execute("BEGIN IMMEDIATE")
        try:
            deleted, thinned = write(db, commit, blocks, self._earlier.hidden)
            lag = self._lag + len(blocks)
            goes = self._lag and (deleted or thinned)  # perhaps what told
            if goes or lag > LAG or not is_told(self._run, run, commit.readings):
                lag = 0
                run.write(db)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        self._run, self._lag = run, lag
        self._blocks += len(blocks) - deleted
        if commit.thinning is not None and thinned is not None:
            self._blocks -= thinned.blocks
            self._terraces.put_all(commit.thinning.choice.seen)
        self.meter.readings += len(commit.readings)
        return thinned

    def checkpoint(self, least: int | None = None) -> None:
        """Write the log back into the file, if it is long enough: `least` pages.

        What fails does no harm, because all is in the log, and is tried again after the next transaction.
        """
        with suppress(sqlite3.Error), self.meter.charged("checkpoint"):
            if log_length(self.path) >= (self._checkpoint if least is None else least):
                self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def recover(self, claims: Mapping[str, Claim], below: int) -> list[tuple[int, int]]:
        """Set the file up anew after it was deleted or found damaged, with all that can be had of it.

        `claims` are newer than what it knew. Blocks that begin at id `below`, or behind, are left out: they are in
        memory. Returns [start, end) of the others. Raises sqlite3.Error and OSError; may be called again.
        """
        with self.meter.charged("set-up"):
            return self._set_up(claims, below)

    def _set_up(self, claims: Mapping[str, Claim], below: int) -> list[tuple[int, int]]:
        self._take_lock()
        if self._standby is not None:
            self._revive(self._standby)
        if identify(self.path) != self._place:
            carry_over(self._db, self.path)
        else:
            self._db.close()
            aside.put_aside(self.path, aside.SALVAGING)
        db = self._db = connect(self.path, self._checkpoint)
        found = self._salvage_all(below) if aside.unfinished(self.path) else None
        db.execute("BEGIN IMMEDIATE")
        if found is not None:
            found.write(db)
        self._run.write(db)
        db.execute("DELETE FROM uplink")  # of one that was forgotten, a trace may have been found
        write_claims(db, claims.items())
        db.execute("DELETE FROM block WHERE first_id >= ?", (below,))
        db.execute("COMMIT")
        if found is not None and self._earlier.salvage is None:
            with suppress(OSError):  # the next start does it
                self.put_away(is_ours=True)
        self._earlier.restart()
        self._place = identify(self.path)
        hidden = self._earlier.hidden
        rows = db.execute("SELECT first_id, last_id FROM block ORDER BY first_id")
        spans = [(first, last + 1) for first, last in rows if first not in hidden]
        self._blocks = len(spans)
        self._terraces = Terraces()
        self._mark_now(Mark(self._run.id, self._run.id, known_end(db)))
        return spans

    def _salvage_all(self, below: int) -> Salvaged:
        """Salvage all that was put aside, however long that takes: what is in memory flows meanwhile."""
        salvage = Salvage(self.path, self._uplinks, below=below)
        while not salvage.is_over:
            salvage.go(self._db, time.monotonic() + STEP)
        return salvage.settle(self._db, Mark(self._run.id, self._run.id, 0))

    def read(self, start: int, upto: int, limit: int) -> tuple[Page, list[Bad]]:
        """Read back at least `limit` readings. See `contents.read`."""
        return contents.read(self._db, start, upto, limit)

    def waiting(self, claims: Mapping[str, Claim]) -> dict[str, int]:
        """Return how many readings each uplink lacks, of those on the card."""
        hidden = self._earlier.hidden
        return {
            name: contents.waiting(self._db, Ranges([*claim.acked, *hidden]), claim.devices)
            for name, claim in claims.items()
        }

    def pass_over(self, start: int, upto: int) -> list[Bad]:
        """Return the block that has id `start`, or the next, without a look into it."""
        return contents.block_at(self._db, start, upto)

    def oldest(
        self, size: int, spared: Iterable[tuple[int, int]] = (), *, high: bool | None = None
    ) -> list[contents.Piece]:
        """Return the oldest blocks. See `contents.oldest`."""
        return contents.oldest(self._db, size, spared, high=high)

    def newest(self, spared: Iterable[tuple[int, int]]) -> list[contents.Piece]:
        """Return the newest block. See `contents.newest`."""
        return contents.newest(self._db, spared)

    def choose(self, spared: Iterable[tuple[int, int]], below: int, size: int) -> Choice:
        """Choose what is to be thinned next. See `thin.choose`."""
        choice = choose(self._db, self._terraces, spared, below, size)
        if not choice.groups:
            self._terraces.put_all(choice.seen)
        return choice

    def quarantined(self) -> list[Quarantined]:
        """Return what is set aside, oldest first. What is damaged is left out."""
        return contents.quarantined(self._db)

    def ledger(self) -> list[Loss]:
        """Return every entry of the ledger, oldest first."""
        return contents.ledger(self._db)

    def give_back(self, pages: int, keep: int) -> bool:
        """Return up to so many unused pages to the card; say whether there are more than `keep` left."""
        # As a script: it is a statement with a step for each page, of which `execute` does the first.
        with self.meter.charged("give-back"):
            self._db.executescript(f"PRAGMA incremental_vacuum({pages})")
        is_over = self._db.execute("PRAGMA freelist_count").fetchone()[0] <= keep
        self.checkpoint(1 if is_over else None)  # only then the file is shorter
        if not is_over:
            return True
        with suppress(OSError):
            self._written = self._measure()
        return False

    def written(self) -> Written:
        """Return what the last transaction left behind."""
        return self._written

    def _measure(self) -> Written:
        found = measure(self._db, self.path, self._max_size, self._keep_free)
        return replace(found, blocks=self._blocks, is_long=log_length(self.path) >= self._checkpoint)


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
