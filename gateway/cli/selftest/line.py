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
import select
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
"""Bytes that may wait to be read before the device waits: half of what the terminal's queue takes."""
PATIENCE = 2.0
"""Seconds that a plug waits at most for what was written before it is pulled to be read."""


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
        self._rate = rate
        self._near = self._far = -1
        self._rest = b""
        self._held = False  # while it is looked at

    def __enter__(self) -> Self:
        self.plug()
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    @property
    def count(self) -> int:
        """How many lines have gone out whole."""
        return len(self.written)

    def plug(self) -> None:
        """Come back as a new terminal, behind the same name."""
        self._near, self._far = os.openpty()
        tty.setraw(self._far)
        os.set_blocking(self._near, False)
        os.set_blocking(self._far, False)
        new = self.port.with_suffix(".new")
        new.symlink_to(os.ttyname(self._far))
        new.replace(self.port)

    async def unplug(self) -> None:
        """Go away, in the middle of a line.

        A reader that is there is given the time to read what came before, so that none reads what follows on it.
        """
        if self._near < 0:
            return
        self._held = True
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    while self.has_waiting():  # noqa: ASYNC110 - that somebody else has read it raises no event
                        await asyncio.sleep(LOOK / 4)
            with suppress(BlockingIOError):
                os.write(self._near, FORMS[self.form][:5])
            self.take_back()
            self._close()
        finally:
            self._held = False

    def take_back(self) -> None:
        """Take back what nobody has read; what is half read as well, from the beginning of its line.

        For when no reader is there. Nothing is still on its way: a read that finds nothing has looked for that, too.
        """
        if self._near < 0:
            return
        lines = 0
        with suppress(BlockingIOError):
            while chunk := os.read(self._far, QUEUE):  # empty where a reader has left VMIN at 0
                lines += chunk.count(b"\n")
        self.taken_back += lines
        self._rest = b""
        del self.written[self.count - lines :]
        del self.read[self.count :]
        self.read.extend([time.time()] * (self.count - len(self.read)))

    def step(self, now: float) -> None:
        """Write the next line, or what is left of one; a full queue holds the device up, as flow control does."""
        if self._near < 0 or _in_queue(self._far) > ROOM:
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

    def has_waiting(self) -> bool:
        """Return whether something has been written that nobody has read.

        Linux carries what is written to one end to the queue of the other in its own time. A look that finds nothing
        there has it brought first (`n_tty_poll` and `n_tty_read`, which FIONREAD does not).
        """
        if self._far < 0:
            return False
        look = select.poll()
        look.register(self._far, select.POLLIN)
        return bool(look.poll(0))

    def seen(self, now: float) -> None:
        """Note that all has been read by now."""
        self.read.extend([now] * (self.count - len(self.read)))

    def _close(self) -> None:
        if self._near >= 0:
            self.port.unlink(missing_ok=True)
            os.close(self._near)
            os.close(self._far)
            self._near = self._far = -1


async def watch(lines: Sequence[Line]) -> None:
    """Note what has been read of each line, until cancelled."""
    while True:
        for line in lines:
            if not line.has_waiting():
                line.seen(time.time())
        await asyncio.sleep(LOOK)


def _in_queue(terminal: int) -> int:
    """Return how many bytes wait in a terminal's input queue."""
    return int(struct.unpack("i", fcntl.ioctl(terminal, termios.FIONREAD, b"\0" * 4))[0])
