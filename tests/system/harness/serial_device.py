"""A serial sensor on a pseudo-terminal: it writes numbered readings at a steady rate, and knows when they were read."""

from __future__ import annotations

import bisect
import os
import select
import termios
import threading
import time
import tty
from pathlib import Path
from typing import Self

from tests.system.harness.deadline import until

# Between two looks at what was read: often enough for any test, and cheap enough for a device that floods.
LOOK = 0.002


def _line(form: str, n: int) -> bytes:
    """Return reading number `n` as the device writes it."""
    temperature = 20 + n % 100 / 10
    if form == "json":
        return b'{"n": %d, "temperature": %.1f}\r\n' % (n, temperature)
    if form == "key-value":
        return b"n=%d temperature=%.1f\n" % (n, temperature)
    if form == "csv":
        return b"%d,%.1f\n" % (n, temperature)
    raise ValueError(form)


def _has_waiting(slave: int) -> bool:
    """Return whether something has been written to a terminal that nobody has read.

    Linux carries what is written to one end to the queue of the other in its own time, which on a busy machine may be
    half a second. A look that finds nothing there has it brought first (`n_tty_poll`, which FIONREAD does not).
    """
    look = select.poll()
    look.register(slave, select.POLLIN)
    return bool(look.poll(0))


class SerialDevice:
    """One device: a pseudo-terminal behind a stable symlink, and a thread that writes to it.

    The gateway opens `path`. The terminal's own end is held open here as well, so that the kernel keeps it when the
    gateway is away, and so that its input queue can be looked at: what has left that queue, the gateway has read.
    """

    def __init__(self, name: str, folder: Path, *, rate: float, form: str = "json") -> None:
        self.name = name
        self.path = folder / f"tty-{name}"
        self.form = form
        self.rate = rate
        # The clock at which reading n was written is wrote_at[n - 1]; only whole lines count.
        self.wrote_at: list[float] = []
        # At each of these clocks, all readings up to this number had certainly been read.
        self._seen_at: list[float] = []
        self._seen: list[int] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._master = self._slave = -1
        self._rest = b""
        self._writing = False
        self._ended = False
        self._next = 0.0
        self._looked = 0.0

    def __enter__(self) -> Self:
        self.plug()
        self._thread = threading.Thread(target=self._work, name=f"device {self.name}")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        assert self._thread is not None
        self._thread.join(5)
        if self._master >= 0:
            self.unplug()

    @property
    def written(self) -> int:
        """The number of the newest reading that was written whole."""
        return len(self.wrote_at)

    @property
    def keys(self) -> dict[str, object]:
        """The keys of its table in the gateway's configuration."""
        keys: dict[str, object] = {"adapter": "serial-text", "port": str(self.path), "baudrate": 115200}
        keys["format"] = self.form
        if self.form == "csv":
            keys["columns"] = ["n", "temperature"]
        return keys

    def plug(self) -> None:
        """Come back as a new terminal, behind the same symlink."""
        master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        temporary = self.path.with_suffix(".new")
        temporary.symlink_to(os.ttyname(slave))
        with self._changed:
            assert self._master < 0, f"{self.name} is plugged in"
            self._master, self._slave, self._rest = master, slave, b""
            temporary.replace(self.path)
            self._changed.notify_all()

    def unplug(self) -> None:
        """Go away, as a pulled plug does: the terminal hangs up and its name is gone."""
        with self._changed:
            self._writing = False
            self.path.unlink()
            os.close(self._master)
            os.close(self._slave)
            self._master = self._slave = -1

    def resume(self) -> None:
        """Write readings, at `rate`, until `pause`. What the kernel has no room for waits, and is not lost."""
        with self._changed:
            self._next = time.monotonic()
            self._writing = True
            self._changed.notify_all()

    def pause(self) -> None:
        """Stop writing. A line that is half written is still written to its end, when the kernel has room for it."""
        with self._changed:
            self._writing = False
            self._changed.notify_all()

    def wait_written(self, n: int, seconds: float) -> None:
        """Wait until reading `n` has been written. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.written >= n, seconds):
                raise TimeoutError(f"{self.name}: {n} readings not written within {seconds:g} s (at {self.written})")

    def wait_read(self, seconds: float) -> None:
        """Wait until all that was written has been read. Raises TimeoutError. Only when it is paused."""
        assert not self._writing
        until(self._has_been_read, seconds, f"{self.name}: everything read")

    def discard(self) -> None:
        """Throw away what was written and not read, as if it had never been written. Only when it is paused."""
        assert not self._writing
        with self._changed:
            self._rest = b""
            while _has_waiting(self._slave):  # the queue has not room for all that may be on its way
                termios.tcflush(self._slave, termios.TCIFLUSH)

    def wait_opened(self, seconds: float) -> None:
        """Throw away what nobody has read, and wait until a gateway has the port open.

        To open a port may be to empty its queue, so what is written before that may never be read, and from here on
        all of it will be. An empty line is the probe: it goes when the port is opened, and means nothing. Only when it
        is paused; raises TimeoutError.
        """
        self.discard()
        os.write(self._master, b"\n")
        until(lambda: not _has_waiting(self._slave), seconds, f"{self.name}: opened by the gateway")

    def read_at(self, n: int) -> float:
        """Return a clock by which reading `n` had certainly been read; infinity if that was never seen."""
        found = bisect.bisect_left(self._seen, n)
        return self._seen_at[found] if found < len(self._seen) else float("inf")

    def read_by(self, clock: float) -> int:
        """Return the highest number that had certainly been read at `clock`."""
        found = bisect.bisect_right(self._seen_at, clock)
        return self._seen[found - 1] if found else 0

    def _has_been_read(self) -> bool:
        with self._changed:
            self._look()
            return not self._rest and bool(self._seen) and self._seen[-1] == self.written

    def _look(self) -> None:
        """Note what has been read, if that is everything."""
        if not _has_waiting(self._slave):
            self._seen_at.append(time.monotonic())
            self._seen.append(self.written)

    def _work(self) -> None:
        """Write what is due, until the end."""
        with self._changed:
            while not self._ended:
                if self._master < 0 or not (self._writing or self._rest):
                    self._changed.wait()
                    continue
                early = self._next - time.monotonic()
                if early > 0:
                    self._changed.wait(early)
                    continue
                self._write()

    def _write(self) -> None:
        """Write one line, or what is left of it; when the kernel has no room, wait a little for some."""
        now = time.monotonic()
        if now - self._looked > LOOK:  # before it writes: right after that, there is always something to be read
            self._looked = now
            self._look()
        rest = self._rest or _line(self.form, self.written + 1)
        try:
            self._rest = rest[os.write(self._master, rest) :]
        except BlockingIOError:
            self._rest = rest
        if self._rest:
            ready = select.poll()
            ready.register(self._master, select.POLLOUT)
            ready.poll(2)
            self._changed.wait(0.001)  # lets the others in
            return
        self.wrote_at.append(time.monotonic())
        self._changed.notify_all()
        # A device that was held up goes on at its rate, and does not make up for lost time in one burst.
        self._next = max(self._next + 1 / self.rate, now - 0.5)
