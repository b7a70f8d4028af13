"""What something else appends to a file of this machine."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from pydantic import Field, PrivateAttr

from adapters.lines.stream import Stream
from adapters.ports.port import Portion
from adapters.serial.device import Take
from gateway import Device, DeviceError, Duration


class FileTail(Stream):
    """Reads the lines that something else appends to a file, also when that is replaced by a new one."""

    path: str = Field(min_length=1, description="The file.")
    interval: Duration = Field(default=1.0, ge=0.01, description="How often it is looked at.")
    from_start: bool = Field(default=False, description="Read what is in it already, at the first opening.")
    # Whether a file is read from its beginning when it is opened; None before the first time.
    _new: bool | None = PrivateAttr(default=None)

    async def run(self, device: Device) -> None:
        """Read what is appended. Raises DeviceError when the file is not there."""
        path, taking = Path(self.path), self.taking(device)
        while True:
            try:
                file = path.open("rb", buffering=0)  # noqa: ASYNC230 - a file of this machine
            except OSError as error:
                if isinstance(error, FileNotFoundError):
                    self._new = True  # nothing is old in what will be there
                raise DeviceError(f"cannot read {path}: {error.strerror or error}") from error
            with file:
                if not (self.from_start if self._new is None else self._new):
                    file.seek(0, os.SEEK_END)
                self._new = False  # should reading fail, what was read already is not read again
                device.online()
                await self._follow(file.fileno(), path, taking())
                self._new = True

    async def _follow(self, descriptor: int, path: Path, take: Take) -> None:
        """Read until there is another file, or none. One that has become shorter is read from its beginning."""
        portion = Portion()
        while True:
            there = _identity(path)  # looked at first: what was appended until the file was replaced is read below
            while chunk := os.read(descriptor, portion.size):
                if (waiting := portion.give(chunk, take)) is not None:
                    await waiting
                await asyncio.sleep(0)
            here = os.fstat(descriptor)
            if here.st_size < os.lseek(descriptor, 0, os.SEEK_CUR):
                os.lseek(descriptor, 0, os.SEEK_SET)
                continue
            if there != (here.st_dev, here.st_ino):
                return
            await asyncio.sleep(self.interval)


def _identity(path: Path) -> tuple[int, int] | None:
    """Return which file is there; None if there is none, or it cannot be seen."""
    try:
        there = path.stat()
    except OSError:
        return None
    return there.st_dev, there.st_ino
