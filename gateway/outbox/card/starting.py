"""The start of a run: what the database holds, what it should hold, and a new epoch."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import orjson

from gateway.outbox.boots import Epoch, begun_after, boots
from gateway.outbox.card.mark import Mark
from gateway.outbox.card.rows import GAP, Run, as_told, claims, enter, known_end, runs, write_claims
from gateway.outbox.card.salvage import awaiting
from gateway.outbox.claims import Claim
from gateway.outbox.commit import State
from gateway.outbox.ledger import Loss
from gateway.reading import EPOCH_SHIFT

WINDOWS = 1000
"""Entries about unclean ends that the ledger keeps: they tell of readings, and count none."""


@dataclass(slots=True)
class Begun:
    """A run that has begun, and what the log has to know."""

    run: Run
    before: list[Run]  # those that the database knows
    end: int  # one past the highest id that it knows
    state: State
    awaiting: dict[str, Claim] = field(default_factory=dict)  # what is to be known of uplinks until a salvage is over

    @property
    def epochs(self) -> list[Epoch]:
        """What the times of all readings hang on."""
        return [run.epoch for run in (*self.before, self.run)]

    @property
    def known(self) -> int:
        """The newest epoch that the database knew before."""
        return self.before[-1].id if self.before else 0

    def move(self, epochs: int) -> None:
        """Begin with a later epoch."""
        self.run = self.run._replace(id=self.run.id + epochs)
        self.state.epoch = self.run.id


def survey(
    db: sqlite3.Connection,
    boot_id: str,
    offset: float,
    interval: float,
    boot: float,
    uplinks: Sequence[str],
    streams: Iterable[str],
    mark: Mark | None,
    beyond: int = 0,
) -> Begun:
    """Return the run that comes next, `boot` seconds after the machine started, and what is missing; write nothing.

    Its epoch is higher than `beyond`.

    `streams` are those that may come: what is lost of one before the card has heard of it is to be in the ledger as
    well. `mark` is what was known beside the database; None: nothing, or what it says has been accounted for. Raises
    sqlite3.Error and DamagedRow.
    """
    known, held, end = runs(db), claims(db), known_end(db)
    last = known[-1] if known else None
    epoch = max(last.id if last else 0, end >> EPOCH_SHIFT, mark.epoch if mark else 0, beyond) + 1
    names = list(dict.fromkeys([*held, *uplinks]))
    now = boot + offset
    if last is not None and last.ended is None:
        known[-1] = last = as_told(db, last)
    before = dict.fromkeys([*(orjson.loads(last.streams) if last else ()), *streams], 0)
    run = Run(epoch, boot_id, offset, now, interval, orjson.dumps(before).decode(), seen=boot)
    *earlier, present = boots([*(one.epoch for one in known), run.epoch])
    same = next((one for one in reversed(known) if one.id in present.epochs), run)
    run = run._replace(synced=same.synced, since=begun_after(earlier))
    newest = db.execute("SELECT last_id FROM block ORDER BY first_id DESC LIMIT 1").fetchone()
    begun = Begun(run, known, end, State(epoch, stored_end=newest[0] + 1 if newest else 0))
    state = begun.state
    state.claims = held
    state.quarantined = dict(db.execute("SELECT uplink, count(*) FROM quarantine GROUP BY uplink").fetchall())
    if mark is not None and (mark.known > (last.id if last else 0) or mark.end > end):
        state.losses += _gap(names, last, mark, now)
        state.remarks.append(
            f"the outbox went back in time: it ends in epoch {last.id if last else 0}, and has been in epoch "
            f"{mark.known} before. It was restored or deleted, or the card has lost what it had taken. What it held "
            "since is missing, the ledger says so, and what was delivered since may be sent again"
        )
    if mark is not None and mark.epoch > (taken := max(last.id if last else 0, mark.known)):
        # Each start on such a card has had an epoch of its own.
        epochs = range(max(taken, mark.epoch - GAP) + 1, mark.epoch + 1)
        state.losses += [Loss(name, "?", each, 0, 0, now, now, 0, "crash-window") for name in names for each in epochs]
        state.remarks.append(
            f"in epoch {', '.join(map(str, epochs))} the card took nothing: what was not delivered then is missing. "
            "The ledger says so"
        )
    if last is not None and last.ended is None and last.interval > 0:
        state.losses += _window(names, last, now)
        state.remarks.append(
            f"epoch {last.id} was not stopped in order: what was only in memory is missing, which is {last.interval:g} "
            "s of readings at most. The ledger says so"
        )
    return begun


def await_salvage(begun: Begun, uplinks: Sequence[str], mark: Mark | None, now: float) -> int:
    """Have a run begin before it is known what a damaged file held; return below which id that all is."""
    state = begun.state
    end = max((claim.acked[0][0] for claim in state.claims.values() if claim.acked), default=0)
    if not end:
        end = begun.run.id << EPOCH_SHIFT
        state.claims = begun.awaiting = {name: awaiting(begun.run.id) for name in uplinks}
        epoch = mark.epoch if mark is not None else 0
        state.losses += [Loss(name, "?", epoch, 0, 0, now, now, 0, "disk-error") for name in uplinks if epoch]
    state.stored_end = max(state.stored_end, end)
    return end


def begin(db: sqlite3.Connection, begun: Begun) -> None:
    """Begin the run, and enter what is missing into the ledger, in one transaction. Raises sqlite3.Error."""
    db.execute("BEGIN IMMEDIATE")
    try:
        begun.run.write(db)
        write_claims(db, begun.awaiting.items())
        oldest = db.execute("SELECT min(first_id) FROM block").fetchone()[0]
        first = begun.run.id if oldest is None else oldest >> EPOCH_SHIFT
        db.execute("DELETE FROM epoch WHERE id < ?", (first,))
        for loss in begun.state.losses:
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
