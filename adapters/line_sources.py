"""Lines of text that do not come from a serial port: a command's output, datagrams, a file that grows."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path

from pydantic import Field, field_validator

from adapters.schedule import following, spread
from adapters.serial.device import Take, take_frames
from adapters.text_lines import TextLines
from gateway import Device, DeviceError, Duration, Value

_CHUNK = 16384
_ENDING = 2.0  # seconds that a command has to end by itself
_ERRORS = 400  # bytes of what a command says of its failure that are shown


class _Lines(TextLines):
    def taker(self, device: Device) -> Take:
        """Return a function that takes in what the lines in a stream say, however that is cut."""

        def readings(values: dict[str, Value], device: Device) -> tuple[tuple[dict[str, Value], float | None]]:
            return ((values, self.time_of(values, device)),)

        return take_frames(device, self.framer(), self.decoder(), readings)


class Exec(_Lines):
    """Reads the lines that a command writes: one that is started again and again, or one that goes on and on."""

    command: list[str] = Field(min_length=1, description='The command and its arguments: ["vcgencmd", "measure_temp"].')
    interval: Duration | None = Field(
        default=None, ge=0.1, description="Start it again each time; default: it is started once and goes on."
    )
    timeout: Duration = Field(default=10.0, gt=0, description="With interval: the longest that it may run.")

    @field_validator("command")
    @classmethod
    def _command(cls, given: list[str]) -> list[str]:
        if any("\0" in word for word in given) or not given[0]:
            raise ValueError("must be a command and its arguments, each a text of its own")
        return given

    async def run(self, device: Device) -> None:
        """Run the command and take in what it writes. Raises DeviceError when it fails, with what it said."""
        if self.interval is None:
            await _whole(self._once(device, None))
            raise DeviceError(f"{self.command[0]} has ended")
        loop = asyncio.get_running_loop()
        start = loop.time() + spread(device.name, self.interval) - self.interval
        while True:
            await _whole(self._once(device, self.timeout))
            now = loop.time()
            await asyncio.sleep(following(start, self.interval, now) - now)

    async def _once(self, device: Device, timeout: float | None) -> None:
        try:
            process = await asyncio.create_subprocess_exec(
                *self.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,  # what it starts ends with it
            )
        except OSError as error:
            raise DeviceError(f"cannot start {self.command[0]}: {error.strerror or error}") from error
        assert process.stdout is not None and process.stderr is not None  # noqa: PT018, S101 - asked for above
        errors = asyncio.create_task(_last(process.stderr))
        take = self.taker(device)
        try:
            async with asyncio.timeout(timeout):
                device.online()
                while chunk := await process.stdout.read(_CHUNK):
                    if (waiting := take(chunk)) is not None:
                        await waiting
                take(b"\n")  # the last line may have no end
                status = await process.wait()
                said = await errors
        except TimeoutError:
            raise DeviceError(f"{self.command[0]} does not end within {timeout:g} s") from None
        finally:
            await _ended(process)
            errors.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await errors
        if status:
            raise DeviceError(f"{self.command[0]} ends with {status}" + (f": {said}" if said else ""))


class Datagrams(_Lines):
    """Reads the lines in UDP datagrams that are sent to this machine."""

    listen: str = Field(
        default="127.0.0.1:5005",
        pattern=r"^(\[[0-9a-fA-F:]+\]|[0-9.]+):[0-9]{1,5}$",
        description="Address and port; 0.0.0.0:5005 hears every machine, and believes every one.",
    )

    async def run(self, device: Device) -> None:
        """Listen, and take in what comes."""
        host, _, port = self.listen.rpartition(":")
        take = self.taker(device)
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: _Datagrams(lambda data: take(data + b"\n"), lost), local_addr=(host.strip("[]"), int(port))
            )
        except (OSError, OverflowError) as error:
            raise DeviceError(f"cannot listen at {self.listen}: {getattr(error, 'strerror', None) or error}") from error
        try:
            device.online()
            await lost
        finally:
            transport.close()


class FileTail(_Lines):
    """Reads the lines that something else appends to a file, also when that is replaced by a new one."""

    path: str = Field(min_length=1, description="The file.")
    interval: Duration = Field(default=1.0, ge=0.01, description="How often it is looked at.")
    from_start: bool = Field(default=False, description="Read what is in it already, at the first opening.")

    async def run(self, device: Device) -> None:
        """Read what is appended. Raises DeviceError when the file is not there."""
        path, skip = Path(self.path), not self.from_start
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
                await self._follow(file.fileno(), path, self.taker(device))

    async def _follow(self, descriptor: int, path: Path, take: Take) -> None:
        """Read until there is another file, or less in this one than before."""
        while True:
            while chunk := os.read(descriptor, _CHUNK):
                if (waiting := take(chunk)) is not None:
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


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, take: Callable[[bytes], Awaitable[None] | None], lost: asyncio.Future[None]) -> None:
        self._take = take
        self._lost = lost

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._take(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and not self._lost.done():
            self._lost.set_exception(DeviceError(str(exc)))


async def _last(stream: asyncio.StreamReader) -> str:
    """Return the end of what is written there."""
    kept = b""
    while chunk := await stream.read(_CHUNK):
        kept = (kept + chunk)[-_ERRORS:]
    return " ".join(kept.decode("utf-8", "replace").split())


async def _whole(work: Coroutine[None, None, None]) -> None:
    """Do it. When this is cancelled, so is the work, once: it ends in its own time, however often that is asked for."""
    task = asyncio.create_task(work)
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        task.cancel()
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # or it would be logged as one that nobody has asked for
        raise
    task.result()


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Have a command end, and what it has started."""
    for number, patience in ((signal.SIGTERM, _ENDING), (signal.SIGKILL, _ENDING)):
        if process.returncode is not None:
            break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await process.wait()
    transport = getattr(process, "_transport", None)
    if transport is not None:
        transport.close()  # its pipes, which what it has started may hold open
