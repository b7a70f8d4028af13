"""The mark: a small file beside the database that knows which epochs were given, should that go back in time."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from pathlib import Path

from gateway.durable import sync_folder

SLOT = 4096
"""Bytes of each of two copies, of which one is whole at any time; they never share a sector or a page of a card."""


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """What was true when it was written, and can only have grown since."""

    epoch: int  # the highest that was ever given
    known: int  # the highest that the database knew
    end: int  # one past the highest id that the database knew


def read(path: Path) -> Mark | None:
    """Return the mark, or None if there is none that can be read."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    found = [_parse(data[start : start + SLOT]) for start in (0, SLOT)]
    return max((mark for mark in found if mark is not None), default=None)


def write(path: Path, mark: Mark) -> None:
    """Make the mark durable, in place: that needs no room on a card that is full. Raises OSError."""
    text = b"%d %d %d" % (mark.epoch, mark.known, mark.end)
    slot = (text + b" %d\n" % zlib.crc32(text)).ljust(SLOT)
    fresh = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        older = [_parse(os.pread(descriptor, SLOT, start)) for start in (0, SLOT)]
        if None in older and older != [None, None]:
            at = older.index(None)
        else:
            at = 0 if older[0] is None or older[1] is None or older[0] <= older[1] else 1
        os.pwrite(descriptor, slot, at * SLOT)
        if older == [None, None]:
            os.pwrite(descriptor, slot, SLOT)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if fresh:
        sync_folder(path.parent)


def _parse(slot: bytes) -> Mark | None:
    text, _, crc = slot.partition(b"\n")[0].rpartition(b" ")
    try:
        if int(crc) == zlib.crc32(text):
            epoch, known, end = map(int, text.split())
            return Mark(epoch, known, end)
    except ValueError:
        pass
    return None
