"""The demo's processes: brokers that can be killed and started again, and the service under a supervisor."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple


class DemoError(RuntimeError):
    """The demo cannot go on; the message says why in words for a person."""


class EmbeddedBroker:
    """One broker on 127.0.0.1, in a child process, that reports what arrives there."""

    def __init__(self, name: str, port: int, arrived: Callable[[EmbeddedBroker, str, str], None]) -> None:
        """Name a broker. `arrived(broker, topic, payload)` is called for each PUBLISH that it receives."""
        self.name = name
        self.port = port
        self.up = False
        self.arrived = 0  # readings, each copy counted
        self.last = float("-inf")  # monotonic time of the newest one
        self._tell = arrived
        self._said = ""  # the newest line that was no report
        self._listening = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    async def start(self, timeout: float = 30.0) -> None:
        """Start the process and wait until it listens. Raises DemoError when it does not."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway.cli.demo.broker", str(self.port)),
            stdin=asyncio.subprocess.PIPE,  # held open: the broker ends when the demo does, however that ends
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the demo alone, which then ends its children in order
        )
        self._listening.clear()
        self._reader = asyncio.create_task(self._read(self._process))
        waiter = asyncio.create_task(self._listening.wait())
        await asyncio.wait((self._reader, waiter), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        waiter.cancel()
        if not self.up:
            raise DemoError(
                f"the {self.name} broker did not start on port {self.port}: {self._said or 'no reason given'}"
            )

    async def kill(self) -> None:
        """Kill the process, as a power cut would, and read what it had still reported. Does nothing when it is down."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        if self._reader is not None:
            await self._reader
            self._reader = None
        self.up = False

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout  # noqa: S101 - it is a pipe
        async for raw in process.stdout:
            try:
                line = json.loads(raw)
                event = line["event"]
            except (ValueError, TypeError, KeyError):  # no report: a last line cut by the kill, or a traceback
                self._said = raw.decode(errors="replace").strip()
                continue
            if event == "publish":
                self._tell(self, line["topic"], line["payload"])
            elif event == "ready":
                self.up = True
                self._listening.set()


class Figures(NamedTuple):
    """What the service says about itself, about once a second."""

    taken_in: int = 0
    waiting: int = 0
    lost: int = 0
    commits: int = 0
    devices: Mapping[str, Mapping[str, Any]] = MappingProxyType({})

    @classmethod
    def parse(cls, text: str) -> Figures:
        """Read the JSON of one `X_FIGURES=` line."""
        told = json.loads(text)
        uplinks = told["uplinks"].values()
        return cls(
            taken_in=told["taken_in"],
            waiting=sum(uplink["waiting"] for uplink in uplinks),
            lost=sum(uplink["lost"] for uplink in uplinks),
            commits=told.get("outbox", {}).get("commits", 0),
            devices=told.get("devices", {}),
        )


class Service:
    """The real service in a child process, with the demo as its supervisor, to which it speaks as to systemd."""

    def __init__(self, config: Path, folder: Path, figured: Callable[[Figures], None]) -> None:
        """Name a service. `figured(figures)` is called whenever it tells new figures."""
        self.figures = Figures()
        self.ready = False
        self.log: deque[str] = deque(maxlen=200)
        self._config = config
        self._address = str(folder / "notify")
        self._figured = figured
        self._notify: socket.socket | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    @property
    def ended(self) -> int | None:
        """The exit status, if the service has ended."""
        return self._process.returncode if self._process else None

    async def start(self) -> None:
        """Start the service. It is ready when `ready` is true."""
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._notify.bind(self._address)
        asyncio.get_running_loop().add_reader(self._notify, self._listen)
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "run", "-c", str(self._config)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "NOTIFY_SOCKET": self._address},
            start_new_session=True,
        )
        self._reader = asyncio.create_task(self._read())

    async def stop(self, timeout: float = 15.0) -> int:
        """Ask the service to stop in order, and return its exit status. Kills it after `timeout` seconds."""
        process = self._process
        if process is not None:
            with suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), timeout)
            except TimeoutError:
                process.kill()
                await process.wait()
        if self._reader is not None:
            await self._reader
        if self._notify is not None:
            self._listen()  # its last words may still be in the socket
            asyncio.get_running_loop().remove_reader(self._notify)
            self._notify.close()
            self._notify = None
        return process.returncode or 0 if process is not None else 0

    def _listen(self) -> None:
        """Take in what the service tells its supervisor, one KEY=value a line, until there is no more."""
        assert self._notify  # noqa: S101 - it is open while it is read
        with suppress(BlockingIOError):
            while told := self._notify.recv(1 << 16):
                for line in told.decode(errors="replace").splitlines():
                    key, _, value = line.partition("=")
                    if key == "READY":
                        self.ready = True
                    elif key == "X_FIGURES":
                        self.figures = Figures.parse(value)
                        self._figured(self.figures)

    async def _read(self) -> None:
        assert self._process  # noqa: S101 - it has been started
        assert self._process.stderr  # noqa: S101 - it is a pipe
        async for raw in self._process.stderr:
            self.log.append(raw.decode(errors="replace").rstrip())
