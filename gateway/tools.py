"""What the command line asks of code that knows hardware: the face of the entry points `gateway.tools`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.adapter import Adapter
from gateway.reading import Value


@dataclass(frozen=True, slots=True)
class FoundPort:
    """One serial port of this machine, and what there is to know about it without opening it."""

    path: str  # /dev/ttyUSB0
    by_id: str | None = None  # the name in /dev/serial/by-id, which stays when others are plugged in
    usb: str | None = None  # 1a86:7523, or 0403:6001:A50285BI where it has a serial number
    usb_port: str | None = None  # the physical port, such as 1-1.2
    product: str | None = None  # what it calls itself
    guess: str | None = None  # what is usually behind this identity
    holder: str | None = None  # who has it open, such as pid 812 (octoprint)
    refused: str | None = None  # why this user may not open it, with what mends it; None: they may
    console: str | None = None  # that the system logs in or writes there, with what mends it

    @property
    def best(self) -> str:
        """The name to write into a config."""
        return self.by_id or self.path


class FindPorts(Protocol):
    """The tool `ports`."""

    def __call__(self) -> list[FoundPort]:
        """Return the serial ports of this machine, ordered by name. Opens none."""
        ...


@dataclass(frozen=True, slots=True)
class Guess:
    """What may be speaking at a port: the keys of a device that would read it."""

    adapter: str
    keys: Mapping[str, Any]  # beside `adapter` and the port, where they are not the defaults
    line: str  # 9600 8N1
    frames: int  # that were whole and sound
    share: float  # which part of all bytes heard they are
    proof: int  # bits of evidence in one frame of its kind
    evidence: float  # bits of evidence in all of them
    values: Mapping[str, Value]  # what the last one said
    usual: bool = True  # at a line at which its kind is known to speak


@dataclass(slots=True)
class Heard:
    """What came of listening at a port."""

    guesses: list[Guess] = field(default_factory=list)  # the best one first
    size: int = 0  # bytes, whatever they were
    sample: bytes = b""  # of what came, at the line where it looked most like something
    tried: list[str] = field(default_factory=list)  # the lines, as in 9600 8N1


class Detect(Protocol):
    """The tool `detect`."""

    async def __call__(
        self, port: str, kinds: Mapping[str, type[Adapter]], seconds: float, progress: Callable[[str], None]
    ) -> Heard:
        """Listen at `port` for `seconds` at most, and say which of `kinds` would read what comes.

        `progress` is called with each line that is tried. Nothing is written to the port. Raises DeviceError when it
        cannot be opened, or is unplugged.
        """
        ...


class Tap(Protocol):
    """The tool `tap`."""

    def __call__(self, look: Callable[[bytes], None]) -> AbstractContextManager[None]:
        """Have `look` called with each chunk of bytes that comes in at ports opened within."""
        ...


class Listen(Protocol):
    """The tool `listen`."""

    async def __call__(self, port: str, line: str) -> None:
        """Have `port` open, set as `line` says ("9600 8N1"), until it is unplugged; who looks on sees what comes.

        Raises DeviceError when it cannot be opened, or is unplugged, and ValueError for a wrong line.
        """
        ...
