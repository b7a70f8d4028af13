"""The self-test's side of the nursery: children that are started, signalled and waited for in the loop."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from gateway.cli.selftest.nursery import LONGEST

WARM = ("gateway.cli.selftest.subject", "adapters.serial.text", "gateway.formats.json", "gateway.config.load")
"""What a gateway needs."""


class Child:
    """One child process."""

    def __init__(self, children: Children, name: str, log: Path) -> None:
        loop = asyncio.get_running_loop()
        self.name = name
        self.log = log
        self.started: asyncio.Future[int] = loop.create_future()  # its pid
        self.ended: asyncio.Future[int] = loop.create_future()  # its exit status; below 0: the signal
        self._children = children

    def signal(self, number: int) -> None:
        """Send it a signal; nothing happens if it has ended."""
        self._children.send({"signal": number, "to": self.name})

    async def kill(self) -> None:
        """SIGKILL it, and return when it is gone."""
        self.signal(signal.SIGKILL)
        await asyncio.shield(self.ended)


class Children:
    """Starts children. Use as `async with`: leaving it kills them all."""

    def __init__(self, warm: Sequence[str] = WARM) -> None:
        self._warm = warm
        self._numbers = itertools.count()
        self._all: dict[str, Child] = {}
        self._process: subprocess.Popen[bytes]

    async def __aenter__(self) -> Self:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", "gateway.cli.selftest.nursery", str(theirs.fileno()), *self._warm]
            # A session of its own: Ctrl-C is for the self-test alone, which then ends everything.
            self._process = subprocess.Popen(  # noqa: ASYNC220, S603 - it is over at once, and the list is our own
                command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True
            )
        self._channel.setblocking(False)
        asyncio.get_running_loop().add_reader(self._channel, self._listen)
        return self

    async def __aexit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._channel)
        self._channel.close()
        self._process.wait(10)  # it has little to do, and nothing else is left to be done here

    def call(self, function: str, *arguments: Any, environ: Mapping[str, str], log: Path) -> Child:
        """Call "module:function" in a new process, whose exit status is what it returns."""
        return self._start(log, call=function, arguments=arguments, environ=dict(environ))

    def execute(self, *command: str, log: Path) -> Child:
        """Execute a command, the path of a program and its arguments."""
        return self._start(log, command=command)

    def send(self, request: Mapping[str, Any]) -> None:
        """Ask the nursery for something; what it cannot do any more, it has done: nothing of it is left."""
        with suppress(OSError):
            self._channel.send(json.dumps(request).encode())

    def _start(self, log: Path, **how: Any) -> Child:
        child = Child(self, str(next(self._numbers)), log)
        self._all[child.name] = child
        self.send({"start": child.name, "log": str(log), **how})
        return child

    def _listen(self) -> None:
        try:
            while told := self._channel.recv(LONGEST):
                self._hear(json.loads(told))
        except BlockingIOError:
            return
        except OSError:
            pass
        asyncio.get_running_loop().remove_reader(self._channel)  # the nursery is gone, and all with it
        for child in self._all.values():
            child.ended.set_result(-signal.SIGKILL)
        self._all.clear()

    def _hear(self, told: dict[str, Any]) -> None:
        if "started" in told:
            self._all[told["started"]].started.set_result(told["pid"])
        else:
            self._all.pop(told["ended"]).ended.set_result(told["status"])
