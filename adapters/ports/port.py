"""A port: a descriptor in the loop that bytes are read from and written to, whatever is behind it."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, NoReturn, Protocol, Self, TypeVar

from adapters.ports.tap import Look, looker
from adapters.ports.threads import in_thread
from gateway import DeviceError

CHUNK = 16384  # bytes given to the reader at once, at most: other devices have their turn between two chunks
LEAST = 256  # and at least, if there are as many
TURN = 0.001  # seconds that a reader may take for a chunk before the next one is shorter
_FULL = 2048  # a read that brings this much hints at more: a pty gives at most 4 KiB at a time
_DISCARDED = 64 * CHUNK  # thrown away in one go, at most: a device that floods does not stall the loop
_GONE = (errno.EIO, errno.ENXIO, errno.ENODEV, errno.EBADF)

Parity = Literal["N", "E", "O", "M", "S"]
Bytesize = Literal[5, 6, 7, 8]
T = TypeVar("T")


def following(size: int, spent: float) -> int:
    """Return how many bytes a reader is given at once after it has taken `spent` seconds for at most `size` of them."""
    if spent > TURN:
        return max(LEAST, size // 2)
    return min(CHUNK, size * 2) if spent < TURN / 4 else size


class Portion:
    """How many bytes a reader is given at once: `size`, which follows from how long it takes for them.

    So a device that floods costs the others about `TURN`, however slow the machine or the format is.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.size = CHUNK
        self._clock = clock

    def give(self, chunk: bytes, take: Callable[[bytes], T]) -> T:
        """Give a chunk to the reader, and return what that returns."""
        began = self._clock()
        result = take(chunk)
        self.size = following(self.size, self._clock() - began)
        return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """How a serial line is set: what all that share one port have in common.

    `dtr` and `rts` set these lines at the opening; None leaves them to the driver, which raises both. `rs485` has the
    driver turn a transceiver with RTS. `low_latency` asks the driver to hand each byte over at once, and does no harm
    where there is nothing to ask for. For `settle` seconds after the opening, what comes is thrown away.
    """

    baudrate: int = 9600
    bytesize: Bytesize = 8
    parity: Parity = "N"
    stopbits: float = 1
    dtr: bool | None = None
    rts: bool | None = None
    rs485: bool = False
    low_latency: bool = False
    settle: float = 0.0

    def __str__(self) -> str:
        lines = {"dtr": self.dtr, "rts": self.rts}
        more = [f"{name} {'up' if up else 'down'}" for name, up in lines.items() if up is not None]
        more += [word for word, wanted in (("rs485", self.rs485), ("low latency", self.low_latency)) if wanted]
        more += [f"{self.settle:g} s to settle"] if self.settle else []
        return ", ".join([f"{self.baudrate} {self.bytesize}{self.parity}{self.stopbits:g}", *more])


class Opened(Protocol):
    """What an opening gives: something that has a descriptor, and is closed once."""

    def fileno(self) -> int:
        """Return the descriptor, which does not block."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


class Port:
    """`async with port: await port.deliver(take)`, with chunks of 1 to 16,384 bytes.

    Entering raises DeviceError when the port is absent, busy or forbidden, and reading and writing raise it when it is
    gone. Leaving closes the descriptor, once, also when cancelled.
    """

    lost = "unplugged"  # what is said when it is gone
    may_hang_up = False  # whether its end means nothing while nobody asks: it is opened again for the next question

    def __init__(self, path: str, line: Line) -> None:
        self.path = path
        self.line = line
        self._port: Opened | None = None
        self._fd = -1
        self._look: Look | None = None
        self._portion = Portion()
        self.is_gone = False  # found out while it was open

    @property
    def is_open(self) -> bool:
        """Whether it was opened and not closed since."""
        return self._port is not None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def open(self) -> None:
        """Open it, and throw away what comes while it settles; `async with` does. Raises DeviceError."""
        look, self._look, self.is_gone = looker(), None, False
        self._port = await in_thread(self._open, lambda port: port.close())
        self._fd = self._port.fileno()
        try:
            await self._begin()
            self._look = look  # only now: what the port itself is told is not what the device says
            if self.line.settle:
                await self._throw_away(self.line.settle)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close it, if it is open: at once, or the kernel gives the device another name when it comes back."""
        port, self._port, self._fd = self._port, None, -1
        if port is not None:
            self._shut(port)

    def _shut(self, port: Opened) -> None:
        port.close()

    def place(self) -> str:
        """Return what is really behind it, which is the same for all that mean the same port. May block."""
        return self.path

    def _open(self) -> Opened:
        """Open it. Raises DeviceError. May block: some drivers talk to the device here."""
        raise NotImplementedError

    async def _begin(self) -> None:
        """Do what has to be said before the first byte. Raises DeviceError."""

    def _incoming(self, chunk: bytes) -> bytes:
        """Return what a chunk says to the reader; the rest is for the port itself."""
        return chunk

    def _outgoing(self, data: bytes) -> bytes:
        """Return what has to be written so that `data` arrives."""
        return data

    async def deliver(self, take: Callable[[bytes], Awaitable[None] | None]) -> NoReturn:
        """Call `take` with each chunk as it comes, and pause while what it returns, if anything, is awaited.

        Raises DeviceError when the port is unplugged, and what `take` raises.
        """
        while True:
            await (await self._until(take))

    async def read(self) -> bytes:
        """Return the next chunk. Raises DeviceError when the port is unplugged."""
        return await self._until(lambda chunk: chunk)

    async def write(self, data: bytes, timeout: float = 5.0) -> None:
        """Write all of `data`. Raises DeviceError when the port is gone, or takes it not within `timeout` seconds."""
        await self._write(self._outgoing(data), timeout)

    def discard(self) -> int:
        """Throw away what was received and not read yet, and return how many bytes. Raises DeviceError when it is gone.

        Stops at one megabyte, for a device that floods.
        """
        count = 0
        while count < _DISCARDED:
            try:
                count += len(self._take())
            except BlockingIOError:
                break
        return count

    def watch(self, readable: Callable[[], None] | None) -> None:
        """Have the loop call `readable` when there is something to read and nobody else reads; None ends it."""
        if self._port is None:
            return
        loop = asyncio.get_running_loop()
        if readable is None:
            loop.remove_reader(self._fd)
        else:
            loop.add_reader(self._fd, readable)

    def _descriptor(self) -> int:
        if self._port is None:
            raise RuntimeError(f"the port {self.path} is not open")
        return self._fd

    async def _until(self, take: Callable[[bytes], T | None]) -> T:
        """Call `take` with each chunk until it returns something, and return that.

        It is called from the loop itself: no task has to wake up for a chunk.
        """
        loop, fd = asyncio.get_running_loop(), self._descriptor()
        ended: asyncio.Future[None] = loop.create_future()
        results: list[T] = []
        failures: list[Exception] = []  # not in the future: it and the traceback would keep each other alive

        def readable() -> None:
            if ended.done():
                return
            try:
                chunk = self._take()
                result = self._portion.give(chunk, take) if chunk else None
            except BlockingIOError:
                return
            except Exception as error:  # noqa: BLE001 - carried to whoever waits
                failures.append(error)
                ended.set_result(None)
            else:
                if result is not None:
                    results.append(result)
                    ended.set_result(None)

        loop.add_reader(fd, readable)
        try:
            await ended
        finally:
            loop.remove_reader(fd)
        if failures:
            raise failures.pop()
        return results.pop()

    async def _write(self, data: bytes, timeout: float) -> None:
        fd = self._descriptor()
        rest = memoryview(data)
        try:
            async with asyncio.timeout(timeout):
                while rest:
                    try:
                        rest = rest[os.write(fd, rest) :]
                    except BlockingIOError:
                        await _writable(fd)
        except TimeoutError:
            words = f"{self.path} took only {len(data) - len(rest)} of {len(data)} bytes in {timeout:g} s"
            raise DeviceError(words) from None
        except OSError as error:
            raise self._trouble(error, "write to") from error

    async def _throw_away(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self.deliver(lambda chunk: None)
        except TimeoutError:
            return

    def _take(self) -> bytes:
        """Return what is there for the reader. Raises as `_read` does."""
        chunk = self._incoming(self._read())
        if chunk and self._look is not None:
            self._look(chunk)
        return chunk

    def _read(self) -> bytes:
        """Return what is there. Raises DeviceError when the port is gone, and BlockingIOError when nothing is there."""
        try:
            chunk = os.read(self._fd, self._portion.size)
        except BlockingIOError:
            raise
        except OSError as error:
            raise self._trouble(error, "read") from error
        if not chunk:
            self.is_gone = True
            raise DeviceError(f"{self.lost} ({self.path})")
        if len(chunk) < _FULL:
            return chunk
        chunks, room = [chunk], self._portion.size - len(chunk)
        while room > 0 and len(chunk) >= _FULL:
            try:
                chunk = os.read(self._fd, room)
            except OSError:
                break  # nothing more for now, or unplugged, which the next read finds again
            chunks.append(chunk)
            room -= len(chunk)
        return b"".join(chunks)

    def _trouble(self, error: OSError, doing: str) -> DeviceError:
        self.is_gone = True
        if error.errno in _GONE:
            return DeviceError(f"{self.lost} ({self.path})")
        return DeviceError(f"cannot {doing} {self.path}: {error.strerror}")


async def _writable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(fd, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_writer(fd)
