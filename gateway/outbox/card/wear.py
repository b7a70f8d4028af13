"""The wear of the card: how many bytes are handed to it, and why, and the sizes that keep them few.

Measured by `python -m bench wear`: an hour without a broker at 100 readings/s of 122 bytes, one transaction a second,
then delivered and deleted. Bytes written for each reading, of all causes: 46 with the sizes below; 62 with pages of
1024, 118 with pages of 2048 or 4096; 48 with a log of 100 pages, 46 with one of 4000; 56 with zlib level 1, 45 with
level 6, 118 without. docs/performance.md has the whole table.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

PAGE_SIZE = 512
"""Bytes of a page of a new file: a transaction writes whole ones, and some only for a few bytes."""
CHECKPOINT = 2000
"""Pages of the log after which it is written back: what was written twice meanwhile goes back once."""
LEVEL = 5
"""Of zlib: level 6 takes half as long again for blocks of thousands of readings, and gains hardly anything."""

Cause: TypeAlias = Literal["commit", "acknowledge", "checkpoint", "give-back", "mark", "set-up"]
"""A transaction with readings, or without any; the log written back; room given back; the mark; a start."""
CAUSES: tuple[Cause, ...] = get_args(Cause)
LEAST = 60.0
"""Seconds from which on what is written in a day can be told."""
_IO = Path("/proc/thread-self/io")


@dataclass(frozen=True, slots=True)
class Wear:
    """What was written to the card in a time."""

    seconds: float
    bytes: dict[str, int] | None  # by cause; None where the kernel does not count them
    readings: int  # those that went to the card

    @property
    def per_reading(self) -> float | None:
        """Bytes for each reading that went to the card, of all causes; None where that is not known."""
        return sum(self.bytes.values()) / self.readings if self.bytes and self.readings else None

    @property
    def per_day(self) -> float | None:
        """Bytes a day, if it goes on like that; None where that is not known yet. A start is none of it."""
        if self.bytes is None or self.seconds < LEAST:
            return None
        return (sum(self.bytes.values()) - self.bytes["set-up"]) / self.seconds * 86400


class Meter:
    """Counts what the thread that calls it hands to the card, by cause."""

    def __init__(self) -> None:
        self.readings = 0
        """Those that went to the card."""
        self._bytes: dict[str, int] | None = dict.fromkeys(CAUSES, 0)
        self._cause: Cause | None = None
        self._last = 0

    def wear(self, seconds: float) -> Wear:
        """Return what was written in so many seconds."""
        return Wear(seconds, None if self._bytes is None else dict(self._bytes), self.readings)

    @contextmanager
    def charged(self, cause: Cause) -> Iterator[None]:
        """Put what is written meanwhile down to `cause`, or to one within it that says better."""
        outer = self._cause
        self._note(outer)
        self._cause = cause
        try:
            yield
        finally:
            self._note(cause)
            self._cause = outer

    def _note(self, cause: Cause | None) -> None:
        """Put what was written since the last time down to `cause`; None: it was somebody else's."""
        now = written()
        if now is None:
            self._bytes = None
        else:
            if cause is not None and self._bytes is not None:
                self._bytes[cause] += now - self._last
            self._last = now


def written() -> int | None:
    """Return the bytes that this thread has handed to the kernel to be written; None where it does not count them.

    What goes into a file that is mapped into memory is not among them. Source: proc(5), /proc/pid/io, wchar.
    """
    try:
        name, value = _IO.read_bytes().split()[2:4]
        return int(value) if name == b"wchar:" else None
    except (OSError, ValueError):
        return None


def log_length(database: Path) -> int:
    """Return how many pages of the log have still to be written back; CHECKPOINT where nobody can say.

    Source: https://www.sqlite.org/walformat.html#the_wal_index_file_format, mxFrame and nBackfill.
    """
    try:
        with database.with_name(database.name + "-shm").open("rb", buffering=0) as index:
            head = index.read(100)
        frames, written_back = (int.from_bytes(head[at : at + 4], sys.byteorder) for at in (16, 96))
    except OSError:
        return CHECKPOINT
    return max(0, frames - written_back)
