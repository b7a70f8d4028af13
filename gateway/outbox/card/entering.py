"""Entering: what is there is opened, or put aside if it is broken, and a run begins; also where nothing is written."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from gateway.outbox.card import aside
from gateway.outbox.card.earlier import Earlier
from gateway.outbox.card.mark import Mark
from gateway.outbox.card.mark import read as read_mark
from gateway.outbox.card.mark import write as write_mark
from gateway.outbox.card.opening import Damaged, connect, examine, is_damage, is_unreadable
from gateway.outbox.card.salvage import Salvaged
from gateway.outbox.card.standby import APART, is_fault, look
from gateway.outbox.card.starting import Begun, await_salvage, begin, survey
from gateway.outbox.claims import choice
from gateway.outbox.errors import OutboxError
from gateway.reading import EPOCH_SHIFT

Circumstances: TypeAlias = tuple[str, float, float, float, Sequence[str], Sequence[str]]
"""Boot id, offset, commit_interval, seconds since boot, uplinks and streams: what `survey` wants to know."""
ATTEMPTS = 4
"""How often the file is opened, at most: a card that does not give it back is asked again before it is put aside."""
PAUSE = 0.3
"""Seconds between these."""
LEAP = 1 << 16
"""Epochs that are left out where nobody knows which was the last: of a broken file, only a part was read yet."""


def mark_of(path: Path) -> Path:
    """Return where the mark beside a database is."""
    return path.with_name(path.name + ".mark")


@dataclass(slots=True)
class Entered:
    """An open database, and the run that has begun in it; in standby, the card does not know of it."""

    db: sqlite3.Connection
    begun: Begun
    earlier: Earlier
    in_standby: bool = False


class Entrance:
    """The way into the outbox at `path`: it is known who comes, and how long it may take."""

    def __init__(
        self,
        path: Path,
        now: Circumstances,
        *,
        checkpoint: int,
        max_size: int,
        devices: Mapping[str, Collection[str]] | None,
        seconds: float,
    ) -> None:
        """`checkpoint`: see `connect`. `seconds` for looking through what is there."""
        self._path = path
        self._now = now
        self._uplinks = now[4]
        self._checkpoint = checkpoint
        self._max_size = max_size
        self._devices = devices
        self._seconds = seconds
        self._db: sqlite3.Connection | None = None
        self._remarks: list[str] = []
        self._why = ""  # the file was put aside

    def enter(self) -> Entered:
        """Open what is there, or what can be made of it, and begin an epoch in it.

        Raises sqlite3.Error, OSError, Damaged and ValueError; OutboxError for what is to be left as it is.
        """
        aside.finish(self._path)
        mark = read_mark(mark_of(self._path))
        for attempt in range(ATTEMPTS):
            try:
                return self._try(mark)
            except (sqlite3.Error, Damaged, ValueError, OSError) as error:
                if self._db is not None:
                    self._db.close()
                unreadable = is_unreadable(error)
                if attempt == ATTEMPTS - 1 or not (unreadable or is_damage(error)):
                    raise
                if unreadable and attempt < ATTEMPTS - 2:
                    time.sleep(PAUSE)
                    continue
                self._why = str(error)
                aside.put_aside(self._path, aside.DOUBTFUL if mark is None else aside.SALVAGING)
        raise AssertionError("the last attempt has raised")

    def stand_by(self, error: Exception) -> Entered:
        """Begin without a card that could take note of it. Raises OutboxError where that is not what is wrong."""
        try:
            if not is_fault(error, self._path):
                raise error
            db = look(self._path)
            mark = read_mark(mark_of(self._path))
            earlier = Earlier(self._path, self._uplinks, self._seconds)
            is_unknown = earlier.resume(db, mark) and earlier.is_fresh
            begun = self._survey(db, earlier, mark, is_unknown=is_unknown)
            self._look_through(db, begun, earlier)
        except (sqlite3.Error, Damaged, ValueError, OSError) as found:
            if isinstance(error, OutboxError):
                raise error from found
            raise OutboxError(f"cannot open the outbox {self._path}: {error}") from error
        try:
            write_mark(mark_of(self._path), Mark(begun.run.id, begun.known, begun.end))
        except OSError:
            begun.move(random.randrange(APART))  # noqa: S311 - it is no secret
        begun.state.remarks.append(
            f"the card cannot be written ({error}): the gateway starts all the same, and keeps readings in memory "
            "until it can"
        )
        return Entered(db, begun, earlier, in_standby=True)

    def _try(self, mark: Mark | None) -> Entered:
        examine(self._path)
        db = self._db = connect(self._path, self._checkpoint)
        earlier = Earlier(self._path, self._uplinks, self._seconds)
        accounted, is_unknown = mark, False
        if earlier.resume(db, mark):
            found = earlier.salvage_at_start(db)
            if found is not None:
                found.write_all(db)
                self._remarks.append(self._put_away(found))
                accounted = mark and replace(mark, known=0, end=0) if earlier.is_fresh else mark
            else:
                is_unknown = earlier.is_fresh
        elif aside.unfinished(self._path):  # it was over, but for the name under which the file is kept
            aside.put_away(self._path, is_ours=False)
        begun = self._survey(db, earlier, accounted, is_unknown=is_unknown)
        begun.state.remarks[:0] = self._remarks
        self._look_through(db, begun, earlier)  # before anything of this run is on the card: it may be found damaged
        begin(db, begun)
        return Entered(db, begun, earlier)

    def _survey(self, db: sqlite3.Connection, earlier: Earlier, mark: Mark | None, *, is_unknown: bool) -> Begun:
        """Find out how to begin. `is_unknown`: a salvage is not over, and no run has begun since it is under way."""
        salvage = earlier.salvage
        if salvage is None or not is_unknown:
            begun = survey(db, *self._now, mark)
        else:
            beyond = salvage.newest + LEAP if mark is None else max(mark.epoch, salvage.newest)
            begun = survey(db, *self._now, None, beyond)
        if salvage is not None:
            boot, offset = self._now[3], self._now[1]
            earlier.await_salvage(await_salvage(begun, self._uplinks, mark if is_unknown else None, boot + offset))
            why = f" ({self._why})" if self._why else ""
            begun.state.remarks.append(
                f"the outbox was damaged{why}, and is large: what can be read of it is salvaged while the gateway "
                "runs, and then sent"
            )
        return begun

    def _look_through(self, db: sqlite3.Connection, begun: Begun, earlier: Earlier) -> None:
        """Find out what waits, as far as there is time."""
        state = begun.state
        for name, claim in state.claims.items():
            state.claims[name] = choice(claim, name, self._devices) if name in self._uplinks else claim
        earlier.begin(state.claims, begun.run.id << EPOCH_SHIFT)
        found = earlier.walk_at_start(db)
        state.waiting, state.high, state.blocks = found.waiting, found.high, found.blocks
        state.hidden = list(earlier.hidden)
        if state.hidden and earlier.salvage is None:
            state.remarks.append("the outbox is large: what it holds is sent as it is looked through")

    def _put_away(self, found: Salvaged) -> str:
        kept = aside.put_away(self._path, is_ours=found.found)
        with suppress(OSError):
            aside.prune(self._path, self._max_size)
        return found.say(self._why, kept or self._path)
