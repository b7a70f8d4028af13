"""The transaction: what a commit writes, in its order, between BEGIN and COMMIT."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from gateway.outbox.card.block import encode
from gateway.outbox.card.rows import block_sum, enter, write_claims
from gateway.outbox.card.thin import Thinned, rewrite
from gateway.outbox.commit import Commit
from gateway.outbox.ranges import Ranges

Block = tuple[int, int, int, bytes, bool]
"""First and last id, how many readings, the readings encoded, and whether they are of high priority."""


def write(
    db: sqlite3.Connection, commit: Commit, blocks: Sequence[Block], hidden: Ranges
) -> tuple[int, Thinned | None]:
    """Write blocks, acknowledgements, ledger and quarantine, and delete what all have, but for what is `hidden`.

    Returns how many blocks were deleted, and what was thinned. Raises sqlite3.Error.
    """
    db.executemany(
        "INSERT INTO block (first_id, last_id, count, data, priority, crc) VALUES (?, ?, ?, ?, ?, ?)",
        [(*block, block_sum(*block[:4])) for block in blocks],
    )
    gone = "DELETE FROM block WHERE first_id >= ? AND first_id < ? AND last_id < ?"
    spans = [*hidden.gaps(0, commit.floor), *commit.spent]
    deleted = sum(db.execute(gone, (start, end, end)).rowcount for start, end in spans)
    if commit.salvaged is not None:
        commit.salvaged.write(db)
    write_claims(db, commit.claims.items())
    db.executemany("DELETE FROM uplink WHERE name = ?", [(name,) for name in commit.forgotten])
    for loss in commit.losses:
        enter(db, loss)
    db.executemany(
        "INSERT OR REPLACE INTO quarantine (uplink, id, reason, time, data) VALUES (?, ?, ?, ?, ?)",
        [(one.uplink, one.reading.id, one.reason, one.time, encode([one.reading])) for one in commit.aside],
    )
    db.executemany("DELETE FROM quarantine WHERE uplink = ? AND id = ?", commit.gone)
    return deleted, None if commit.thinning is None else rewrite(db, commit.thinning)
