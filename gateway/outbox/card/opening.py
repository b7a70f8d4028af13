"""Opening the database: what is there, whether it is sound, and the one connection that writes."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from sqlite_utils import Database

from gateway.outbox.card.block import DamagedBlock, decode
from gateway.outbox.card.pages import read_log
from gateway.outbox.card.rows import is_block
from gateway.outbox.card.schema import NAMES, TABLES, migrations
from gateway.outbox.card.wear import PAGE_SIZE
from gateway.outbox.errors import OutboxError

CHECK = 1.0
"""Seconds that SQLite may look through the whole file at start; what it has not seen then, is found when it is read."""
INDEXED = frozenset({"uplink", "quarantine", migrations.migrations_table})
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH})


class Damaged(Exception):
    """The file is not a sound outbox, and the message says why."""


def is_damage(error: BaseException) -> bool:
    """Say whether an error means that what is in the file is wrong, and not that the card fails."""
    if isinstance(error, Damaged | ValueError):  # a damaged row, or what is no text
        return True
    return isinstance(error, sqlite3.Error) and _code(error) in _DAMAGE


def is_unreadable(error: BaseException) -> bool:
    """Say whether an error means that the card does not give back what it holds."""
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) in (
        sqlite3.SQLITE_IOERR_READ,
        sqlite3.SQLITE_IOERR_SHORT_READ,
    )


def log_of(path: Path) -> Path:
    """Return where SQLite keeps the log of a database."""
    return path.with_name(path.name + "-wal")


def examine(path: Path) -> None:
    """Look at what is there without changing it. Raises Damaged; OutboxError for what a newer version has written."""
    log = log_of(path)
    if path.exists() and not path.is_file():
        raise OutboxError(f"cannot open the outbox {path}: it is not a file")
    if not path.exists() or path.stat().st_size == 0:
        if log.exists() and log.stat().st_size > 0:
            raise Damaged("the file is gone or empty, and its log is not")
        return
    if read_log(log).is_damaged:
        raise Damaged("its log is broken before its end")
    if path.with_name(path.name + "-journal").exists():  # its creation was interrupted, and has to be undone first
        with closing(sqlite3.connect(path)) as db:
            db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as db:
        db.execute("PRAGMA query_only = ON")
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        if migrations.migrations_table in tables:
            _refuse_newer(db, path)
        if tables - {migrations.migrations_table} and not tables >= TABLES - {"quarantine"}:
            raise Damaged("it is not an outbox")
        _look_through(db, sorted(tables & INDEXED))


def connect(path: Path, checkpoint: int) -> sqlite3.Connection:
    """Open or create, set what durability rests on, and bring the tables up to this version.

    The log is written back only when somebody asks for it, and keeps room for `checkpoint` pages. Raises sqlite3.Error,
    and OutboxError where it cannot be durable.
    """
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA busy_timeout = 5000")
        db.execute(f"PRAGMA page_size = {PAGE_SIZE}")
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute("PRAGMA secure_delete = FAST").fetchall()  # Debian's ON writes zeros over all that is deleted
        db.execute(f"PRAGMA journal_size_limit = {checkpoint * PAGE_SIZE}")
        synchronous = db.execute("PRAGMA synchronous").fetchone()[0]
        if mode != "wal" or synchronous != 2:
            raise OutboxError(
                f"cannot make the outbox {path} durable: journal_mode is {mode}, synchronous is {synchronous}; "
                "put it on a local file system"
            )
        migrations.apply(Database(db))
    except BaseException:
        db.close()
        raise
    return db


def _refuse_newer(db: sqlite3.Connection, path: Path) -> None:
    rows = db.execute(
        f"SELECT name FROM {migrations.migrations_table} WHERE migration_set = ? ORDER BY id",  # noqa: S608 (a constant)
        (migrations.name,),
    )
    found = [name for (name,) in rows]
    # A name that is new while one of ours is missing is a damage, and no newer version.
    if len(found) > len(NAMES) and found[: len(NAMES)] == list(NAMES):
        raise OutboxError(
            f"the outbox {path} was written by a newer version of sensor-gateway ({found[-1]}), which this one does "
            "not know; it was left as it is. Install that version again, or give this one another [outbox] path"
        )


def _look_through(db: sqlite3.Connection, indexed: Sequence[str]) -> None:
    """Have SQLite check all pages, and whether the small tables agree with their indexes."""
    timer = threading.Timer(CHECK, db.interrupt)
    timer.start()
    try:
        checks = ["PRAGMA quick_check(1)", *(f"PRAGMA integrity_check({name})" for name in indexed)]
        found = next((row[0] for check in checks for row in db.execute(check) if row[0] != "ok"), "ok")
    except sqlite3.OperationalError as error:
        if _code(error) != sqlite3.SQLITE_INTERRUPT:
            raise
    else:
        if found != "ok":
            raise Damaged(found.replace("\n", " "))
    finally:
        timer.cancel()
        timer.join()


def is_whole(first: int, last: int, count: int, crc: int, data: bytes) -> bool:
    """Say whether a block is what was written, looking inside it."""
    if not is_block(first, last, count, crc, data):
        return False
    try:
        readings = decode(data)
    except DamagedBlock:
        return False
    return (readings[0].id, readings[-1].id, len(readings)) == (first, last, count)


def _code(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code."""
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)) & 0xFF
