"""What earlier runs have left: looked through step by step, first at the start and then beside all else.

However large a file is, and however broken, a run begins within seconds. What is not known yet is `hidden`.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from gateway.outbox.card import aside
from gateway.outbox.card.mark import Mark
from gateway.outbox.card.salvage import Salvage, Salvaged, awaited
from gateway.outbox.card.walk import Walk, Walked
from gateway.outbox.claims import Claim
from gateway.outbox.ranges import END, Ranges

AT_START = 1.5
"""Seconds that a start takes for it, at most; the rest is done beside all else."""


class Earlier:
    """First what a damaged file still holds goes into the database (`salvage`), then all that is there is counted."""

    def __init__(self, path: Path, uplinks: Sequence[str], seconds: float) -> None:
        """`seconds` that the start may take for it."""
        self.salvage: Salvage | None = None
        self.is_fresh = False  # no run has begun since there is something to be salvaged
        self.hidden = Ranges()
        self._path = path
        self._uplinks = uplinks
        self._until = time.monotonic() + seconds
        self._mark: Mark | None = None
        self._walk: Walk | None = None
        self._claims: Mapping[str, Claim] = {}

    def resume(self, db: sqlite3.Connection, mark: Mark | None) -> bool:
        """Say whether something is to be salvaged, now or since an earlier start. Raises sqlite3.Error and ValueError.

        `mark` is what is known beside the database.
        """
        end = awaited(db)
        if end == 0 or not (aside.unfinished(self._path) or end < END):
            return False
        self._mark, self.is_fresh = mark, end == END
        self.salvage = Salvage(self._path, self._uplinks, end=end)
        return True

    def salvage_at_start(self, db: sqlite3.Connection) -> Salvaged | None:
        """Salvage as long as there is time; return what came of it, if it is over. Raises sqlite3.Error."""
        assert self.salvage is not None  # noqa: S101 - it was resumed
        while not self.salvage.is_over:
            self.salvage.go(db, self._until)
            if time.monotonic() >= self._until:
                break
        if not self.salvage.is_over:
            return None
        found, self.salvage = self.salvage.settle(db, self._mark), None
        return found

    def await_salvage(self, end: int) -> None:
        """Go on with the salvage, of all ids below `end`, in a run that has begun."""
        if self.salvage is not None:
            self.salvage.limit(end)
            self.hidden.add(0, end)

    def begin(self, claims: Mapping[str, Claim], end: int) -> None:
        """Look through all that is below id `end`, behind what is to be salvaged."""
        self._claims = claims
        start = self.salvage.end if self.salvage is not None else 0
        self._walk = Walk(claims, start, end)
        self.hidden.add(start, end)

    def walk_at_start(self, db: sqlite3.Connection) -> Walked:
        """Look through it as long as there is time. Raises sqlite3.Error, and Damaged."""
        assert self._walk is not None  # noqa: S101 - it has begun
        found = self._walk.go(db, self._until)
        self.hidden.remove(found.start, found.end)
        return found

    def go_on(self, db: sqlite3.Connection, seconds: float, *, can_write: bool) -> Walked | Salvaged | None:
        """Take the next step, of about so many seconds; return what it has found. None: it is over.

        Raises sqlite3.Error, and Damaged.
        """
        until = time.monotonic() + seconds
        if self._walk is not None and not self._walk.is_over:
            found = self._walk.go(db, until)
            self.hidden.remove(found.start, found.end)
            return found
        if self.salvage is None:
            return None
        if can_write:
            self.salvage.go(db, until)
            if self.salvage.is_over:
                result, end = self.salvage.settle(db, self._mark), self.salvage.end
                for name, claim in self._claims.items():  # what it wants is in the config
                    result.claims[name] = replace(result.claims[name], devices=claim.devices)
                self.salvage, self._walk = None, Walk(result.claims, 0, end)
                return result
        return Walked(0, 0)

    def restart(self) -> None:
        """Salvage from the beginning: the database was set up anew."""
        if self.salvage is not None:
            self.salvage.close()
            self.salvage = Salvage(self._path, self._uplinks, end=self.salvage.end)

    def close(self) -> None:
        """Let go of what was put aside."""
        if self.salvage is not None:
            self.salvage.close()
