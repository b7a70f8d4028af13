"""A bus: one port that several devices ask in turn, each with a deadline of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Protocol
from weakref import WeakKeyDictionary

from adapters.ports.port import Port
from adapters.ports.threads import in_thread
from gateway import DeviceError, Silent

_SHOWN = 16  # bytes of a wrong answer in a message
_BITS = 11  # of a byte on the line, at most: start, eight, parity, stop


class Cutter(Protocol):
    """What cuts answers out of the bytes that come: any framer."""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the frames that `chunk` completes, in order."""
        ...


class NoAnswer(Silent):
    """The device did not answer in time; the message says what came instead, if anything did."""


class Turn:
    """The port, for one device alone, until the turn ends: `timeout` seconds after it began, or was renewed."""

    def __init__(self, bus: Bus, timeout: float) -> None:
        self._bus = bus
        self._timeout = timeout
        self._rest: list[bytes] = []
        self.limit: asyncio.Timeout
        self.heard = bytearray()  # since the last request
        self.asked = b""

    def renew(self) -> None:
        """Begin the time anew, for one more question that nobody else may come before."""
        self.limit.reschedule(asyncio.get_running_loop().time() + self._timeout)

    async def quiet(self, seconds: float) -> None:
        """Wait until the line has been silent for so long; what comes meanwhile is thrown away."""
        loop = asyncio.get_running_loop()
        while (left := self._bus.busy_until + seconds - loop.time()) > 0:
            await asyncio.sleep(left)
            self.discard()

    async def write(self, data: bytes) -> None:
        """Write all of `data`. Raises DeviceError when the port is gone."""
        self.asked = data
        self.heard.clear()
        self._rest.clear()
        await self._bus.write(data)

    async def read(self) -> bytes:
        """Return the next chunk. Raises DeviceError when the port is gone."""
        chunk = await self._bus.read()
        self.heard += chunk
        return chunk

    def discard(self) -> None:
        """Throw away what came and was not read."""
        self._bus.discard()

    async def frame(self, framer: Cutter) -> bytes:
        """Return the next frame that comes. Raises DeviceError when the port is gone."""
        while not self._rest:
            self._rest += framer.feed(await self.read())
        return self._rest.pop(0)

    async def ask(self, request: bytes, framer: Cutter) -> bytes:
        """Throw away what came unasked, write `request`, and return the first frame of the answer."""
        self.discard()
        await self.write(request)
        return await self.frame(framer)

    def nothing(self, timeout: float) -> str:
        """Say what came instead of an answer: nothing, the question itself, or bytes that are none."""
        within = f"no answer within {timeout:g} s"
        if not self.heard:
            return f"{within}: nothing came (address, wiring, speed?)"
        if self.asked and bytes(self.heard) == self.asked:
            return f"{within}: only its own question came back (echo: RX and TX joined, or a transceiver that listens)"
        shown = self.heard[:_SHOWN].hex(" ") + (" ..." if len(self.heard) > _SHOWN else "")
        return f"{within}: {len(self.heard)} bytes came that are none (parity, speed, noise?): {shown}"


class Bus:
    """One opening of a port, which gives turns in the order in which they are asked for.

    Whoever had it when the port was lost is told so in its next turn, and comes back through `bus`.
    """

    def __init__(self, port: Port, user: str) -> None:
        self.port = port
        self.users = [user]
        self.lost: str | None = None  # why the port was closed before the last one had left
        self.busy_until = 0.0  # when the last byte has passed over the line, either way, by the loop's clock
        self._free = asyncio.Lock()  # is fair

    @asynccontextmanager
    async def turn(self, timeout: float) -> AsyncIterator[Turn]:
        """Give the port to one device alone, for `timeout` seconds from when its turn comes.

        Raises NoAnswer when they are over, and DeviceError when the port is gone. What comes between the turns is
        thrown away.
        """
        async with self._free:
            await self._open()
            turn = Turn(self, timeout)
            self.port.watch(None)
            try:
                async with asyncio.timeout(timeout) as turn.limit:
                    yield turn
            except TimeoutError:
                if not turn.limit.expired():
                    raise
                raise NoAnswer(turn.nothing(timeout)) from None
            finally:
                self._rest()

    async def ready(self) -> None:
        """Open the port, unless another user has done so. Raises DeviceError."""
        async with self._free:
            await self._open()
            self._rest()

    async def _open(self) -> None:
        if self.port.is_open:
            self._idle()  # the end may have come since the loop last looked
        if self.lost is not None:
            raise DeviceError(self.lost)
        if not self.port.is_open:
            await self.port.open()

    async def write(self, data: bytes) -> None:
        """Write all of `data`. Raises DeviceError when the port is gone."""
        await self.port.write(data)
        # The kernel has it; the line takes its time.
        self._busy(len(data) * _BITS / self.port.line.baudrate)

    async def read(self) -> bytes:
        """Return the next chunk. Raises DeviceError when the port is gone."""
        chunk = await self.port.read()
        self._busy()
        return chunk

    def discard(self) -> None:
        """Throw away what came and was not read. Raises DeviceError when the port is gone."""
        if self.port.discard():
            self._busy()

    def _busy(self, seconds: float = 0.0) -> None:
        self.busy_until = asyncio.get_running_loop().time() + seconds

    def _rest(self) -> None:
        if self.port.is_gone:
            self.lost = f"{self.port.lost} ({self.port.path})"
            self.close()
        else:
            self.port.watch(self._idle)

    def _idle(self) -> None:
        """Throw away what comes while nobody has a turn, and find an unplugging at once."""
        with suppress(DeviceError):
            self.discard()
        if self.port.is_gone and self.port.may_hang_up:
            self.close()
        elif self.port.is_gone:
            self._rest()

    def close(self) -> None:
        """Close the port, if it is open."""
        self.port.watch(None)
        self.port.close()


_BUSES: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Bus]] = WeakKeyDictionary()


@asynccontextmanager
async def bus(port: Port, user: str) -> AsyncIterator[Bus]:
    """Give the device called `user` its way to a port, not yet open, which it shares with whoever means the same one.

    Entering opens the port unless it is open. Raises DeviceError when it cannot be opened, or is used by another device
    with other settings. The last one to leave closes it.
    """
    place = await in_thread(port.place, lambda _: None)
    buses = _BUSES.setdefault(asyncio.get_running_loop(), {})
    found = buses.get(place)
    if found is None or found.lost is not None:
        found = buses[place] = Bus(port, user)
    elif found.port.line != port.line:
        differ = f"{user} wants {port.line}, and {found.users[0]} has {found.port.line}"
        raise DeviceError(f"cannot share {port.path}: {differ}; devices on one port need the same settings")
    else:
        found.users.append(user)
    try:
        await found.ready()
        yield found
    finally:
        found.users.remove(user)
        if not found.users:
            found.close()
            if buses.get(place) is found:
                del buses[place]
