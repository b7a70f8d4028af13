"""Connections that others make to this machine: as many as may be, each for as long as it speaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from math import inf
from typing import Protocol, TypeAlias

from adapters.ports.address import endpoint
from adapters.ports.port import CHUNK, Portion
from gateway import DeviceError

# What is done with a chunk of bytes; answers None, or something to wait for before the next one. An empty one is the
# end, which comes where the other side has said so, and not where the connection broke.
Take: TypeAlias = Callable[[bytes], Awaitable[None] | None]


class Way(Protocol):
    """The way back over a connection."""

    def write(self, data: bytes) -> None:
        """Send this; a connection that is gone takes nothing."""
        ...

    def close(self) -> None:
        """Hang up, once what was written is sent."""
        ...


class Listener:
    """Listens, and gives what comes over each connection to a function of its own. See `listening`."""

    def __init__(
        self, taking: Callable[[Way], Take], refused: Callable[[str], None], most: int, idle: float, longest: float
    ) -> None:
        self.taking = taking
        self.refused = refused
        self.most = most
        self.idle = idle
        self.longest = longest
        self.connections: set[_Connection] = set()
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(self, error: Exception) -> None:
        """End all, because of a bug in what takes the bytes."""
        if not self.broken.done():
            self.broken.set_exception(error)


@asynccontextmanager
async def listening(
    address: str,
    taking: Callable[[Way], Take],
    refused: Callable[[str], None],
    *,
    most: int,
    idle: float,
    longest: float = inf,
) -> AsyncIterator[Awaitable[None]]:
    """Listen at `address`, as in "127.0.0.1:5006"; at the end, all connections are closed.

    `taking` makes what takes the bytes of one connection, and gets the way back. At most `most` connections are open at
    once, and one that brings nothing for `idle` seconds, or is `longest` seconds old, is closed; `refused` is told the
    reason. What is given is to be awaited: it never ends, and raises what a taker raises. Raises DeviceError when the
    address cannot be had.
    """
    loop = asyncio.get_running_loop()
    listener = Listener(taking, refused, most, idle, longest)
    try:
        # To start it at once would lose it where that is cancelled.
        server = await loop.create_server(lambda: _Connection(listener), *endpoint(address), start_serving=False)
    except OSError as error:
        raise DeviceError(f"cannot listen at {address}: {error.strerror or error}") from error
    try:
        await server.start_serving()
        yield listener.broken
    finally:
        # What was accepted in this turn fails, and stays open, if its server is closed before it is a connection.
        for one in server.sockets:
            loop.remove_reader(one.fileno())
        try:
            for _ in range(2):
                await asyncio.sleep(0)
        finally:
            server.close()
            for connection in [*listener.connections]:
                connection.abort()
        await server.wait_closed()
        await asyncio.sleep(0)  # for the transports to close what they have


class _Connection(asyncio.BufferedProtocol):
    """One connection. It is read no faster than its bytes are taken."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._take: Take | None = None
        self._made = self._heard = 0.0  # when something came last
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._buffer = memoryview(b"")
        self._portion = Portion()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what a server of TCP makes
        self._transport = transport
        listener = self._listener
        if len(listener.connections) >= listener.most:
            listener.refused(f"more than {listener.most} connections at once")
            transport.abort()
            return
        listener.connections.add(self)
        self._take = listener.taking(self)
        self._made = self._heard = self._loop.time()
        self._timer = self._loop.call_later(min(listener.idle, listener.longest), self._look)

    def get_buffer(self, sizehint: int) -> memoryview:
        if not self._buffer:
            self._buffer = memoryview(bytearray(CHUNK))
        return self._buffer[: self._portion.size]

    def buffer_updated(self, nbytes: int) -> None:
        self._heard = self._loop.time()
        self._taken(bytes(self._buffer[:nbytes]))

    def eof_received(self) -> None:
        self._taken(b"")

    def connection_lost(self, exc: Exception | None) -> None:
        self._take = None
        self._listener.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._waiting is not None:
            self._waiting.cancel()

    def write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        """Hang up, whatever is still to be sent."""
        self._transport.abort()

    def _look(self) -> None:
        """Hang up if nothing came for too long; of a connection that is not read nobody can say that."""
        now, bounds = self._loop.time(), self._listener
        left = min(self._heard + bounds.idle, self._made + bounds.longest) - now
        if self._waiting is not None or left > 0:
            self._timer = self._loop.call_later(left if left > 0 else 1.0, self._look)
        elif now - self._made >= bounds.longest:
            self._give_up(f"a connection that was not done within {bounds.longest:g} s")
        else:
            self._give_up(f"a connection that brought nothing for {bounds.idle:g} s")

    def _give_up(self, why: str) -> None:
        self._listener.refused(why)
        self.abort()

    def _taken(self, data: bytes) -> None:
        if self._take is None:
            return
        try:
            waiting = self._portion.give(data, self._take)
        except Exception as error:  # noqa: BLE001 - a bug, carried to whoever waits
            self._listener.fail(error)
            self.abort()
            return
        if waiting is not None and data:
            self._transport.pause_reading()
            self._waiting = asyncio.ensure_future(waiting)
            self._waiting.add_done_callback(self._go_on)

    def _go_on(self, _: object) -> None:
        self._waiting = None
        self._heard = self._loop.time()
        if not self._transport.is_closing():
            self._transport.resume_reading()
