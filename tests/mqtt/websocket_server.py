"""A WebSocket in front of a scripted broker, which cuts what goes through it into frames as a test wants it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Self

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from tests.scripted_broker import ScriptedBroker


class Front:
    """The server. `async with` starts and stops it; its knobs may be turned while it runs."""

    def __init__(
        self,
        broker: ScriptedBroker,
        *,
        tls: ssl.SSLContext | None = None,
        subprotocols: Iterable[str] | None = ("mqtt",),
    ) -> None:
        # Knobs.
        self.answer: Callable[[ServerConnection], Response | None] = lambda connection: None  # instead of a WebSocket
        self.cut: Callable[[bytes], Iterable[bytes]] = lambda data: [data]  # each a message of its own
        self.fragments = False  # what was cut are the fragments of one message
        # What has happened.
        self.requests: list[Request] = []
        self.frames: list[bytes] = []  # messages of the client
        self.links: list[ServerConnection] = []
        self._broker = broker
        self._tls = tls
        self._subprotocols = None if subprotocols is None else [Subprotocol(name) for name in subprotocols]
        self._server: Server | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Return where it listens."""
        return f"{'wss' if self._tls else 'ws'}://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await serve(
            self._carry,
            "127.0.0.1",
            0,
            ssl=self._tls,
            subprotocols=self._subprotocols,
            process_request=self._asked,
            ping_interval=None,
            max_size=None,
            close_timeout=0.1,
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    def _asked(self, connection: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        return self.answer(connection)

    async def _carry(self, connection: ServerConnection) -> None:
        """Carry bytes both ways until one side has enough."""
        self.links.append(connection)
        reader, writer = await asyncio.open_connection("127.0.0.1", self._broker.port)
        outward = asyncio.create_task(self._outward(reader, connection))
        try:
            with suppress(ConnectionClosed, OSError):
                async for message in connection:
                    assert isinstance(message, bytes)
                    self.frames.append(message)
                    writer.write(message)
                    await writer.drain()
        finally:
            outward.cancel()
            with suppress(asyncio.CancelledError):
                await outward
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _outward(self, reader: asyncio.StreamReader, connection: ServerConnection) -> None:
        with suppress(ConnectionClosed, OSError):
            while data := await reader.read(1 << 16):
                if self.fragments:
                    await connection.send(self.cut(data))
                else:
                    for part in self.cut(data):
                        await connection.send(part)
            await connection.close()
