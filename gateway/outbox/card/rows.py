"""Rows of the outbox's tables: what is in them, how they are checked, and how they are written."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import orjson

from gateway.outbox.boots import Epoch
from gateway.outbox.card.block import DamagedBlock, decode
from gateway.outbox.claims import Claim
from gateway.outbox.ledger import Loss
from gateway.outbox.ranges import END
from gateway.reading import EPOCH_SHIFT, Reading

LAG = 16
"""Blocks after which the row of a run is written again, at most, where they tell what it does not."""
LAST_EPOCH = (END >> EPOCH_SHIFT) - 1
RUN = "id, boot_id, clock_offset, started, interval, streams, ended, crc, synced, since, seen"
OLDER = 7
"""Columns of a run that its checksum was over before it knew whether the clock was set."""
LOSS = "uplink, stream, epoch, first_seq, last_seq, first_time, last_time, count, reason"
GAP = 20
"""Epochs that are named one by one, at most, when nobody knows what became of them."""
NEWEST = 8
"""Rows of a kind that a loss may be the continuation of."""


class DamagedRow(ValueError):
    """A row is not what was written."""


def block_sum(first: int, last: int, count: int, data: bytes) -> int:
    """Return the checksum of a block: of its data, and of the ids beside it."""
    return zlib.crc32(b"%d %d %d" % (first, last, count), zlib.crc32(data))


def is_block(first: int, last: int, count: int, crc: int, data: bytes) -> bool:
    """Say whether a block is what was written, by this version or by one that summed up the data alone."""
    return crc == block_sum(first, last, count, data) or crc == zlib.crc32(data)


class Run(NamedTuple):
    """A row of `epoch`: one run of the gateway. Times are UTC seconds, `interval` its commit_interval in seconds."""

    id: int
    boot_id: str
    offset: float  # from time since boot to UTC
    started: float
    interval: float = 0.0
    streams: str = "{}"  # JSON: the highest seq of each stream that the card knows of
    ended: float | None = None  # when it stopped in order
    synced: bool | None = None  # see `Epoch`, these three
    since: float | None = None
    seen: float = 0.0

    @property
    def epoch(self) -> Epoch:
        """What the time of its readings hangs on."""
        return Epoch(self.id, self.boot_id, self.offset, self.synced, self.since, self.seen)

    @property
    def crc(self) -> int:
        """The checksum of all that; a whole number comes back from a column or a page as one or as a float."""
        return _sum(_floats(self))

    def write(self, db: sqlite3.Connection) -> None:
        """Insert or update the row."""
        values = (*self[:OLDER], self.crc, *self[OLDER:])
        places = ", ".join("?" * len(values))
        db.execute(f"INSERT OR REPLACE INTO epoch ({RUN}) VALUES ({places})", values)  # noqa: S608 (constants)

    @classmethod
    def read(cls, row: Sequence[Any]) -> Run:
        """Return the run of a row, with the columns of this version or of an earlier one. Raises DamagedRow."""
        later: list[Any] = [0.0, "{}", None, None, None, None, 0.0]
        fields = [*row, *later[len(row) - 4 :]]
        crc, synced = fields.pop(OLDER), fields[OLDER]
        run = cls(*fields)._replace(synced=None if synced is None else bool(synced))
        older = _sum(_floats(run[:OLDER])) if run[OLDER:] == (None, None, 0.0) else None
        if (crc is not None and crc not in (run.crc, older)) or not 0 < run.id <= LAST_EPOCH:
            raise DamagedRow(f"epoch {run.id}")
        return run


def runs(db: sqlite3.Connection) -> list[Run]:
    """Return every run that the card knows of, oldest first. Raises DamagedRow."""
    # All columns, whichever they are: a card that takes nothing may hold what an earlier version has written.
    return [Run.read(row) for row in db.execute("SELECT * FROM epoch ORDER BY id")]


def is_told(before: Run, after: Run, readings: Iterable[Reading]) -> bool:
    """Say whether these readings tell all that has become of a run: its row needs not be written with them."""
    known, streams = orjson.loads(before.streams), orjson.loads(after.streams)
    told = {**known, **{reading.stream: reading.seq for reading in readings}}
    changed = after._replace(streams=before.streams, seen=before.seen)
    return before == changed and all(told.get(name) == streams[name] for name in streams)


def as_told(db: sqlite3.Connection, run: Run) -> Run:
    """Return a run as its row tells, and its newest blocks, which may know more."""
    streams: dict[str, int] = orjson.loads(run.streams)
    seen = run.seen
    rows = db.execute(
        "SELECT first_id, last_id, count, crc, data FROM block WHERE first_id BETWEEN ? AND ? ORDER BY first_id DESC "
        "LIMIT ?",
        (run.id << EPOCH_SHIFT, (run.id + 1) << EPOCH_SHIFT, LAG),
    )
    for row in rows.fetchall():
        with suppress(DamagedBlock):
            for reading in decode(row[-1]) if is_block(*row) else ():
                streams[reading.stream] = max(streams.get(reading.stream, 0), reading.seq)
                seen = max(seen, reading.boot)
    return run._replace(streams=_json(streams), seen=seen)


def write_claims(db: sqlite3.Connection, claims: Iterable[tuple[str, Claim]]) -> None:
    """Write what the uplinks have and have not."""
    rows = [
        (
            name,
            _json(one.acked),
            _json(one.released),
            _json(one.session),
            None if one.devices is None else _json(one.devices),
        )
        for name, one in claims
    ]
    db.executemany(
        "INSERT INTO uplink (name, acked, released, session, crc, devices) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT(name) DO UPDATE SET acked = excluded.acked, released = excluded.released, "
        "session = excluded.session, crc = excluded.crc, devices = excluded.devices",
        [(*row[:4], _claim_sum(*row), row[4]) for row in rows],
    )


def read_claim(row: Sequence[Any]) -> tuple[str, Claim]:
    """Return (uplink, claim) of a row, with the columns of this version or of an earlier one. Raises DamagedRow."""
    later: list[Any] = ["[]", "{}", None, None]
    name, acked, released, session, crc, devices = [*row, *later[len(row) - 2 :]]
    try:
        if crc is not None and crc != _claim_sum(name, acked, released, session, devices):
            raise DamagedRow(f"uplink {name}")
        claim = Claim(_ranges(acked), _ranges(released), orjson.loads(session), devices and orjson.loads(devices))
    except (ValueError, TypeError) as error:
        raise DamagedRow(f"uplink {name}: {error}") from error
    if not isinstance(claim.session, dict) or not isinstance(claim.devices, list | None):
        raise DamagedRow(f"uplink {name}: its session")
    return name, claim


def claims(db: sqlite3.Connection) -> dict[str, Claim]:
    """Return what the card knows of each uplink. Raises DamagedRow."""
    return dict(map(read_claim, db.execute("SELECT name, acked, released, session, crc, devices FROM uplink")))


def known_end(db: sqlite3.Connection) -> int:
    """Return one past the highest id that the card knows of, stored or dealt with. Raises DamagedRow."""
    newest = db.execute("SELECT last_id FROM block ORDER BY first_id DESC LIMIT 1").fetchone()
    return max([newest[0] + 1 if newest else 0, *(end for claim in claims(db).values() for _, end in claim.acked)])


def enter(db: sqlite3.Connection, loss: Loss) -> None:
    """Add to the ledger; a loss that continues one of the last of its kind makes that row longer."""
    rows = db.execute(
        f"SELECT id, {LOSS} FROM ledger WHERE uplink = ? AND stream = ? AND epoch = ? AND reason = ? "  # noqa: S608 (constants)
        f"ORDER BY id DESC LIMIT {NEWEST}",
        loss.kind,
    )
    for number, *fields in rows:
        before = Loss(*fields)
        if before.goes_on(loss):
            _insert(db, before.plus(loss), number)
            return
    _insert(db, loss, None)


def _insert(db: sqlite3.Connection, loss: Loss, number: int | None) -> None:
    values = [getattr(loss, name) for name in LOSS.split(", ")]
    db.execute(f"INSERT OR REPLACE INTO ledger (id, {LOSS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (number, *values))  # noqa: S608 (a constant)


def _claim_sum(name: str, acked: str, released: str, session: str, devices: str | None) -> int:
    """Return the checksum of a claim; of one on all devices it is what earlier versions wrote."""
    fields = (name, acked, released, session)
    return _sum(fields if devices is None else (*fields, devices))


def _floats(fields: Iterable[Any]) -> list[Any]:
    return [float(field) if isinstance(field, int) else field for field in fields]


def _sum(fields: Sequence[Any]) -> int:
    return zlib.crc32(orjson.dumps(list(fields)))


def _ranges(text: str) -> list[tuple[int, int]]:
    found = [(start, end) for start, end in orjson.loads(text)]
    if not all(0 <= start < end <= END for start, end in found):
        raise DamagedRow("a range")
    return found


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
