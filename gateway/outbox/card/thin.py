"""Thinning: of the oldest readings on a full card, every second one of each stream goes, and again, and again.

So a long outage keeps its shape: what is left of it is spread evenly over all of it. The level of a block says that one
of so many readings is left of what it held. Everything here runs in the writer's thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.outbox.card.block import COUNT, DamagedBlock, cut, decode, encode
from gateway.outbox.card.rows import block_sum, enter, is_block
from gateway.outbox.ledger import Loss, entries
from gateway.outbox.ranges import END, Ranges
from gateway.reading import EPOCH_SHIFT, Reading

LEVELS = 1024
"""The highest level; what is full of such blocks drops the oldest."""
AT_ONCE = COUNT
"""Readings that one transaction looks at, about: some 20 ms of the writer's thread."""
LOOKS = 2000
"""Blocks that are looked at, at most, to find these."""
ROW = 40
"""Bytes that a block takes beside its data, about."""


class Group(NamedTuple):
    """Blocks, one behind the other, that become one; `level` is that of the new one."""

    first: int  # the lowest id
    last: int  # the highest
    level: int


@dataclass(frozen=True, slots=True)
class Choice:
    """What is to be thinned next."""

    groups: list[Group] = field(default_factory=list)
    seen: list[tuple[int, int, int]] = field(default_factory=list)  # [start, end) and the level that it then has
    more: bool = False  # there may be more to be found


@dataclass(frozen=True, slots=True)
class Thinning:
    """What one transaction thins, and whose loss that is."""

    choice: Choice
    lacks: Mapping[str, Callable[[Reading], bool]]  # for each uplink: whether it still has to send a reading
    reason: str
    wall: Callable[[Reading], float]


@dataclass(slots=True)
class Thinned:
    """What became of it."""

    losses: list[Loss] = field(default_factory=list)
    ids: dict[str, list[int]] = field(default_factory=dict)  # by uplink: what it has lost
    blocks: int = 0  # by how many there are fewer


def keeps(reading: Reading, level: int) -> bool:
    """Say whether a reading is one of those that stay: by its place in its stream, so that these are evenly apart."""
    return (reading.seq - 1) % level == 0


class Terraces:
    """Which level blocks have, by their ids: that much at least, as far as is known. Few steps, as the oldest go first.

    What is of high priority, or is damaged, counts as what is around it.
    """

    def __init__(self) -> None:
        self._steps = [(0, 1)]  # (start, level), in ascending order of start

    def ascending(self) -> list[tuple[int, int, int]]:
        """Return [start, end) and level, the lowest level first, and within it the oldest."""
        ends = [start for start, _ in self._steps[1:]] + [END]
        return sorted(
            ((start, end, level) for (start, level), end in zip(self._steps, ends, strict=True)),
            key=lambda step: (step[2], step[0]),
        )

    def put_all(self, seen: Iterable[tuple[int, int, int]]) -> None:
        """Note each [start, end) and its level."""
        for each in seen:
            self.put(*each)

    def put(self, start: int, end: int, level: int) -> None:
        """Note the level of [start, end)."""
        behind = next(each for at, each in reversed(self._steps) if at <= end)
        before = [step for step in self._steps if step[0] < start]
        after = [(end, behind), *(step for step in self._steps if step[0] > end)]
        steps = [*before, (start, level), *(after if end < END else [])]
        self._steps = [step for at, step in enumerate(steps) if at == 0 or steps[at - 1][1] != step[1]]


class _Row(NamedTuple):
    first: int
    last: int
    length: int
    priority: int
    level: int
    size: int


def choose(
    db: sqlite3.Connection, terraces: Terraces, spared: Iterable[tuple[int, int]], below: int, size: int
) -> Choice:
    """Choose what gives up about `size` bytes: the oldest blocks of the lowest level below id `below`, and so on.

    Passed over is what has an id in the ranges `spared`, or is of high priority. May raise sqlite3.Error.
    """
    search = _Search(Ranges(spared), size)
    for start, end, level in terraces.ascending():
        if level < LEVELS and not search.is_over:
            search.look(_rows(db, start, min(end, below)), start, end if end <= below else 0, 2 * level)
    return Choice(search.groups, search.seen, search.is_over)


def rewrite(db: sqlite3.Connection, thinning: Thinning) -> Thinned:
    """Thin, and enter what is lost into the ledger, in the transaction that is under way. May raise sqlite3.Error."""
    result = Thinned(ids={name: [] for name in thinning.lacks})
    for first, last, level in thinning.choice.groups:
        rows = db.execute(
            "SELECT first_id, last_id, count, crc, data FROM block WHERE first_id BETWEEN ? AND ? ORDER BY first_id",
            (first, last),
        ).fetchall()
        try:
            readings = [reading for row in rows for reading in _decode(*row)]
        except DamagedBlock:
            continue  # has its entry in the ledger when it is read
        parts = [part for part, _ in cut([reading for reading in readings if keeps(reading, level)])]
        db.execute("DELETE FROM block WHERE first_id BETWEEN ? AND ?", (first, last))
        for part in parts:
            block = part[0].id, part[-1].id, len(part), encode(part)
            db.execute(
                "INSERT INTO block (first_id, last_id, count, crc, data, level) VALUES (?, ?, ?, ?, ?, ?)",
                (*block[:3], block_sum(*block), block[3], level),
            )
        result.blocks += len(rows) - len(parts)
        lost = [reading for reading in readings if not keeps(reading, level)]
        for name, lacks in thinning.lacks.items():
            mine = [reading for reading in lost if lacks(reading)]
            result.ids[name] += [reading.id for reading in mine]
            result.losses += entries(name, mine, thinning.reason, thinning.wall, level)
    for loss in result.losses:
        enter(db, loss)
    return result


class _Search:
    """A look for what can be thinned, until there is enough."""

    def __init__(self, spared: Ranges, size: int) -> None:
        self.groups: list[Group] = []
        self.seen: list[tuple[int, int, int]] = []
        self._spared = spared
        self._size = size
        self._readings = self._looks = 0

    @property
    def is_over(self) -> bool:
        """Whether that is as much as can be done at once."""
        return self._size <= 0 or self._readings >= AT_ONCE or self._looks >= LOOKS

    def look(self, rows: Iterable[_Row], start: int, end: int, level: int) -> None:
        """Take of these blocks, from id `start` on, those that can have this level and have it not yet.

        There are no others below `end`.
        """
        is_open = False  # the last group may become longer
        for row in rows:
            if self.is_over:
                return
            self._looks += 1
            if self._spared.overlap(row.first, row.last + 1):
                is_open = False
                start = self._note(start, row.first, level, row.last + 1)
            elif row.priority:
                is_open = False
                start = self._note(start, row.last + 1, level)
            elif row.level >= level:
                is_open = False
                start = self._note(self._note(start, row.first, level), row.last + 1, row.level)
            else:
                # No block reaches over the end of an epoch: nobody could say how much was in it, if it is damaged.
                goes_on = is_open and self.groups[-1].last >> EPOCH_SHIFT == row.first >> EPOCH_SHIFT
                first = self.groups.pop().first if goes_on else row.first
                self.groups.append(Group(first, row.last, level))
                is_open = True
                self._readings += row.length
                self._size -= row.size * (level - row.level) // level + ROW
                start = self._note(start, row.last + 1, level)
        self._note(start, end, level)

    def _note(self, start: int, end: int, level: int, go_on: int = 0) -> int:
        if start < end:
            self.seen.append((start, end, level))
        return max(start, end, go_on)


def _rows(db: sqlite3.Connection, start: int, end: int) -> Iterator[_Row]:
    rows = db.execute(
        "SELECT first_id, last_id, count, priority, level, length(data) FROM block "
        "WHERE first_id >= ? AND first_id < ? AND last_id < ? ORDER BY first_id",
        (start, end, end),
    )
    try:
        yield from map(_Row._make, rows)
    finally:
        rows.close()


def _decode(first: int, last: int, count: int, crc: int, data: bytes) -> list[Reading]:
    if not is_block(first, last, count, crc, data):
        raise DamagedBlock("checksum")
    return decode(data)
