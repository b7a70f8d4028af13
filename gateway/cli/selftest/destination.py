"""One broker of the self-test: its process, the way to it, and a receiver that hears all that it passes on."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, NoReturn, Self

import structlog

from gateway import Client
from gateway.cli.selftest.children import Child, Children
from gateway.cli.selftest.passage import Passage, Said
from gateway.mqtt import Message

STARTING = 30.0  # seconds that a broker may take to listen


class RigError(RuntimeError):
    """The self-test itself cannot go on; the message says why in words for a person."""


class Kind(NamedTuple):
    """A kind of broker."""

    name: str
    protocol: str  # that it is spoken to with
    program: str | None = None


def find_kind(wanted: str = "auto") -> Kind | None:
    """Return mosquitto where it is installed, else amqtt, else None; or the one that is `wanted`, if it is there."""
    program = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if program is not None and wanted in ("auto", "mosquitto"):
        return Kind("mosquitto", "auto", program)
    if find_spec("amqtt") is not None and wanted in ("auto", "amqtt"):
        return Kind("amqtt", "3.1.1")  # it speaks no other, and knows no better than to hang up
    return None


class Arrival(NamedTuple):
    """A message that a receiver got, or that a broker had acknowledged and took with it; `at` is of time.time()."""

    topic: str
    payload: bytes
    at: float


class Life:
    """One life of a broker, from its start to its end: what it has acknowledged, and what has come out."""

    def __init__(self) -> None:
        self.acknowledged: set[Said] = set()
        self.received: set[Said] = set()
        self.killed = False

    @property
    def owed(self) -> set[Said]:
        """What it has acknowledged and nobody has received."""
        return self.acknowledged - self.received


class Destination:
    """A broker that can be killed and frozen, the passage in front of it, and the receiver behind it.

    The passage is closed until the receiver has subscribed, so that whatever the gateway publishes has somebody to go
    to. `arrived` is called with each message. Use as `async with`.
    """

    def __init__(
        self, name: str, kind: Kind, folder: Path, children: Children, arrived: Callable[[Arrival], None]
    ) -> None:
        self.name = name
        self.lives: list[Life] = []
        self.lost = 0  # links of the receiver that ended while its broker lived
        self._kind = kind
        self._folder = folder / name
        self._children = children
        self._arrived = arrived
        self._port = _free_port()
        self.passage = Passage(self._port)
        self._child: Child | None = None
        self._receiver = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._folder.mkdir()
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._end)
            await stack.enter_async_context(self.passage)
            stack.push_async_callback(self._receiver.aclose)
            await self.start()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.passage.open = False
        await self._stack.aclose()

    async def _end(self) -> None:
        if self._child is not None:
            await self._child.kill()

    @property
    def life(self) -> Life:
        """The present one, or the last."""
        return self.lives[-1]

    async def start(self) -> None:
        """Start the broker and its receiver, and let the gateway come. Raises RigError."""
        life = Life()
        self._child = self._children.execute(*self._command(), log=self._folder / "log")
        await self._listens(self._child)
        try:
            client = Client(
                f"mqtt://127.0.0.1:{self._port}",
                client_id=f"receiver-{self.name}",
                protocol=self._kind.protocol,
                keep_alive=0,  # a frozen broker answers nothing, and is to be waited for
                ack_timeout=600,
                connect_timeout=STARTING,
                max_incoming=100_000,
                logger=_SILENT,
                on_lost=lambda _: self._on_lost(life),
            )
            await self._receiver.enter_async_context(client)
            await client.connected(STARTING)
            await client.subscribe("sensors/#", lambda message: self._take(life, message))
        except (OSError, TimeoutError) as error:
            raise RigError(f"no receiver can subscribe at the {self.name} broker: {error}") from error
        self.lives.append(life)
        self.passage.acknowledged = life.acknowledged
        self.passage.open = True

    async def kill(self) -> None:
        """SIGKILL the broker."""
        child, self._child = self._child, None
        if child is None:
            return
        self.passage.open = False
        self.life.killed = True
        await child.kill()
        await self.passage.ended()  # what it had still acknowledged was on its way
        await self._receiver.aclose()

    def freeze(self) -> None:
        """SIGSTOP the broker: connections stay, and nobody answers."""
        if self._child is not None:
            self._child.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        if self._child is not None:
            self._child.signal(signal.SIGCONT)

    def settle(self) -> list[Arrival]:
        """Begin a new account: return what brokers have acknowledged and taken with them, and forget their lives."""
        now = time.time()
        taken = [Arrival(*said, now) for life in self.lives if life.killed for said in life.owed]
        self.lives = [life for life in self.lives if not life.killed]
        for life in self.lives:
            life.acknowledged.clear()
            life.received.clear()
        return taken

    def _take(self, life: Life, message: Message) -> None:
        if not message.retain:
            life.received.add((message.topic, message.payload))
            self._arrived(Arrival(message.topic, message.payload, time.time()))

    def _on_lost(self, life: Life) -> None:
        if not life.killed:
            self.lost += 1

    def _command(self) -> list[str]:
        if self._kind.program is None:
            return [sys.executable, "-m", "gateway.cli.demo.broker", str(self._port)]
        file = self._folder / "mosquitto.conf"
        lines = [
            f"listener {self._port} 127.0.0.1",
            f"user {pwd.getpwuid(os.getuid()).pw_name}",
            "allow_anonymous true",
            "persistence false",
            "max_queued_messages 0",
            "max_inflight_messages 0",
            "log_dest stderr",
        ]
        file.write_text("\n".join(lines) + "\n")
        return [self._kind.program, "-c", str(file)]

    async def _listens(self, child: Child) -> None:
        try:
            async with asyncio.timeout(STARTING):
                while True:
                    try:
                        _, writer = await asyncio.open_connection("127.0.0.1", self._port)
                    except OSError:
                        if child.ended.done():
                            log = child.log.read_text(errors="replace") if child.log.exists() else ""
                            words = log.strip().rpartition("\n")[2]
                            raise RigError(f"the {self.name} broker has ended: {words}") from None
                        await asyncio.sleep(0.01)
                    else:
                        writer.close()
                        return
        except TimeoutError:
            raise RigError(f"the {self.name} broker does not listen") from None


def _free_port() -> int:
    """Return a port that is free now, from below the range that the kernel hands out by itself.

    So no outgoing connection of this machine can take it while its broker is down.
    """
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    start = os.getpid() * 7 % 10_000
    for at in range(10_000):
        port = first - 12_000 + (start + at) % 10_000
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            if port not in _GIVEN:
                _GIVEN.add(port)
                return port
    raise RigError("no port is free on 127.0.0.1")


_GIVEN: set[int] = set()


def _drop(*_: object) -> NoReturn:
    """Log nothing: that a receiver's broker is killed is part of the plan."""
    raise structlog.DropEvent


_SILENT = structlog.wrap_logger(None, processors=[_drop])
