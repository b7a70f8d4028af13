"""Room on the card: how much the outbox takes of it, and how much it may."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from gateway.outbox.card.opening import log_of
from gateway.outbox.card.thin import Thinned


@dataclass(frozen=True, slots=True)
class Written:
    """What a transaction left behind. Sizes in bytes."""

    blocks: int
    used: int  # in use, in the file and its log
    limit: int  # what may be in use: max_size, or less where the card has to keep its free space
    free: int  # left on the card
    max_size: int
    spare: int = 0  # pages that nothing is in, if they are most of the file: else others had to be moved for them
    is_long: bool = False  # the log should be written back
    thinned: Thinned | None = None

    @property
    def reason(self) -> str:
        """Why nothing more fits, in the ledger's words."""
        return "full" if self.limit >= self.max_size else "no-space"


def measure(db: sqlite3.Connection, path: Path, max_size: int, keep_free: int) -> Written:
    """Return how much room the database at `path` takes, and how much there is. Raises sqlite3.Error and OSError."""
    size, pages, spare = (
        db.execute(f"PRAGMA {what}").fetchone()[0] for what in ("page_size", "page_count", "freelist_count")
    )
    log = log_of(path).stat().st_size if log_of(path).exists() else 0
    card = os.statvfs(next(folder for folder in path.absolute().parents if folder.exists()))
    free = card.f_bavail * card.f_frsize
    limit = allowed(max_size, pages * size + log, free, keep_free)
    used = (pages - spare) * size + log
    return Written(0, used, limit, free, max_size, spare if spare > pages * 4 // 5 else 0)


def allowed(max_size: int, size: int, free: int, keep_free: int) -> int:
    """Return how many bytes the outbox may use: `max_size`, or less, to leave `keep_free` on the card."""
    return min(max_size, max(0, size + free - keep_free))
