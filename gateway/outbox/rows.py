"""Rows of the ledger: one loss that goes on is one row."""

from __future__ import annotations

import sqlite3

from gateway.outbox.ledger import Loss


def enter(db: sqlite3.Connection, loss: Loss) -> None:
    """Add to the ledger; a loss that continues the last one of its kind makes that row longer."""
    row = db.execute(
        "SELECT id FROM ledger WHERE uplink = ? AND stream = ? AND epoch = ? AND reason = ? AND last_seq = ? "
        "ORDER BY id DESC LIMIT 1",
        (loss.uplink, loss.stream, loss.epoch, loss.reason, loss.first_seq - 1),
    ).fetchone()
    if row is not None:
        db.execute(
            "UPDATE ledger SET last_seq = ?, last_time = ?, count = count + ? WHERE id = ?",
            (loss.last_seq, loss.last_time, loss.count, row[0]),
        )
        return
    db.execute(
        "INSERT INTO ledger (uplink, stream, epoch, first_seq, last_seq, first_time, last_time, count, reason) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            loss.uplink,
            loss.stream,
            loss.epoch,
            loss.first_seq,
            loss.last_seq,
            loss.first_time,
            loss.last_time,
            loss.count,
            loss.reason,
        ),
    )
