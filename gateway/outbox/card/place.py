"""The place of the file: whether what a connection has open is still what stands at its path, and moving out if not."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from gateway.outbox.card.aside import draft_of, take_place
from gateway.outbox.card.opening import log_of

Identity = tuple[int, int] | None


class Gone(sqlite3.OperationalError):
    """The file, its log or their folder was deleted or replaced while it was open."""


def identify(path: Path) -> tuple[Identity, Identity]:
    """Return what stands at the path of a database and of its log, as device and inode."""
    return _identity(path), _identity(log_of(path))


def check(path: Path, before: tuple[Identity, Identity]) -> None:
    """Raise Gone if something else, or nothing, stands there now: SQLite would go on to write where nobody looks."""
    if identify(path) != before:
        raise Gone("the file was deleted or replaced")


def carry_over(db: sqlite3.Connection, path: Path) -> bool:
    """Put what an open connection still sees back to where it was deleted; return False if that is nothing.

    Raises sqlite3.Error and OSError when there is nowhere to put it.
    """
    draft = draft_of(path)
    draft.unlink(missing_ok=True)
    with closing(sqlite3.connect(draft, isolation_level=None)) as copy:
        copy.execute("PRAGMA user_version")  # the place is good: what fails from here on is what was open
        try:
            db.backup(copy)
            whole = copy.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
        except sqlite3.Error:
            whole = False
    with suppress(sqlite3.Error):
        db.close()
    if not whole:
        draft.unlink(missing_ok=True)
        return False
    take_place(path, "damaged")
    return True


def _identity(path: Path) -> Identity:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
