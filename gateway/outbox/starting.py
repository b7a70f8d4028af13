"""The start of a run: what the database holds, what it should hold, and a new epoch."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import orjson

from gateway.outbox.ledger import Loss
from gateway.outbox.log import State
from gateway.outbox.mark import Mark
from gateway.outbox.rows import Run, claims, enter, known_end, runs
from gateway.outbox.times import Epoch
from gateway.reading import EPOCH_SHIFT

WINDOWS = 1000
"""Entries about unclean ends that the ledger keeps: they tell of readings, and count none."""
GAP = 20
"""Epochs that are named one by one, at most, when nobody knows what became of them."""


@dataclass(slots=True)
class Begun:
    """A run that has begun, and what the log has to know."""

    run: Run
    epochs: list[Epoch]
    end: int  # one past the highest id that the database knows
    state: State = field(default_factory=lambda: State(0))


def begin(
    db: sqlite3.Connection,
    boot_id: str,
    offset: float,
    interval: float,
    uplinks: Sequence[str],
    mark: Mark | None,
) -> Begun:
    """Begin a new epoch, and enter what is missing into the ledger, in one transaction.

    `mark` is what was known beside the database; None: nothing, or what it says has been accounted for. Raises
    sqlite3.Error and DamagedRow.
    """
    known, held, end = runs(db), claims(db), known_end(db)
    last = known[-1] if known else None
    epoch = max(last.id if last else 0, end >> EPOCH_SHIFT, mark.epoch if mark else 0) + 1
    names = list(dict.fromkeys([*held, *uplinks]))
    now = time.time()
    before = {} if last is None else dict.fromkeys(orjson.loads(last.streams), 0)
    run = Run(epoch, boot_id, offset, now, interval, orjson.dumps(before).decode())
    newest = db.execute("SELECT last_id FROM block ORDER BY first_id DESC LIMIT 1").fetchone()
    oldest = db.execute("SELECT first_id FROM block ORDER BY first_id LIMIT 1").fetchone()
    begun = Begun(run, [], end, State(epoch, stored_end=newest[0] + 1 if newest else 0))
    state = begun.state
    if mark is not None and (mark.known > (last.id if last else 0) or mark.end > end):
        state.losses += _gap(names, last, mark, now)
        state.remarks.append(
            f"the outbox went back in time: it ends in epoch {last.id if last else 0}, and has been in epoch "
            f"{mark.known} before. It was restored or deleted, or the card has lost what it had taken. What it held "
            "since is missing, the ledger says so, and what was delivered since may be sent again"
        )
    if last is not None and last.ended is None and last.interval > 0:
        state.losses += _window(names, last, now)
        state.remarks.append(
            f"epoch {last.id} was not stopped in order: what was only in memory is missing, which is {last.interval:g} "
            "s of readings at most. The ledger says so"
        )
    db.execute("BEGIN IMMEDIATE")
    try:
        run.write(db)
        db.execute("DELETE FROM epoch WHERE id < ?", ((oldest[0] if oldest else epoch << EPOCH_SHIFT) >> EPOCH_SHIFT,))
        for loss in state.losses:
            enter(db, loss)
        db.execute(
            "DELETE FROM ledger WHERE reason = 'crash-window' AND id <= (SELECT id FROM ledger "
            "WHERE reason = 'crash-window' ORDER BY id DESC LIMIT 1 OFFSET ?)",
            (WINDOWS,),
        )
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    begun.epochs = [one.epoch for one in runs(db)]
    state.claims = held
    state.quarantined = dict(db.execute("SELECT uplink, count(*) FROM quarantine GROUP BY uplink").fetchall())
    return begun


def _gap(names: Iterable[str], last: Run | None, mark: Mark, now: float) -> list[Loss]:
    """Return entries for the epochs of which an unknown part is missing."""
    epochs = range(max(last.id if last else 1, mark.known - GAP + 1), mark.known + 1)
    return [Loss(name, "?", epoch, 0, 0, now, now, 0, "went-back") for name in names for epoch in epochs]


def _window(names: Iterable[str], last: Run, now: float) -> list[Loss]:
    """Return entries for the readings behind the last ones that the card knew of: how many is not known."""
    ends = {stream: seq + 1 for stream, seq in orjson.loads(last.streams).items()} or {"?": 0}
    return [
        Loss(name, stream, last.id, seq, seq, now, now, 0, "crash-window")
        for name in names
        for stream, seq in ends.items()
    ]
