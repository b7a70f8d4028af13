"""What a measurement is made of: a mosquitto, a pseudo-terminal with its writer, a counter, and a child's CPU time."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import tty
from pathlib import Path
from types import TracebackType
from typing import Any, Self

MOSQUITTO = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence false
max_queued_messages 0
max_inflight_messages 0
set_tcp_nodelay true
log_type error
"""


def find(command: str) -> str:
    """Return the path of a program. Ends the bench, and says what to install, if there is none."""
    found = shutil.which(command, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        sys.exit(f"{command} is missing. Type: sudo apt-get install mosquitto mosquitto-clients")
    return found


def free_port() -> int:
    """Return a TCP port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process with all its threads, to the nanosecond.

    This is the clock that clock_getcpuclockid(3) names; /proc/PID/stat says the same in steps of 10 ms.
    """
    return time.clock_gettime((~pid << 3) | 2)


class Child:
    """A child process that is ended when the block is left."""

    def __init__(self, *command: str, **options: Any) -> None:
        """Name a command; `options` go to subprocess.Popen."""
        self._command = command
        self._options = options

    def __enter__(self) -> Self:
        """Start it."""
        self.process = subprocess.Popen(self._command, **self._options)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ask it to stop, insist after ten seconds, and close its pipes."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    @property
    def cpu(self) -> float:
        """CPU seconds so far, all threads."""
        return cpu_seconds(self.process.pid)

    def line(self) -> str:
        """Return the next line of its stdout. Ends the bench if there is none."""
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{' '.join(self._command)} ended early, exit status {self.process.wait()}")
        return str(line.strip())


class Broker(Child):
    """A mosquitto that holds everything in memory and drops nothing."""

    def __init__(self, folder: Path, port: int, more: str = "") -> None:
        """Prepare a broker on `port`; `more` is added to its configuration."""
        config = folder / "mosquitto.conf"
        config.write_text(MOSQUITTO.format(port=port) + more)
        self.port = port
        super().__init__(find("mosquitto"), "-c", str(config), stderr=subprocess.DEVNULL)

    def __enter__(self) -> Self:
        """Start it and wait until it accepts connections."""
        super().__enter__()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
            except ConnectionRefusedError:
                time.sleep(0.01)
            else:
                return self
        sys.exit("mosquitto did not start within 10 s")


class Counter(Child):
    """The subscriber, ready when the block is entered."""

    def __init__(self, port: int, count: int, pause: float, live: int = 0) -> None:
        """Count `count` readings at the broker on `port`, with `pause` seconds after each read.

        Those numbered from `live` on are live ones beside a backlog.
        """
        command = (sys.executable, "-m", "bench.subscriber", str(port), str(count), str(pause), str(live))
        super().__init__(*command, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        """Start it and wait until it is subscribed."""
        super().__enter__()
        self.line()
        return self

    def result(self) -> dict[str, Any]:
        """Wait until everything has arrived, or nothing comes any more, and return what was counted."""
        return dict(json.loads(self.line()))


class Tty:
    """A pseudo-terminal in raw mode, with the device that writes to it."""

    def __enter__(self) -> Self:
        """Open both ends; the slave stays open, so that the line outlives its readers."""
        self.near, self.far = os.openpty()
        tty.setraw(self.far)
        self.path = os.ttyname(self.far)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close both ends."""
        os.close(self.near)
        os.close(self.far)

    def flood(self, lines: bytes) -> threading.Thread:
        """Write everything as fast as the line takes it, in a thread; return the thread."""

        def write() -> None:
            rest = memoryview(lines)
            while rest:
                rest = rest[os.write(self.near, rest[: 1 << 16]) :]

        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        return writer

    def trickle(self, count: int, rate: float, first: int = 0) -> None:
        """Write `count` readings, `rate` a second, each with the monotonic time at which it is written."""
        start = time.monotonic()
        for n in range(count):
            time.sleep(max(0.0, start + n / rate - time.monotonic()))
            os.write(self.near, reading(first + n))


def reading(n: int) -> bytes:
    """Return one line of about 100 bytes: its number, its monotonic time, and some values."""
    at = time.monotonic_ns()
    values = f'"temperature":{20 + n % 100 / 10:.1f},"humidity":{40 + n % 37:d},"state":"ok"'
    return f'{{"n":{n:d},"t":{at:d},{values},"pressure":{1000 + n % 50:d}.25}}\n'.encode()


class Notified(Child):
    """A child that speaks to its supervisor through NOTIFY_SOCKET, as the gateway does."""

    def __init__(self, folder: Path, *command: str) -> None:
        """Name the command; the socket lies in `folder`."""
        self._address = folder / "notify"
        environment = {**os.environ, "NOTIFY_SOCKET": str(self._address)}
        super().__init__(*command, env=environment, stderr=(folder / "gateway.log").open("ab"))

    def __enter__(self) -> Self:
        """Bind the socket and start the child."""
        self._address.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self._address))
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the child and close the socket."""
        super().__exit__(kind, error, trace)
        self._socket.close()
        self._options["stderr"].close()

    def figures(self, timeout: float) -> dict[str, Any]:
        """Wait for the next X_FIGURES. Ends the bench when none comes within `timeout` seconds."""
        self._socket.settimeout(timeout)
        while True:
            try:
                told = self._socket.recv(1 << 16).decode()
            except TimeoutError:
                sys.exit(f"the gateway told no figures for {timeout:.0f} s")
            for line in told.splitlines():
                key, _, value = line.partition("=")
                if key == "X_FIGURES":
                    return dict(json.loads(value))
