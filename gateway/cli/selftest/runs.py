"""The gateway under test: one run after the other, each with what is known of its end."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.cli.selftest.children import Child, Children
from gateway.cli.selftest.line import Line

READY = 20.0
"""Seconds within which a gateway must be ready, however it has ended before and whatever the card does."""
STOPPING = 30.0
"""Seconds within which it must have stopped in order."""
EX_IOERR = 74
AGAIN = 0.2  # seconds until one that has ended by itself is started again, as systemd does


@dataclass
class Run:
    """One run. Times are those of time.time()."""

    started: float
    epoch: int | None = None
    ready: float | None = None
    ended: float = 0.0
    status: int = 0  # below 0: the signal
    lines: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By device: the first line and one past the last one that it has read."""


class Gateway:
    """Starts runs, ends them, and starts again what has ended by itself.

    `start_run(environ, log)` makes the process. `excused()` says whether the card is in no state to be opened.
    """

    def __init__(
        self,
        folder: Path,
        children: Children,
        call: tuple[str, Sequence[Any]],
        lines: Sequence[Line],
        excused: Callable[[], bool],
    ) -> None:
        self.runs: list[Run] = []
        self.problems: list[str] = []
        self.figures: Mapping[str, Any] = {}
        self.log = folder / "gateway.log"
        self.changed = asyncio.Event()  # set, and made anew, whenever something is told
        self.is_stillborn = False  # the last run has ended by itself, and was never ready
        self._name = folder.name
        self._children = children
        self._call = call
        self._lines = lines
        self._excused = excused
        self._child: Child | None = None
        self._notify: socket.socket | None = None
        self._reached: dict[str, int] = dict.fromkeys((line.name for line in lines), 1)  # the next line to be read
        self._guard: asyncio.Task[None] | None = None
        self._busy = asyncio.Lock()

    @property
    def run(self) -> Run:
        """The present run, or the last."""
        return self.runs[-1]

    async def start(self) -> None:
        """Start a run. Does not wait until it is ready."""
        self.runs.append(Run(time.time()))
        self.figures = {}
        self.is_stillborn = False
        address = f"{self._name}-{len(self.runs)}"  # in the abstract namespace: a path could be too long
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._notify.bind(f"\0{address}")
        asyncio.get_running_loop().add_reader(self._notify, self._listen, self._notify, self.run)
        function, arguments = self._call
        self._child = self._children.call(function, *arguments, environ={"NOTIFY_SOCKET": f"@{address}"}, log=self.log)
        self._guard = asyncio.create_task(self._watch(self._child))

    async def ready(self, seconds: float = READY) -> bool:
        """Return whether it is ready, at the latest after so many seconds."""
        return await self.until(lambda: self.run.ready is not None, seconds)

    async def until(self, true: Callable[[], object], seconds: float) -> bool:
        """Return whether something that it tells has become true within so many seconds, or before it is stillborn."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not true() and not self.is_stillborn:
                    await self.changed.wait()
        return bool(true())

    async def kill(self) -> None:
        """SIGKILL it."""
        async with self._busy:
            if (child := self._child) is not None:
                child.signal(signal.SIGKILL)
                await self._over(child)

    async def stop(self) -> None:
        """SIGTERM it, and see that it stops in order. It is a problem if it does not."""
        async with self._busy:
            if (child := self._child) is None:
                return
            # Before it is ready it may not listen to signals yet, and then has nothing that it could lose.
            was_ready = self.run.ready is not None
            child.signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(STOPPING):
                    await asyncio.shield(child.ended)
            except TimeoutError:
                self._say(f"has not stopped within {STOPPING:g} s of SIGTERM")
                child.signal(signal.SIGKILL)
            await self._over(child)
            excused = self.run.status == EX_IOERR and self._excused()  # readings lost to the card: the ledger says so
            if was_ready and self.run.status not in (0, -signal.SIGKILL) and not excused:
                self._say(f"has stopped with exit status {self.run.status}")

    async def close(self) -> None:
        """Kill what there is, and start nothing any more."""
        if self._guard is not None:
            self._guard.cancel()
        await self.kill()

    async def _watch(self, child: Child) -> None:
        """Start it again should it end by itself; not if it could not even start, and has no card to blame for that."""
        await asyncio.shield(child.ended)
        async with self._busy:
            if self._child is not child:
                return
            await self._over(child)
            if not (self.run.status == EX_IOERR and self._excused()):
                self._say(f"has ended by itself, exit status {self.run.status}")
                if self.run.ready is None:
                    self.is_stillborn = True
                    self._tell()
                    return
            await asyncio.sleep(AGAIN)
            await self.start()

    async def _over(self, child: Child) -> None:
        """Take note of the end of a run, and of what it has read."""
        self._child = None
        self.run.status = await asyncio.shield(child.ended)
        self.run.ended = time.time()
        notify, self._notify = self._notify, None
        if notify is not None:
            self._listen(notify, self.run)
            asyncio.get_running_loop().remove_reader(notify)
            notify.close()
        for line in self._lines:
            line.take_back()
            self.run.lines[line.name] = (self._reached[line.name], line.count + 1)
            self._reached[line.name] = line.count + 1

    def _listen(self, notify: socket.socket, run: Run) -> None:
        """Take in what it tells its supervisor."""
        with suppress(BlockingIOError):
            while told := notify.recv(1 << 16):
                for line in told.decode(errors="replace").splitlines():
                    key, _, value = line.partition("=")
                    if key == "READY" and run.ready is None:
                        run.ready = time.time()
                    elif key == "X_FIGURES":
                        self.figures = json.loads(value)
                        run.epoch = self.figures["epoch"]
                self._tell()

    def _tell(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    def _say(self, words: str) -> None:
        with self.log.open("rb") as log:
            log.seek(max(0, log.seek(0, 2) - 4000))
            lines = log.read().decode(errors="replace").splitlines()
        tail: deque[str] = deque((line for line in lines if '"info"' not in line), maxlen=3)
        self.problems.append("\n    ".join([f"the gateway {words}", *tail]))
