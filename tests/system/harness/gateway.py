"""The service as a child process, with this harness in the place of systemd."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple, Self

from tests.system.harness.deadline import until
from tests.system.harness.serial_device import SerialDevice

Figures = dict[str, Any]


PATIENCE = 60.0
"""Seconds until a test gives up on a start or an end: the start of an interpreter alone takes 15 where many do it."""


class Stopped(NamedTuple):
    """How a process ended: its exit status (negative: the signal), after how many seconds."""

    status: int
    seconds: float


def configuration(
    folder: Path,
    *,
    brokers: Iterable[str],
    devices: Iterable[SerialDevice] = (),
    outbox: Mapping[str, object] | None = None,
    uplink: Mapping[str, object] | None = None,
) -> Path:
    """Write a configuration for gateway `gw` with one uplink `cloud`; return its path."""

    def text(value: object) -> str:
        if isinstance(value, Mapping):
            return "{ " + ", ".join(f"{key} = {text(each)}" for key, each in value.items()) + " }"
        return json.dumps(value)  # a string, number, boolean or array of strings is written the same in TOML

    def table(name: str, keys: Mapping[str, object]) -> str:
        return f"[{name}]\n" + "".join(f"{key} = {text(value)}\n" for key, value in keys.items())

    outbox = {"path": str(folder / "outbox.db"), "keep_free": "1MB", **(outbox or {})}
    uplink = {"brokers": list(brokers), "reconnect_min": "100ms", "reconnect_max": "1s", **(uplink or {})}
    tables = [table("gateway", {"id": "gw"}), table("outbox", outbox), table("uplinks.cloud", uplink)]
    tables += [table(f"devices.{device.name}", device.keys) for device in devices]
    file = folder / "gateway.toml"
    file.write_text("\n".join(tables))
    return file


class Notifications:
    """What one process tells its service manager, over a socket of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.changed = threading.Condition()
        # The first and the newest time at which each word came: READY, STOPPING, WATCHDOG.
        self.said: dict[str, list[float]] = {}
        self.status = ""
        self.figures: Figures = {}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._thread = threading.Thread(target=self._listen, name="notifications")
        self._thread.start()

    def close(self) -> None:
        """Take in what was sent so far, and close."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
            bell.sendto(b"", str(self.path))
        self._thread.join(5)
        self._socket.close()
        self.path.unlink()

    def _listen(self) -> None:
        while data := self._socket.recv(1 << 16):
            with self.changed:
                for line in data.decode().splitlines():
                    key, _, value = line.partition("=")
                    if key == "X_FIGURES":
                        self.figures = json.loads(value)
                    elif key == "STATUS":
                        self.status = value
                    self.said.setdefault(key, []).append(time.monotonic())
                self.changed.notify_all()


class Gateway:
    """`sensor-gateway run` with one configuration, over any number of starts."""

    def __init__(self, file: Path, *, environ: Mapping[str, str] | None = None) -> None:
        self.file = file
        self.log_lines: list[str] = []
        self._environ = dict(environ or {})
        self._process: subprocess.Popen[str] | None = None
        self._notifications: Notifications | None = None
        self._reader: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.kill()
        file = self.file.with_suffix(".log")
        file.write_text(self.log)
        # pytest shows this for a test that failed.
        print(f"--- {file}", *self.log_lines[-60:], sep="\n")

    @property
    def log(self) -> str:
        """Everything that all its runs have logged."""
        return "\n".join(self.log_lines) + "\n"

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def told(self) -> Notifications:
        """What its newest run has told its service manager."""
        assert self._notifications is not None
        return self._notifications

    @property
    def figures(self) -> Figures:
        """The newest figures; after an orderly stop, the last ones."""
        return self.told.figures

    def start(self, *options: str, ready: float = PATIENCE) -> None:
        """Start it, with further options of `run`, and return when it says that it is ready, within `ready` seconds."""
        assert self._process is None, "it is running"
        self._notifications = Notifications(self.file.with_name("notify"))
        environ = {key: value for key, value in os.environ.items() if not key.startswith(("NOTIFY_", "WATCHDOG_"))}
        environ |= {"NOTIFY_SOCKET": str(self.told.path), **self._environ}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "run", "-c", str(self.file), *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environ,
            text=True,
        )
        # A pipe, and not a file: what a process writes to a file counts as written to the disk.
        self._reader = threading.Thread(target=self._read, args=(self._process.stderr,), name="gateway's log")
        self._reader.start()
        self.wait(lambda: "READY" in self.told.said, ready, "ready")

    def wait(self, predicate: Callable[[], object], seconds: float, what: str) -> None:
        """Wait until `predicate` is true, asked after each notification. Raises TimeoutError naming `what`."""
        ends = time.monotonic() + seconds
        with self.told.changed:
            while not predicate():
                if not self.running:
                    raise RuntimeError(f"the gateway ended while waiting for: {what}\n{self.log}")
                left = ends - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"{what}: not within {seconds:g} s; figures {self.figures}")
                self.told.changed.wait(min(left, 0.2))

    def wait_figures(self, predicate: Callable[[Figures], object], seconds: float, what: str) -> Figures:
        """Return the first figures, from now on, of which `predicate` is true. Raises TimeoutError naming `what`."""
        with self.told.changed:
            old = self.figures
            found: list[Figures] = []

            def look() -> bool:
                if self.figures and self.figures is not old and predicate(self.figures):
                    found.append(self.figures)
                return bool(found)

            self.wait(look, seconds, what)
            return found[0]

    def wait_delivered(self, seconds: float) -> Figures:
        """Wait until nothing waits for the uplink `cloud`."""
        return self.wait_figures(lambda figures: figures["uplinks"]["cloud"]["waiting"] == 0, seconds, "all delivered")

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM, *, seconds: float = PATIENCE) -> Stopped:
        """Ask it to stop in order, and return how it ended."""
        began = time.monotonic()
        self.send(number)
        return self.ended(began, seconds=seconds)

    def kill(self) -> float:
        """SIGKILL it; return the clock just before."""
        now = time.monotonic()
        self.send(signal.SIGKILL)
        self.ended(now)
        return now

    def ended(self, since: float, *, seconds: float = PATIENCE) -> Stopped:
        """Wait for its end; return its status and the seconds since the clock `since`."""
        assert self._process is not None
        assert self._reader is not None
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"the gateway did not end within {seconds:g} s\n{self.log}") from None
        took = time.monotonic() - since
        self._process = None
        self._reader.join(5)
        self.told.close()
        return Stopped(status, took)

    def descriptors(self) -> list[str]:
        """Return what each of its open descriptors refers to."""
        folder = Path(f"/proc/{self.pid}/fd")
        found = []
        for each in folder.iterdir():
            try:
                found.append(str(each.readlink()))
            except FileNotFoundError:  # closed a moment ago
                continue
        return found

    def disk_bytes(self) -> int:
        """Return the bytes that it has caused to be written to disks so far, by the kernel's account."""
        lines = Path(f"/proc/{self.pid}/io").read_text().splitlines()
        figures = {key: int(value) for key, value in (line.split(": ") for line in lines)}
        return figures["write_bytes"] - figures["cancelled_write_bytes"]

    def wait_log(self, text: str, seconds: float) -> None:
        """Wait until a line with `text` has been logged. Raises TimeoutError."""
        until(lambda: any(text in line for line in list(self.log_lines)), seconds, f"logs {text!r}")

    def _read(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                self.log_lines.append(line.rstrip("\n"))
