"""The self-test's serial devices: each numbers its lines, and knows which of them which run of the gateway has read.

A device writes to a pseudo-terminal whose far end is held open here, too, so that what nobody has read can be looked at
and taken back. So there is no doubt: when a gateway dies, or a plug is pulled, what is still in the queue was not read,
is taken back and is written again from the beginning of its line. Every line is therefore read as a whole by one run of
the gateway and by no other, and the nth line that a run has read has to become seq n of that run.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import termios
import time
import tty
from array import array
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

LOOK = 0.02
"""Seconds between two looks at what has been read."""
QUEUE = 1 << 16  # bytes, more than a terminal ever holds
ROOM = 2000
"""Bytes that may wait to be read before the device waits: half of what the terminal's queue takes, so that never are
some in the queue and others still before it."""


def values(number: int) -> dict[str, int | float]:
    """Return what line `number` says."""
    return {"n": number, "x": number * 37 % 1009 / 4}


FORMS = {
    "json": b'{"n": %d, "x": %.2f}\r\n',
    "csv": b"%d,%.2f\n",
    "key-value": b"n=%d x=%.2f\n",
}
"""How a line is written."""


class Line:
    """One device behind the symbolic link `port`, and the line that leads to it. Times are those of time.time()."""

    def __init__(self, name: str, form: str, port: Path, rate: float, priority: str = "normal") -> None:
        self.name = name
        self.priority = priority
        self.form = form
        self.port = port
        self.written = array("d")  # when line n went out whole, the last time that it did: [n - 1]
        self.read = array("d")  # by when line n had been read for sure
        self.taken_back = 0  # lines written again
        self.paused = False  # by whoever wants silence
        self.changed = asyncio.Lock()  # held by whoever pulls the plug or takes back
        self._rate = rate
        self._near = self._far = -1
        self._rest = b""
        self._held = False  # while it is looked at
        self._turns = 0  # how often something was taken back

    def __enter__(self) -> Self:
        self.plug()
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    @property
    def count(self) -> int:
        """How many lines have gone out whole."""
        return len(self.written)

    @property
    def mark(self) -> tuple[int, int]:
        """What `seen` wants to know."""
        return self._turns, self.count

    def plug(self) -> None:
        """Come back as a new terminal, behind the same name."""
        self._near, self._far = os.openpty()
        tty.setraw(self._far)
        os.set_blocking(self._near, False)
        os.set_blocking(self._far, False)
        new = self.port.with_suffix(".new")
        new.symlink_to(os.ttyname(self._far))
        new.replace(self.port)

    async def unplug(self, canary: Canary) -> None:
        """Go away, in the middle of a line or not."""
        await self.take_back(canary)
        self._close()

    async def take_back(self, canary: Canary) -> None:
        """Take back what nobody has read; what is half read as well, from the beginning of its line.

        A reader that is there gets all that comes before, or nothing: one call takes all that is in the queue.
        """
        if self._near < 0:
            return
        self._held = True
        try:
            await canary.fly()
            try:
                lines = os.read(self._far, QUEUE).count(b"\n")
            except BlockingIOError:
                lines = 0
        finally:
            self._held = False
        self.taken_back += lines
        self._rest = b""
        self._turns += 1
        del self.written[self.count - lines :]
        del self.read[self.count :]
        self.read.extend([time.time()] * (self.count - len(self.read)))

    def step(self, now: float) -> None:
        """Write the next line, or what is left of one; a full queue holds the device up, as flow control does."""
        if self._near < 0 or self.waiting() > ROOM:
            return
        number = self.count + 1
        rest = self._rest or FORMS[self.form] % tuple(values(number).values())
        with suppress(BlockingIOError):
            rest = rest[os.write(self._near, rest) :]
            self._rest = rest
            if not rest:
                self.written.append(now)
                return
        self._rest = rest

    async def run(self) -> None:
        """Write at the device's rate until cancelled."""
        while True:
            if not (self.paused or self._held):
                self.step(time.time())
            await asyncio.sleep(1 / self._rate)

    def waiting(self) -> int:
        """Return how many bytes are in the queue."""
        return unread(self._far) if self._far >= 0 else 0

    def seen(self, mark: tuple[int, int], now: float) -> None:
        """Note that all up to `mark` has been read by now, unless something was taken back since."""
        turns, count = mark
        if turns == self._turns:
            self.read.extend([now] * (count - len(self.read)))

    def _close(self) -> None:
        if self._near >= 0:
            self.port.unlink(missing_ok=True)
            os.close(self._near)
            os.close(self._far)
            self._near = self._far = -1


class Canary:
    """Tells when the kernel has carried to their queues the bytes that were written to other terminals before.

    It does so in a work item of its own, which a busy machine may hold up; until then they are in no queue, and
    nothing tells. The work is done in the order in which it was asked for, so what is written to this terminal comes
    after them. Use as `with`.
    """

    def __init__(self) -> None:
        self._flying = asyncio.Lock()

    def __enter__(self) -> Self:
        self._near, self._far = os.openpty()
        tty.setraw(self._far)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._near)
        os.close(self._far)

    async def fly(self) -> None:
        """Send it off, and return when it has arrived."""
        async with self._flying:
            os.write(self._near, b"!")
            loop, landed = asyncio.get_running_loop(), asyncio.Event()
            loop.add_reader(self._far, landed.set)
            try:
                await landed.wait()
            finally:
                loop.remove_reader(self._far)
            os.read(self._far, 1)


async def watch(lines: Sequence[Line], canary: Canary) -> None:
    """Note what has been read of each line, until cancelled."""
    while True:
        marks = [line.mark for line in lines]
        await canary.fly()
        now = time.time()
        for line, mark in zip(lines, marks, strict=True):
            if not line.waiting():
                line.seen(mark, now)
        await asyncio.sleep(LOOK)


def unread(terminal: int) -> int:
    """Return how many bytes wait in a terminal's input queue."""
    return int(struct.unpack("i", fcntl.ioctl(terminal, termios.FIONREAD, b"\0" * 4))[0])
