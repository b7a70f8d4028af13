"""A serial port: opened with pyserial in a thread, read in chunks from its descriptor in the loop."""

from __future__ import annotations

import asyncio
import errno
import os
import termios
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Literal, NoReturn, Self, TypeVar

import serial

from adapters.ports.refused import cannot_open
from adapters.ports.tap import Look, looker
from adapters.ports.threads import in_thread
from gateway import DeviceError

CHUNK = 16384  # bytes given to the reader at once, at most: other devices have their turn between two chunks
_FULL = 2048  # a read that brings this much hints at more: a pty gives at most 4 KiB at a time
_GONE = (errno.EIO, errno.ENXIO, errno.ENODEV, errno.EBADF)

Parity = Literal["N", "E", "O", "M", "S"]
T = TypeVar("T")


class _Port(serial.Serial):
    """pyserial's port, which keeps what the device said between the plugging in and the opening."""

    def _reset_input_buffer(self) -> None:
        """Throw nothing away; pyserial calls this when it opens."""


class SerialPort:
    """`async with SerialPort(path, ...) as port: await port.deliver(take)`, with chunks of 1 to 16,384 bytes.

    A path that is a symbolic link is resolved at each opening. What the kernel has received before the opening is read.
    Entering raises DeviceError when the port is absent, busy, forbidden or no serial port, and reading raises it
    when the port is unplugged. Leaving closes the descriptor, once, also when cancelled. `dtr` and `rts` set these
    lines at the opening; None leaves them to the driver, which raises both.
    """

    def __init__(
        self,
        path: str,
        *,
        baudrate: int = 9600,
        bytesize: Literal[5, 6, 7, 8] = 8,
        parity: Parity = "N",
        stopbits: float = 1,
        dtr: bool | None = None,
        rts: bool | None = None,
        exclusive: bool = True,
    ) -> None:
        self.path = path
        self._baudrate = baudrate
        self._bytesize = bytesize
        self._parity = parity
        self._stopbits = stopbits
        self._dtr = dtr
        self._rts = rts
        self._exclusive = exclusive
        self._port: serial.Serial | None = None
        self._fd = -1
        self._look: Look | None = None

    async def __aenter__(self) -> Self:
        self._look = looker()
        self._port = await in_thread(self._open, serial.Serial.close)
        self._fd = self._port.fileno()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        port, self._port, self._fd = self._port, None, -1
        if port is not None:
            port.close()

    def retune(
        self, baudrate: int, bytesize: Literal[5, 6, 7, 8] = 8, parity: Parity = "N", stopbits: float = 1
    ) -> None:
        """Go on at another speed, without the closing and opening that resets many boards.

        Raises DeviceError when the port cannot do it.
        """
        if self._port is None:
            raise RuntimeError("the serial port is not open")
        wanted = {"baudrate": baudrate, "bytesize": bytesize, "parity": parity, "stopbits": stopbits}
        try:
            self._port.apply_settings(wanted)
            _tell_empty_from_gone(self._fd)
        except (OSError, ValueError, termios.error) as error:
            raise DeviceError(f"{self.path} cannot do {baudrate} {bytesize}{parity}{stopbits:g}: {error}") from error

    async def deliver(self, take: Callable[[bytes], Awaitable[None] | None]) -> NoReturn:
        """Call `take` with each chunk as it comes, and pause while what it returns, if anything, is awaited.

        Raises DeviceError when the port is unplugged, and what `take` raises.
        """
        while True:
            await (await self._until(take))

    async def read(self) -> bytes:
        """Return the next chunk. Raises DeviceError when the port is unplugged."""
        return await self._until(lambda chunk: chunk)

    async def _until(self, take: Callable[[bytes], T | None]) -> T:
        """Call `take` with each chunk until it returns something, and return that.

        It is called from the loop itself: no task has to wake up for a chunk.
        """
        if self._port is None:
            raise RuntimeError("the serial port is not open")
        loop, fd = asyncio.get_running_loop(), self._port.fileno()
        ended: asyncio.Future[None] = loop.create_future()
        results: list[T] = []
        failures: list[Exception] = []  # not in the future: it and the traceback would keep each other alive

        def readable() -> None:
            if ended.done():
                return
            try:
                chunk = self._read()
                if self._look is not None:
                    self._look(chunk)
                result = take(chunk)
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

    def _read(self) -> bytes:
        """Return what is there. Raises DeviceError when the port is gone, and BlockingIOError when nothing is there."""
        try:
            chunk = os.read(self._fd, CHUNK)
        except BlockingIOError:
            raise
        except OSError as error:
            words = f"unplugged ({self.path})" if error.errno in _GONE else f"cannot read {self.path}: {error.strerror}"
            raise DeviceError(words) from error
        if not chunk:
            raise DeviceError(f"unplugged ({self.path})")
        if len(chunk) < _FULL:
            return chunk
        chunks, room = [chunk], CHUNK - len(chunk)
        while room > 0 and len(chunk) >= _FULL:
            try:
                chunk = os.read(self._fd, room)
            except OSError:
                break  # nothing more for now, or unplugged, which the next read finds again
            chunks.append(chunk)
            room -= len(chunk)
        return b"".join(chunks)

    def _open(self) -> serial.Serial:
        """Open the port. Raises DeviceError. May block: some drivers talk to the device here."""
        port = _Port(
            baudrate=self._baudrate,
            bytesize=self._bytesize,
            parity=self._parity,
            stopbits=self._stopbits,
            timeout=0,
            exclusive=self._exclusive or None,
        )
        if self._dtr is not None:
            port.dtr = self._dtr
        if self._rts is not None:
            port.rts = self._rts
        port.port = self.path
        try:
            port.open()
            _tell_empty_from_gone(port.fileno())
        except (OSError, ValueError, termios.error) as error:  # pyserial's own exception is an OSError
            port.close()
            raise cannot_open(self.path, error) from error
        return port


def _tell_empty_from_gone(fd: int) -> None:
    """Have an empty port answer EAGAIN: as pyserial leaves it, empty and unplugged both answer with 0 bytes."""
    attributes = termios.tcgetattr(fd)
    attributes[6][termios.VMIN] = 1
    attributes[6][termios.VTIME] = 0
    termios.tcsetattr(fd, termios.TCSANOW, attributes)
