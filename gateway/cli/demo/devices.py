"""Two simulated serial devices on pseudo-terminals, which speak two different formats at the byte level."""

from __future__ import annotations

import asyncio
import math
import os
import tty
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from gateway.reading import Value


class Line(NamedTuple):
    """One line as a device sends it, what it means, and how a person would say it."""

    raw: bytes
    values: dict[str, Value]
    words: str


def boiler_line(n: int) -> Line:
    """Return the nth line of a boiler controller: JSON lines, as an Arduino sketch would print them."""
    temperature = round(61.0 + 4.0 * math.sin(n / 160) + 0.3 * math.sin(n / 7), 2)
    pressure = round(1.5 + 0.2 * math.sin(n / 230), 3)
    raw = f'{{"temperature": {temperature}, "pressure": {pressure}}}\n'.encode()
    return Line(raw, {"temperature": temperature, "pressure": pressure}, f"{temperature:.1f} °C  {pressure:.2f} bar")


def scale_line(n: int) -> Line:
    """Return the nth line of an industrial scale: `ST,GS,+  12.345kg`, stable, gross, sign, value and unit."""
    weight = round(12.0 + 3.0 * abs(math.sin(n / 90)), 3)
    return Line(f"ST,GS,+{weight:8.3f}kg\r\n".encode(), {"weight": weight}, f"{weight:.3f} kg")


class SerialDevice:
    """A device on the far end of a serial line: `port` is what the gateway opens, a link to the pseudo-terminal."""

    def __init__(self, name: str, kind: str, port: Path, rate: float, line: Callable[[int], Line]) -> None:
        """Name a device that will send `rate` lines a second, and its kind. Nothing is opened yet."""
        self.name = name
        self.kind = kind
        self.port = port
        self.rate = rate
        self.written: list[dict[str, Value]] = []  # what the lines that went out whole mean, in order
        self.words = ""  # the newest line, for a person
        self.sending = False
        self._line = line
        self._near = self._far = -1

    def __enter__(self) -> Self:
        """Make the pseudo-terminal and its link. The far side stays open, so that the line outlives its readers."""
        self._near, self._far = os.openpty()
        tty.setraw(self._far)
        os.set_blocking(self._near, False)
        self.port.symlink_to(os.ttyname(self._far))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the line away."""
        self.port.unlink(missing_ok=True)
        os.close(self._near)
        os.close(self._far)

    async def run(self, stop: asyncio.Event) -> None:
        """Send lines at the device's rate until `stop` is set, and end with a whole line."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        self.sending = True
        while not stop.is_set():
            line = self._line(len(self.written))
            await self._send(line.raw)
            self.written.append(line.values)
            self.words = line.words
            due = max(
                due + 1 / self.rate, loop.time() - 1.0
            )  # a machine that stood still is not made up for in a burst
            await asyncio.sleep(due - loop.time())
        self.sending = False

    async def _send(self, data: bytes) -> None:
        """Write all of it. A full line holds the device up, as flow control does, and loses nothing."""
        while data:
            try:
                data = data[os.write(self._near, data) :]
            except BlockingIOError:
                await asyncio.sleep(0.01)
