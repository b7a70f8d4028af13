"""Finds: the rows of a broken outbox as they turn up, in any order, more than once, and with what is none between."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from types import NoneType
from typing import Any, TypeGuard

from gateway.outbox.card.block import DamagedBlock, decode
from gateway.outbox.card.opening import is_whole
from gateway.outbox.card.pages import Row
from gateway.outbox.card.rows import LAST_EPOCH, DamagedRow, Run, block_sum, is_block, read_claim
from gateway.outbox.claims import Claim
from gateway.outbox.ledger import Loss
from gateway.outbox.ranges import END, Ranges
from gateway.reading import EPOCH_SHIFT

BLOCK = (
    "INSERT INTO block (first_id, last_id, count, crc, data, priority, level) VALUES (?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (first_id) DO UPDATE SET last_id = excluded.last_id, count = excluded.count, crc = excluded.crc, "
    "data = excluded.data, priority = excluded.priority, level = excluded.level WHERE excluded.last_id > last_id"
)
"""Of two blocks that begin alike, from before and after thinning, the longer one has all that is left of the other."""


class Finds:
    """Blocks go into a new database at once, if they begin below id `below`; all else is kept."""

    def __init__(self, below: int) -> None:
        self.below = below
        self.any = False  # row of an outbox
        self.keeps_blocks = True
        self.end = 0
        """One past the highest id of all blocks that were found."""
        self.runs: dict[int, Run] = {}
        self.claims: dict[str, Claim] = {}
        self.losses: dict[int, Loss] = {}  # by the number of the row
        self.aside: dict[tuple[str, int], tuple[Any, ...]] = {}  # rows of the quarantine

    def take(self, db: sqlite3.Connection, rows: Iterable[Row]) -> int:
        """Take what is a row of ours; return the bytes that were written for it. Raises sqlite3.Error."""
        written = 0
        for row_id, columns in rows:
            with suppress(DamagedRow, DamagedBlock, TypeError):
                written += self._take(db, row_id, columns)
        return written

    def _take(self, db: sqlite3.Connection, row_id: int, columns: tuple[Any, ...]) -> int:
        shape = tuple(map(type, columns))
        if shape[:5] == (NoneType, int, int, int, bytes) and shape[5:] in ((), (int, int)):
            return self._take_block(db, row_id, *columns[1:])
        if len(shape) == 5 and shape[:3] == (str, int, str) and shape[4] is bytes and _is_number(columns[3]):
            decode(columns[4])
            self.aside.setdefault((columns[0], columns[1]), columns)
        elif shape[:1] == (str,) and len(shape) in (2, 4, 5, 6) and set(shape[:4]) == {str}:
            self._take_claim(*read_claim(columns))
        elif len(shape) in (4, 8, 11) and shape[:2] == (NoneType, str) and _is_number(columns[2]):
            run = Run.read((row_id, *columns[1:]))
            self.runs.setdefault(run.id, run)
        elif len(shape) == 10 and shape[:3] == (NoneType, str, str) and shape[3:6] == (int,) * 3:
            self._take_loss(row_id, Loss(*columns[1:]))
        else:
            return 0
        self.any = True
        return 0

    def _take_block(
        self,
        db: sqlite3.Connection,
        first: int,
        last: int,
        count: int,
        crc: int,
        data: bytes,
        priority: int = 0,
        level: int = 1,
    ) -> int:
        is_sound = is_block if crc == block_sum(first, last, count, data) else is_whole
        if not 1 << EPOCH_SHIFT < first <= last < END or not is_sound(first, last, count, crc, data):
            return 0
        self.any = True
        self.end = max(self.end, last + 1)
        if first >= self.below or not self.keeps_blocks:
            return 0
        row = (first, last, count, block_sum(first, last, count, data), data, priority, level)
        return len(data) if db.execute(BLOCK, row).rowcount else 0

    def _take_claim(self, name: str, claim: Claim) -> None:
        """What was acknowledged only grows: all that any version says is true, and the fullest is the newest."""
        other = self.claims.get(name, claim)
        newest = max(other, claim, key=_size)
        self.claims[name] = replace(newest, acked=list(Ranges([*other.acked, *claim.acked])))

    def _take_loss(self, row_id: int, loss: Loss) -> None:
        numbers = (loss.first_time, loss.last_time, loss.count)
        if not 0 <= loss.epoch <= LAST_EPOCH or not isinstance(loss.reason, str) or not all(map(_is_number, numbers)):
            return
        other = self.losses.get(row_id, loss)
        self.losses[row_id] = max(loss, other, key=lambda one: (one.count, one.last_seq))


def _size(claim: Claim) -> int:
    return sum(end - start for start, end in claim.acked)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float)
