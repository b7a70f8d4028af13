"""Standing by: starting on a card that takes nothing, with what can be read of it."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from sqlite_utils import Database

from gateway.outbox.card.opening import log_of
from gateway.outbox.card.schema import migrations

FAULTS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
APART = 1000
"""Epochs among which one is drawn that no card can take note of, so that two such starts hardly share one."""


def is_fault(error: BaseException, path: Path) -> bool:
    """Say whether the card at `path` is why something failed, and not what is on it or who may use it."""
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            return True
        return code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN) and _is_read_only(path)
    return isinstance(error, OSError) and error.errno in FAULTS


def look(path: Path) -> sqlite3.Connection:
    """Return what is on a card that takes nothing, to be read: as it stands, or a copy where its log holds something.

    A connection of its own kind: nobody writes there meanwhile. Raises sqlite3.Error and OSError.
    """
    if not path.exists() and not log_of(path).exists():
        return _nothing()
    if not log_of(path).exists() or log_of(path).stat().st_size == 0:
        db = _open(f"{path.absolute().as_uri()}?immutable=1")
        if db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'block'").fetchone()[0]:
            return db
        db.close()  # it was begun, and there was no room for the rest
        return _nothing()
    with tempfile.TemporaryDirectory(prefix="outbox-") as folder:
        copy = Path(folder, path.name)
        shutil.copyfile(path, copy)
        shutil.copyfile(log_of(path), log_of(copy))
        db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        with closing(_open(f"{copy.as_uri()}?mode=rw")) as whole:
            whole.backup(db)
        return db


def _nothing() -> sqlite3.Connection:
    db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    migrations.apply(Database(db))
    return db


def _open(uri: str) -> sqlite3.Connection:
    db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    try:
        db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except BaseException:
        db.close()
        raise
    return db


def _is_read_only(path: Path) -> bool:
    there = next(folder for folder in path.absolute().parents if folder.exists())
    return bool(os.statvfs(there).f_flag & os.ST_RDONLY)
