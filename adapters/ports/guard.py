"""A process of its own that drives an output to its safe level when the gateway is gone, however it went.

It is started with the descriptor of the line's request: `guard.py <descriptor> ioctl|file <level>`, and waits for the
end of its standard input, which the kernel brings about when the gateway dies. Needs nothing but the standard library,
and keeps about 8 MB. Source: GPIO_V2_LINE_SET_VALUES_IOCTL in include/uapi/linux/gpio.h (Linux 5.10 and later).
"""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from adapters.ports.gpio_line import Request

How: TypeAlias = Literal["ioctl", "file"]
"""The kernel's lines are driven by ioctl and a logical level, simulated ones are files that hold a physical one."""

_SET_VALUES = 0xC010B40F  # _IOWR(0xB4, 0x0F, struct gpio_v2_line_values)
_VALUES = struct.Struct("=QQ")  # bits, mask; of the lines of the request the first is ours
PATIENCE = 2.0
"""Seconds that a guard has to end."""


class Guarded:
    """An output that becomes safe when it is released and when this process ends, by whatever."""

    def __init__(self, request: Request, safe: bool, how: How, driven: bool) -> None:
        """Start the guard. `safe` is a logical level; `driven` is what `drive` takes for it. Raises OSError."""
        self._request = request
        self._safe = safe
        self.fd = request.fd
        self.get = request.get
        self.set = request.set
        self._guard = subprocess.Popen(  # noqa: S603 - this very file, by this very interpreter
            [sys.executable, "-I", "-S", __file__, str(self.fd), how, str(int(driven))],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(self.fd,),
            cwd="/",
            env={},
            start_new_session=True,
        )

    def release(self) -> None:
        """Make the output safe, and give the line back when the guard has done so too, which takes a moment."""
        with suppress(OSError):  # the line is gone, and there is nothing left to make safe
            self._request.set(self._safe)
        try:
            if self._guard.stdin is not None:
                self._guard.stdin.close()
            self._guard.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()
        finally:
            self._request.release()


def guarded(open_line: Callable[[], Request], safe: bool, how: How, driven: bool) -> Guarded:
    """Open a line and set a guard over it. See `Guarded`. May block. Raises OSError."""
    request = open_line()
    try:
        return Guarded(request, safe, how, driven)
    except BaseException:
        request.release()
        raise


def drive(fd: int, how: str, level: bool) -> None:
    """Drive the line of a request. Raises OSError."""
    if how == "ioctl":
        fcntl.ioctl(fd, _SET_VALUES, _VALUES.pack(int(level), 1))
    else:
        os.pwrite(fd, b"1\n" if level else b"0\n", 0)


def main(fd: int, how: str, level: bool) -> None:
    """Wait for the end of standard input, then drive the line. No signal but SIGKILL ends it before."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 64):
        pass
    drive(fd, how, level)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3] == "1")
