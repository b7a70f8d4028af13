"""Which commands were begun, by their ids, also by earlier runs: a small file that is written before each begins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Self

from structlog.typing import FilteringBoundLogger

from gateway.devices.commands import REMEMBERED
from gateway.durable import append, replace
from gateway.mqtt.aside import aside

WAITING = 100
"""Commands that wait for the card, at most."""
PATIENCE = 2.0
"""Seconds that the card has to take them; then they are carried out all the same."""
_LINE = 17  # bytes of the file: a mark in hexadecimal, and the end of its line


def place_of_spent(outbox: Path) -> Path:
    """Return where the marks are, for a gateway with this outbox."""
    return outbox.with_name(outbox.name + ".commands")


def mark(topic: str, id: str) -> str:  # noqa: A002 - the word of the payload
    """Return what stands for a command: of one size, whatever its sender calls it."""
    return blake2b(f"{topic}\0{id}".encode(), digest_size=(_LINE - 1) // 2).hexdigest()


class Spent:
    """`async with Spent(path, log)`: the newest `limit` commands that were begun. `path` None: those of this run.

    A card that takes nothing is said once, and commands are carried out all the same: a valve that cannot be closed
    would be worse than one that is closed twice. Each line of the file is a mark, or else worth nothing.
    """

    def __init__(
        self, path: Path | None, log: FilteringBoundLogger, *, limit: int = REMEMBERED, patience: float = PATIENCE
    ) -> None:
        self._path = path
        self._log = log
        self._limit = limit
        self._patience = patience
        self._marks: dict[str, None] = {}  # oldest first
        self._lines = 0  # of the file
        self._whole = True  # the file has to be written as a whole
        self._failing = False
        self._waiting: list[tuple[str | None, Callable[[], None]]] = []
        self._task: asyncio.Task[None] | None = None
        self._call: asyncio.Task[None] | None = None  # what the card is at

    async def __aenter__(self) -> Self:
        if self._path is not None:
            try:
                data = await aside(object(), self._path.read_bytes)
            except FileNotFoundError:
                return self
            except OSError as error:
                self._log.warning(f"commands: cannot read {self._path}: {error.strerror}; what was begun is not known")
                return self
            lines = data.split(b"\n")
            marks = [line.decode() for line in lines if _is_mark(line)]
            self._marks = dict.fromkeys(marks[-self._limit :])
            self._lines = len(marks)
            self._whole = len(data) != _LINE * len(marks)  # else what is added would stand behind half a line
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waiting.clear()
        for task in (self._task, self._call):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
                if not task.cancelled():
                    task.exception()  # the card: that was said

    def __contains__(self, mark: str) -> bool:
        return mark in self._marks

    def begin(self, mark: str | None, then: Callable[[], None]) -> None:
        """Call `then` once it is on the card that this one was begun, and after all those before it.

        Without a mark nothing is written. Raises ValueError if too many wait.
        """
        if mark is None or self._path is None:
            if mark is not None:
                self._note([mark])
            if self._task is None:
                then()
                return
        if len(self._waiting) >= WAITING:
            raise ValueError("too many commands at once")
        self._waiting.append((mark, then))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work(self._path), name="commands begin")

    async def _work(self, path: Path | None) -> None:
        try:
            while self._waiting:
                waiting, self._waiting = self._waiting, []
                fresh = [mark for mark, _ in waiting if mark is not None]
                self._note(fresh)
                if fresh and path is not None:
                    await self._save(path, fresh)
                for _, then in waiting:
                    then()
        finally:
            self._task = None

    def _note(self, fresh: Sequence[str]) -> None:
        self._marks |= dict.fromkeys(fresh)
        while len(self._marks) > self._limit:
            del self._marks[next(iter(self._marks))]

    async def _save(self, path: Path, fresh: Sequence[str]) -> None:
        """Write these to the card, or say once that it cannot be done."""
        whole = self._whole or self._lines + len(fresh) > 2 * self._limit
        if self._call is not None and self._call.done():
            self._call.exception()  # of one that was given up: nobody minds
            self._call = None
        if self._call is None:
            write = partial(replace, path, _lines([*self._marks])) if whole else partial(append, path, _lines(fresh))
            self._call = asyncio.get_running_loop().create_task(aside(object(), write))
            await asyncio.wait([self._call], timeout=self._patience)
        self._whole = True  # until it is known that nothing is half written
        if not self._call.done():
            self._fail("it does not answer")
            return
        call, self._call = self._call, None
        if (error := call.exception()) is not None:
            self._fail(str(error))
            return
        self._whole, self._lines = False, len(self._marks) if whole else self._lines + len(fresh)
        if self._failing:
            self._failing = False
            self._log.info(f"commands: {path} can be written again")

    def _fail(self, why: str) -> None:
        if not self._failing:
            self._failing = True
            self._log.warning(
                f"commands: cannot write {self._path}: {why}; after a restart, one that is sent again with the same id "
                "may be carried out again"
            )


def _is_mark(line: bytes) -> bool:
    return len(line) == _LINE - 1 and all(byte in b"0123456789abcdef" for byte in line)


def _lines(marks: Sequence[str]) -> bytes:
    return "".join(f"{mark}\n" for mark in marks).encode()
