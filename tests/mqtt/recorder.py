"""A listener that writes down what it is told, and lets a test wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.mqtt import Address, Connection, ConnectionLost, Message, Options, connect
from tests.scripted_broker import ScriptedBroker


class Recorder:
    """What a connection has told, in order."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.records: list[int] = []  # QoS 2
        self.refusals: list[tuple[int, int]] = []
        self.messages: list[Message] = []
        self.losses: list[ConnectionLost] = []
        self.writables = 0
        self.calls = 0  # of `acknowledged`
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    def acknowledged(self, tokens: list[int]) -> None:
        assert tokens, "an empty report is work for nothing"
        self.calls += 1
        self.tokens += tokens
        self._happened()

    def recorded(self, tokens: list[int]) -> None:
        assert tokens, "an empty report is work for nothing"
        self.records += tokens
        self._happened()

    def refused(self, token: int, reason: int, said: str) -> None:
        self.refusals.append((token, reason))
        self._happened()

    def writable(self) -> None:
        self.writables += 1
        self._happened()

    def received(self, message: Message) -> None:
        self.messages.append(message)
        self._happened()

    def lost(self, error: ConnectionLost) -> None:
        self.losses.append(error)
        self._happened()

    async def until(self, condition: Callable[[], bool], timeout: float = 5.0) -> None:
        """Wait until the condition holds; it is looked at whenever something is told. Raises TimeoutError."""
        if condition():
            return
        holds: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((condition, holds))
        try:
            await asyncio.wait_for(holds, timeout)
        finally:
            self._waiting.remove((condition, holds))

    async def loss(self, timeout: float = 5.0) -> str:
        """Wait until the link is lost, and return why."""
        await self.until(lambda: bool(self.losses), timeout)
        return str(self.losses[0])

    def _happened(self) -> None:
        for condition, holds in self._waiting:
            if not holds.done() and condition():
                holds.set_result(None)


class Secret:
    """A side of an authentication that expects one word."""

    method = "WORDS"

    def start(self) -> bytes | None:
        return None

    def answer(self, data: bytes | None) -> bytes | None:
        if data not in (b"who?", b"welcome"):
            raise ValueError(f"{data!r} is not what it should say")
        return b"me"


async def dial(broker: ScriptedBroker, recorder: Recorder, **options: object) -> Connection:
    """Open a link with a scripted broker."""
    return await connect(Address.parse(broker.url), Options("me", **options), recorder)  # type: ignore[arg-type]


def batch(count: int, first: int = 0) -> list[tuple[bytes, bytes, int]]:
    """Return numbered messages for `publish`, with their numbers as tokens."""
    return [(b"t/%d" % (n % 7), b"%d" % n, n) for n in range(first, first + count)]
