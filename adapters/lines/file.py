"""What something else appends to a file of this machine."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from pydantic import Field

from adapters.lines.stream import Stream
from adapters.ports.port import Portion
from adapters.serial.device import Take
from gateway import Device, DeviceError, Duration


class FileTail(Stream):
    """Reads the lines that something else appends to a file, also when that is replaced by a new one."""

    path: str = Field(min_length=1, description="The file.")
    interval: Duration = Field(default=1.0, ge=0.01, description="How often it is looked at.")
    from_start: bool = Field(default=False, description="Read what is in it already, at the first opening.")

    async def run(self, device: Device) -> None:
        """Read what is appended. Raises DeviceError when the file is not there."""
        path, skip, taking = Path(self.path), not self.from_start, self.taking(device)
        while True:
            try:
                file = path.open("rb", buffering=0)  # noqa: ASYNC230 - a file of this machine
            except OSError as error:
                raise DeviceError(f"cannot read {path}: {error.strerror or error}") from error
            with file:
                if skip:
                    file.seek(0, os.SEEK_END)
                skip = False  # the next one is new
                device.online()
                await self._follow(file.fileno(), path, taking())

    async def _follow(self, descriptor: int, path: Path, take: Take) -> None:
        """Read until there is another file, or less in this one than before."""
        portion = Portion()
        while True:
            while chunk := os.read(descriptor, portion.size):
                if (waiting := portion.give(chunk, take)) is not None:
                    await waiting
                await asyncio.sleep(0)
            here = os.fstat(descriptor)
            if here.st_size < os.lseek(descriptor, 0, os.SEEK_CUR):
                os.lseek(descriptor, 0, os.SEEK_SET)
                continue
            try:
                there = path.stat()  # noqa: ASYNC240 - a file of this machine
            except OSError as error:
                raise DeviceError(f"{path} is gone: {error.strerror or error}") from error
            if (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):
                return
            await asyncio.sleep(self.interval)
