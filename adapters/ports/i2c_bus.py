"""An I²C bus that several devices share: who has it, for how long, and what is said when it hangs.

The kernel makes each transfer a whole; a turn makes several of them one, and gives each device its own deadline.
Transfers run in a thread, because a device can hold the clock; until that thread is back nobody else is let in, so that
a bus that hangs costs one thread and never the loop.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from threading import Lock
from weakref import WeakKeyDictionary

from adapters.ports.i2c import Wire, explained, open_wire
from adapters.ports.threads import in_thread
from gateway import DeviceError, Silent


class _Opened:
    """A bus that is closed by whoever is the last to need it: who closes it, or a thread that is still out."""

    def __init__(self, wire: Wire) -> None:
        self.takes_time = wire.takes_time
        self._wire = wire
        self._lock = Lock()  # of the two below
        self._busy = False
        self._closing = False

    def transfer(self, address: int, write: bytes, read: int) -> bytes:
        """See `Wire.transfer`. Called in a thread."""
        with self._lock:
            if self._closing:
                raise OSError(errno.EBADF, "closed")
            self._busy = True
        try:
            return self._wire.transfer(address, write, read)
        finally:
            with self._lock:
                self._busy = False
                if self._closing:
                    self._wire.close()

    def close(self) -> None:
        """Close it, now or as soon as the transfer is over."""
        with self._lock:
            self._closing = True
            if not self._busy:
                self._wire.close()


class _Bus:
    """What the devices on one bus have to know of each other."""

    def __init__(self) -> None:
        self.free = asyncio.Lock()  # is fair
        self.quiet = asyncio.Event()  # no thread is out
        self.quiet.set()
        self.asked = ""  # whom the thread asks that is out, and since when
        self.since = 0.0
        self.users: dict[int, str] = {}  # by address


class Chip:
    """One device on a bus. Transfers are made within a turn."""

    def __init__(self, bus: _Bus, wire: _Opened, path: str, address: int, others: tuple[int, ...]) -> None:
        self.address = address
        self._bus = bus
        self._wire = wire
        self._path = path
        self._others = others
        self._has = False  # the turn
        self._limit: asyncio.Timeout | None = None

    @asynccontextmanager
    async def turn(self, timeout: float) -> AsyncIterator[None]:
        """Have the bus alone, for `timeout` seconds from when the turn comes.

        Raises Silent when they are over, naming whoever makes the bus hang.
        """
        await self._take()
        try:
            async with asyncio.timeout(timeout) as limit:
                self._limit = limit
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise self._late(timeout) from None
        finally:
            if self._has:
                self._give()

    async def transfer(self, write: bytes, read: int = 0) -> bytes:
        """Write these bytes, then read so many, in one transaction; either may be nothing. Raises DeviceError."""
        bus, loop = self._bus, asyncio.get_running_loop()
        await bus.quiet.wait()

        def work() -> bytes:
            try:
                return self._wire.transfer(self.address, write, read)
            finally:
                with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    loop.call_soon_threadsafe(bus.quiet.set)

        bus.quiet.clear()
        bus.asked, bus.since = f"{bus.users.get(self.address)} ({self.address:#04x})", loop.time()
        try:
            return await in_thread(work, lambda _: None)
        except OSError as error:
            raise explained(self._path, self.address, self._others, error) from error
        except RuntimeError:  # there was no thread to be had
            bus.quiet.set()
            raise

    async def wait(self, seconds: float) -> None:
        """Leave the bus to the others while the device measures, and have it again after so many seconds or more.

        What the others take longer is added to the deadline.
        """
        loop = asyncio.get_running_loop()
        self._give()
        await asyncio.sleep(seconds if self._wire.takes_time else 0)
        limit = self._limit
        left = None if limit is None or (end := limit.when()) is None else end - loop.time()
        if limit is not None:
            limit.reschedule(None)
        await self._take()
        if limit is not None and left is not None:
            limit.reschedule(loop.time() + left)

    async def _take(self) -> None:
        await self._bus.free.acquire()
        self._has = True

    def _give(self) -> None:
        self._has = False
        self._bus.free.release()

    def _late(self, timeout: float) -> Silent:
        bus = self._bus
        if bus.quiet.is_set():
            return Silent(f"{self.address:#04x} on {self._path} has not measured within {timeout:g} s")
        hanging = asyncio.get_running_loop().time() - bus.since
        return Silent(
            f"{self._path} hangs since {bus.asked} was asked {hanging:.0f} s ago: a device holds the clock or the "
            "data line low; take its power away once"
        )


_BUSES: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Bus]] = WeakKeyDictionary()


@asynccontextmanager
async def chip(path: str, address: int, user: str, others: tuple[int, ...] = ()) -> AsyncIterator[Chip]:
    """Give the device called `user` its way to `address` on the bus at `path`.

    `others` are the addresses that this kind of device can have, for what is said when nobody answers. Raises
    DeviceError when there is no such bus, or when another device has that address.
    """
    # A bus stays known while nobody uses it: a thread may still be out.
    place = await in_thread(partial(os.path.realpath, path), lambda _: None)
    bus = _BUSES.setdefault(asyncio.get_running_loop(), {}).setdefault(place, _Bus())
    if address in bus.users:
        raise DeviceError(f"{address:#04x} on {path} is read already, as device {bus.users[address]}")
    bus.users[address] = user
    try:
        opened = _Opened(await in_thread(partial(open_wire, path), lambda wire: wire.close()))
        try:
            yield Chip(bus, opened, path, address, others)
        finally:
            opened.close()
    finally:
        del bus.users[address]
