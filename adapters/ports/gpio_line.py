"""A GPIO line in use: requested in a thread, and read from the descriptor of the request in the loop."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from threading import Thread
from types import TracebackType
from typing import Literal, Protocol, Self, TypeAlias

from adapters.frames import edges
from adapters.frames.edges import Edge
from adapters.ports.threads import in_thread
from gateway import DeviceError

Bias: TypeAlias = Literal["as-is", "disabled", "pull-up", "pull-down"]
Drive: TypeAlias = Literal["push-pull", "open-drain", "open-source"]
# What is done with edges; answers None, or something to wait for before the next ones.
Take: TypeAlias = Callable[[list[Edge]], Awaitable[None] | None]

KEPT = 1024
"""Edges that the kernel keeps for one request until they are read: the most that it can (16 for each of 64 lines)."""
_AT_ONCE = 256  # edges taken at once: other devices have their turn in between


@dataclass(slots=True)
class TakenOver:
    """A line that somebody else has, and gives back some day."""

    consumer: str
    """The name under which it is in use."""
    seen: tuple[str, int, str, str] | None = None
    """Chip, offset, the chip's label and the line's name when it was last in use: given back, it has no consumer."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A line, and how it is to be used."""

    line: str | int | TakenOver
    """Its name, such as GPIO17, or with a chip its offset there."""
    chip: str | None = None
    """The chip's label (pinctrl-bcm2711), name (gpiochip0) or path; None: whichever has a line of that name."""
    consumer: str = "sensor-gateway"
    """By which the kernel knows who has the line."""
    output: bool | None = None
    """None: an input; otherwise the level with which the line becomes an output."""
    falling: bool = True
    """Falling edges are reported as well as rising ones."""
    active_low: bool = False
    bias: Bias = "as-is"
    drive: Drive = "push-pull"
    debounce: float = 0.0
    """Seconds for which a level has to last before the kernel reports it."""


class Request(Protocol):
    """A line that nobody else can have until it is released. Levels are logical: true is active."""

    @property
    def fd(self) -> int:
        """Readable when there are edges, as records of `adapters.frames.edges`, and never blocks."""
        ...

    def get(self) -> bool:
        """Return the level now. Raises OSError."""
        ...

    def set(self, level: bool) -> None:
        """Drive an output. Raises OSError."""
        ...

    def release(self) -> None:
        """Give the line back. May block for a moment."""
        ...


class GpioLine:
    """`async with GpioLine(request, take) as line: await line.lasts()`; `take` is called with edges as they come.

    `request` opens the line, in a thread. Entering raises DeviceError when there is no such line or it is taken.
    Leaving gives the line back, also when cancelled.
    """

    def __init__(self, request: Callable[[], Request], take: Take | None = None) -> None:
        self._open = request
        self._take = take
        self._request: Request | None = None
        self._event = asyncio.Event()  # something for `lasts` to look at
        self._waiting: Awaitable[None] | None = None
        self._failure: Exception | None = None

    async def __aenter__(self) -> Self:
        self._request = await in_thread(self._open, _release_aside)
        if self._take is not None:
            asyncio.get_running_loop().add_reader(self._request.fd, self._readable)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        request, self._request = self._request, None
        if request is not None:
            asyncio.get_running_loop().remove_reader(request.fd)
            await in_thread(request.release, lambda _: None)  # goes on if this is cancelled

    @property
    def fd(self) -> int:
        """The descriptor of the request."""
        return self._open_request().fd

    def get(self) -> bool:
        """Return the logical level now. Raises DeviceError when the line is gone."""
        try:
            return self._open_request().get()
        except OSError as error:
            raise _gone(error) from error

    def set(self, level: bool) -> None:
        """Drive an output. Raises DeviceError when the line is gone."""
        try:
            self._open_request().set(level)
        except OSError as error:
            raise _gone(error) from error

    async def lasts(self, until: float | None = None) -> None:
        """Return at the time `until` of the loop. Raises DeviceError when the line is gone, and what `take` raises."""
        limit = asyncio.timeout_at(until)
        try:
            async with limit:
                while True:
                    await self._event.wait()
                    self._event.clear()
                    if self._failure is not None:
                        failure, self._failure = self._failure, None
                        raise failure
                    await self._caught_up()
        except TimeoutError:
            if not limit.expired():
                raise

    async def _caught_up(self) -> None:
        """Wait for what `take` wants to be waited for, and go on reading."""
        waiting, self._waiting = self._waiting, None
        try:
            if waiting is not None:
                await waiting
        finally:
            if self._request is not None:
                asyncio.get_running_loop().add_reader(self.fd, self._readable)

    def _open_request(self) -> Request:
        if self._request is None:
            raise RuntimeError("the line is not open")
        return self._request

    def _readable(self) -> None:
        try:
            found = self._read()
            waiting = self._take(found) if found and self._take is not None else None
        except Exception as error:  # noqa: BLE001 - carried to whoever waits
            self._failure = error
        else:
            if waiting is None:
                return
            self._waiting = waiting
        asyncio.get_running_loop().remove_reader(self.fd)
        self._event.set()

    def _read(self) -> list[Edge]:
        try:
            data = os.read(self.fd, _AT_ONCE * edges.SIZE)
        except BlockingIOError:
            return []
        except OSError as error:
            raise _gone(error) from error
        if not data:
            raise DeviceError("the line is gone")
        return edges.decode(data)


def _release_aside(request: Request) -> None:
    """Give a line back that nobody waits for any more, in a thread: that may take as long as the opening."""
    Thread(target=request.release, name="release GPIO", daemon=True).start()


def _gone(error: OSError) -> DeviceError:
    if error.errno in (errno.ENODEV, errno.ENXIO, errno.EIO):
        return DeviceError("the line is gone: its chip was unplugged")
    return DeviceError(f"cannot use the line: {error.strerror}")
