"""The pages of a SQLite database and its log, read without SQLite, however broken the rest of them is.

The format: https://www.sqlite.org/fileformat2.html
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

from gateway.outbox.card.wear import PAGE_SIZE

Row = tuple[int, tuple[Any, ...]]
"""The row id of a record, and its columns. A column that is the row id is None."""

CHUNK = 1 << 18
"""Bytes that are read at once."""
LONGEST = 1 << 26
"""Bytes of a record, at most: what claims to be longer is none."""
LEAF = 0x0D  # a leaf of a table's tree
_LOG_HEADER, _FRAME_HEADER = 32, 24
_NO_PAGE = bytes(4)
_MAGIC = {0x377F0682: "<", 0x377F0683: ">"}  # of a log, and in which order its checksums take bytes


class Frame(NamedTuple):
    """A page in the log."""

    page: int
    at: int  # where its bytes begin


@dataclass(slots=True)
class Log:
    """The frames of a log that belong to its newest round, in order, and how many of them SQLite will use."""

    page_size: int = 0  # 0: there is no log
    frames: list[Frame] = field(default_factory=list)
    used: int = 0  # up to the last commit before the first that is not whole
    is_damaged: bool = False  # a transaction was complete, and SQLite will not find it


def read_log(path: Path) -> Log:
    """Return the log at `path`, as far as the card gives it."""
    with ExitStack() as stack:
        descriptor = _open(path, stack)
        header = _read(descriptor, 0, _LOG_HEADER)
        if len(header) < _LOG_HEADER:
            return Log(is_damaged=descriptor >= 0 and os.fstat(descriptor).st_size > _LOG_HEADER)
        size = os.fstat(descriptor).st_size
        magic, _, page_size = struct.unpack(">3I", header[:12])
        order, salts = _MAGIC.get(magic, ""), header[16:24]
        running = _checksum(header[:24], (0, 0), order or ">")
        whole = bool(order) and _is_page_size(page_size) and struct.unpack(">2I", header[24:]) == running
        headless = not whole
        log = Log(PAGE_SIZE if headless else page_size)
        step = _FRAME_HEADER + log.page_size
        for at in range(_LOG_HEADER, size - step + 1, step):
            frame = _read(descriptor, at, step)
            ours = frame[:4] > _NO_PAGE and (headless or frame[8:16] == salts)
            if whole and ours:
                running = _checksum(frame[:8] + frame[_FRAME_HEADER:], running, order)
            whole = whole and ours and struct.unpack(">2I", frame[16:24]) == running
            if ours:
                page, commits = struct.unpack(">2I", frame[:8])
                log.frames.append(Frame(page, at + _FRAME_HEADER))
                if commits and whole:
                    log.used = len(log.frames)
                log.is_damaged = log.is_damaged or (commits > 0 and not whole)
        return log


class Pages:
    """All pages, newest first where there are several of one number. Use as `with`."""

    def __init__(self, path: Path, log: Path) -> None:
        self.unreadable = 0
        """Pieces that the card did not give."""
        self._path, self._log_path = path, log
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._database = _open(self._path, self._stack)
        self._log = _open(self._log_path, self._stack)
        log = read_log(self._log_path)
        self._frames = log.frames
        # A page that is in the log may be broken there, and whole in the database: all views are tried.
        views = [{frame.page: frame.at for frame in frames} for frames in (log.frames, log.frames[: log.used], [])]
        self._views = [view for at, view in enumerate(views) if view not in views[:at]]
        # What the first page says may be damage, and what is not ours may be of an earlier version: both are tried.
        said = int.from_bytes(_read(self._database, 16, 2), "big")
        self._sizes = dict.fromkeys([log.page_size or PAGE_SIZE, *([said] if _is_page_size(said) else [])])
        self.page_size = next(iter(self._sizes))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def rows(self) -> Iterator[Row]:
        """Yield what any leaf of any table holds, also what it held once; the newest of the log first."""
        for piece in self.pieces():
            yield from piece

    def pieces(self) -> Iterator[Iterator[Row]]:
        """Yield the same piece by piece, each of about as many bytes and to be used up before the next."""
        for size in self._sizes:
            self.page_size = size
            yield from self._pieces()

    # ----

    def _pieces(self) -> Iterator[Iterator[Row]]:
        chunk = max(CHUNK, self.page_size)
        frames, step = self._frames[::-1], chunk // self.page_size
        for at in range(0, len(frames), step):
            yield self._of_log(frames[at : at + step])
        size = os.fstat(self._database).st_size if self._database >= 0 else 0
        for start in range(0, size, chunk):
            yield self._of_database(start, min(start + chunk, size))

    def _of_log(self, frames: Sequence[Frame]) -> Iterator[Row]:
        for frame in frames:
            yield from self._leaf(_read(self._log, frame.at, self.page_size), frame.page)

    def _of_database(self, start: int, end: int) -> Iterator[Row]:
        data = _read(self._database, start, end - start)
        if not data:
            self.unreadable += 1
        for at in range(start, end, self.page_size):
            # If the card did not give all of it, perhaps it gives a part.
            page = data[at - start : at - start + self.page_size] or _read(self._database, at, self.page_size)
            yield from self._leaf(page, at // self.page_size + 1)

    def _leaf(self, page: bytes, number: int) -> Iterator[Row]:
        start = 100 if number == 1 else 0
        if len(page) < self.page_size or page[start] != LEAF:
            return
        cells = int.from_bytes(page[start + 3 : start + 5], "big")
        if cells > self.page_size // 4:
            return
        for cell in range(cells):
            pointer = start + 8 + 2 * cell
            at = int.from_bytes(page[pointer : pointer + 2], "big")
            # Whatever stands there instead of a cell: it is none.
            with suppress(ValueError, IndexError, OverflowError, struct.error):
                yield from self._cell(page, at)

    def _cell(self, page: bytes, at: int) -> Iterator[Row]:
        size, at = _varint(page, at)
        row_id, at = _varint(page, at)
        row_id -= 1 << 64 if row_id >> 63 else 0
        if not 0 < size <= LONGEST:
            return
        local, room = size, self.page_size - 4
        if size > self.page_size - 35:
            least = (self.page_size - 12) * 32 // 255 - 23
            local = least + (size - least) % room
            local = least if local > self.page_size - 35 else local
        head = page[at : at + local]
        if local == size:
            yield row_id, _record(head)
            return
        after = int.from_bytes(page[at + local : at + local + 4], "big")
        for view in self._views:
            rest, numbers = self._chain(after, size - local, view)
            with suppress(ValueError, IndexError, OverflowError, struct.error):
                yield row_id, _record(head + rest)
            if not any(number in each for each in self._views for number in numbers):
                return  # it is the same in all views

    def _chain(self, number: int, left: int, view: dict[int, int]) -> tuple[bytes, list[int]]:
        """Return what stands in a chain of overflow pages, and their numbers."""
        parts, numbers = [], []
        while left > 0 and number > 0:
            numbers.append(number)
            at = view.get(number)
            file, start = (self._database, (number - 1) * self.page_size) if at is None else (self._log, at)
            page = _read(file, start, self.page_size)
            if len(page) < self.page_size:
                break
            parts.append(page[4 : 4 + left])
            number, left = int.from_bytes(page[:4], "big"), left - (self.page_size - 4)
        return b"".join(parts), numbers


def _open(path: Path, stack: ExitStack) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1
    stack.callback(os.close, descriptor)
    return descriptor


def _read(descriptor: int, at: int, size: int) -> bytes:
    """Return what the card gives of `size` bytes."""
    try:
        return os.pread(descriptor, size, at) if descriptor >= 0 else b""
    except OSError:
        return b""


def _record(data: bytes) -> tuple[Any, ...]:
    """Return the columns of a record. Raises ValueError, IndexError or struct.error for what is none."""
    end, at = _varint(data, 0)
    kinds = []
    while at < end:
        kind, at = _varint(data, at)
        kinds.append(kind)
    columns: list[Any] = []
    for kind in kinds:
        value, at = _column(data, at, kind)
        columns.append(value)
    if at != len(data):
        raise ValueError("no record")
    return tuple(columns)


_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}  # kind -> bytes


def _column(data: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind >= 12:
        size = (kind - 12) // 2
        piece = data[at : at + size]
        if len(piece) < size:
            raise ValueError("no record")
        return (piece if kind % 2 == 0 else piece.decode()), at + size
    if kind in _INTEGERS:
        size = _INTEGERS[kind]
        return int.from_bytes(data[at : at + size], "big", signed=True), at + size
    if kind == 7:
        return struct.unpack(">d", data[at : at + 8])[0], at + 8
    if kind in (0, 8, 9):
        return (None, 0, 1)[(0, 8, 9).index(kind)], at
    raise ValueError("no record")


def _varint(data: Sequence[int], at: int) -> tuple[int, int]:
    value = 0
    for offset in range(8):
        byte = data[at + offset]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + offset + 1
    return value << 8 | data[at + 8], at + 9


def _is_page_size(size: int) -> bool:
    return 512 <= size <= 1 << 16 and size & (size - 1) == 0


def _checksum(data: bytes, before: tuple[int, int], order: str) -> tuple[int, int]:
    one, two = before
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for first, second in zip(words[::2], words[1::2], strict=True):
        one = (one + first + two) & 0xFFFFFFFF
        two = (two + second + one) & 0xFFFFFFFF
    return one, two
