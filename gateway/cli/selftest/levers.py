"""What the self-test can change inside the gateway that it tests: a few numbers in a file that both have mapped."""

from __future__ import annotations

import mmap
import sqlite3
import struct
from pathlib import Path
from typing import NamedTuple, Self

_LAYOUT = struct.Struct("<ddii")


class Ailment(NamedTuple):
    """What is wrong with a card: which operations fail, and with which of SQLite's codes; none: they only take long."""

    operations: frozenset[str]
    code: int


AILMENTS = {
    "well": Ailment(frozenset(), 0),
    "full": Ailment(frozenset({"write"}), sqlite3.SQLITE_FULL),
    "read-only": Ailment(frozenset({"write", "truncate"}), sqlite3.SQLITE_READONLY),
    "failing to write": Ailment(frozenset({"write", "truncate"}), sqlite3.SQLITE_IOERR_WRITE),
    "failing to sync": Ailment(frozenset({"sync"}), sqlite3.SQLITE_IOERR_FSYNC),
    "failing to read": Ailment(frozenset({"read"}), sqlite3.SQLITE_IOERR_READ),
    "slow": Ailment(frozenset({"sync"}), 0),
}
"""By the words for it. Their order is their number in the file."""


class Position(NamedTuple):
    """How the levers stand: how many seconds the clock is ahead, and what is wrong with the card.

    Each `every`th operation is concerned; where none fails, it takes `pause` seconds.
    """

    ahead: float = 0.0
    pause: float = 0.0
    every: int = 1
    ailment: str = "well"


class Levers:
    """The file. Use as `with`; whoever comes first writes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._map: mmap.mmap

    def __enter__(self) -> Self:
        if not self.path.exists():
            self.path.write_bytes(bytes(mmap.PAGESIZE))
        with self.path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        return self

    def __exit__(self, *_: object) -> None:
        self._map.close()

    def read(self) -> Position:
        """Return how they stand."""
        ahead, pause, every, number = _LAYOUT.unpack_from(self._map)
        return Position(ahead, pause, every, list(AILMENTS)[number])

    def ahead(self) -> float:
        """Return how many seconds the clock is ahead."""
        return float(_LAYOUT.unpack_from(self._map)[0])

    def move(self, **parts: float | str) -> None:
        """Change some: see `Position`."""
        position = self.read()._replace(**parts)  # type: ignore[arg-type]  # the names are those of Position
        number = list(AILMENTS).index(position.ailment)
        _LAYOUT.pack_into(self._map, 0, position.ahead, position.pause, position.every, number)
