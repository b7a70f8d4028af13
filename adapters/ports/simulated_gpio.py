"""GPIO lines that are not there: made-up pulses, or levels that come through a named pipe.

From the descriptor of the request on, everything is as with the kernel's own: it gives the same records.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import threading
import time
from contextlib import suppress

from adapters.frames import edges
from adapters.frames.edges import Edge
from adapters.gpio.pulses import Steady
from adapters.ports.gpio_line import Wanted
from gateway import DeviceError

_SECOND = 1_000_000_000
_BOUNCE = 100_000  # nanoseconds between two edges of a contact that bounces
_TICK = 2.0  # milliseconds between two looks at what is due, at least: fast pulses come a few at a time, as in life
_LOOKS = 512  # characters of a wire read at once


def open_simulated(
    wanted: Wanted, *, frequency: float, duty: float, bounces: int, wire: str | None
) -> SimulatedInput | SimulatedOutput:
    """Return a line that is not there, in the place of `open_kernel`. Raises DeviceError.

    An input gives `frequency` pulses a second, of which `duty` (0 to 1) is active, each edge of which bounces so often;
    or it follows the characters 0 and 1, the physical level, written to the named pipe `wire`, which is made if there
    is none. An output writes its physical level, 0 or 1, to the file `wire`.
    """
    try:
        if wanted.output is not None:
            return SimulatedOutput(wanted, wire)
        return SimulatedInput(wanted, Waves(frequency, duty, bounces), wire)
    except OSError as error:
        raise DeviceError(f"cannot simulate the line: {error.strerror or error} ({wire})") from error


class Waves:
    """When a line that pulses by itself changes, in nanoseconds since its first pulse began."""

    def __init__(self, frequency: float, duty: float, bounces: int) -> None:
        self._period = _SECOND / frequency if frequency else 0.0
        self._duty = duty
        self._steps = 2 * bounces + 1  # edges for one change of level
        self._next = 0

    def due(self) -> int | None:
        """Return when the next change is; None: never."""
        if not self._period:
            return None
        pulse, place = divmod(self._next, 2 * self._steps)
        falling, bounce = divmod(place, self._steps)
        return round((pulse + falling * self._duty) * self._period) + bounce * _BOUNCE

    def take(self) -> bool:
        """Return to which level the next change is, and go on to the one after it."""
        place = self._next % (2 * self._steps)
        self._next += 1
        return (place < self._steps) == (place % self._steps % 2 == 0)


class SimulatedInput:
    """An input whose level is made up, by a thread in the place of the kernel."""

    def __init__(self, wanted: Wanted, waves: Waves, wire: str | None) -> None:
        self._falling_too = wanted.falling
        self._inverted = wanted.active_low
        self._waves = waves
        self._number = 0
        self._newest = b""  # that there was no room for
        idle = wanted.bias == "pull-up"  # the physical level of a line that nothing drives
        self._steady = Steady(idle != self._inverted, round(wanted.debounce * _SECOND))
        self._start = time.monotonic_ns()
        self._wire = _pipe(wire) if wire is not None else None
        self.fd, self._records = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._stopped, self._stop = os.pipe2(os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._live, name="simulated GPIO", daemon=True)
        self._thread.start()
        self._plugged = True

    def get(self) -> bool:
        """Return the logical level now."""
        return self._steady.level

    def set(self, level: bool) -> None:
        """Refuse: this is an input. Raises OSError."""
        raise OSError(errno.EPERM, "it is an input")

    def unplug(self) -> None:
        """Let the line be gone, as if its chip was unplugged: whoever reads learns it."""
        os.close(self._stop)
        self._thread.join()
        os.close(self._records)
        self._plugged = False

    def release(self) -> None:
        """Give the line back."""
        if self._plugged:
            self.unplug()
        for descriptor in (self.fd, self._stopped, *([] if self._wire is None else [self._wire])):
            os.close(descriptor)

    def _live(self) -> None:
        poll = select.poll()
        poll.register(self._stopped, select.POLLHUP)
        if self._wire is not None:
            poll.register(self._wire, select.POLLIN)
        while True:
            self._happen(time.monotonic_ns())
            poll.register(self._records, select.POLLOUT if self._newest else 0)
            ready = poll.poll(self._pause(time.monotonic_ns()))
            if any(descriptor == self._stopped for descriptor, _ in ready):
                return
            if self._newest:
                self._tell()
            if any(descriptor == self._wire for descriptor, _ in ready) and self._wire is not None:
                now = time.monotonic_ns()
                for character in os.read(self._wire, _LOOKS):
                    if character in b"01":
                        self._change(now, character == ord("1"))

    def _happen(self, now: int) -> None:
        """Do what is due by now, at the times at which it was."""
        while (due := self._waves.due()) is not None and self._start + due <= now:
            self._change(self._start + due, self._waves.take())
        self._report(self._steady.settle(now))

    def _pause(self, now: int) -> float | None:
        """Return the milliseconds until something is due, at least two; None: never."""
        wave, steady = self._waves.due(), self._steady.due()
        due = [] if wave is None else [self._start + wave]
        due += [] if steady is None else [steady]
        return max(_TICK, (min(due) - now) / 1e6) if due else None

    def _change(self, at: int, physical: bool) -> None:
        self._report(self._steady.feed(at, physical != self._inverted))
        self._report(self._steady.settle(at))  # at once, if there is no debounce

    def _report(self, since: int | None) -> None:
        if since is None or not (self._steady.level or self._falling_too):
            return
        self._number += 1
        self._newest = edges.encode(Edge(since, self._steady.level, self._number))
        self._tell()

    def _tell(self) -> None:
        """Have the newest edge read; what comes while nobody reads is lost but for the newest, as in the kernel."""
        with suppress(BlockingIOError):
            os.write(self._records, self._newest)
            self._newest = b""


class SimulatedOutput:
    """An output whose physical level, 0 or 1, is a character in a file."""

    def __init__(self, wanted: Wanted, wire: str | None) -> None:
        self._inverted = wanted.active_low
        if wire is None:
            self.fd = os.memfd_create("simulated GPIO", os.MFD_CLOEXEC)
        else:
            self.fd = os.open(wire, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        self.set(bool(wanted.output))

    def get(self) -> bool:
        """Return the logical level now. Raises OSError."""
        return (os.pread(self.fd, 1, 0) == b"1") != self._inverted

    def set(self, level: bool) -> None:
        """Drive the line. Raises OSError."""
        os.pwrite(self.fd, b"1\n" if level != self._inverted else b"0\n", 0)

    def release(self) -> None:
        """Give the line back."""
        os.close(self.fd)


def _pipe(path: str) -> int:
    """Open a named pipe for reading, and for writing too, so that it does not end when a writer goes."""
    with suppress(FileExistsError):
        os.mkfifo(path, 0o660)
    descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileExistsError(errno.EEXIST, "there is a file that is no named pipe")
    return descriptor
