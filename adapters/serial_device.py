"""A device on a serial port: the keys that all such devices have, and how one is read until it is unplugged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, ClassVar, Literal, TypeAlias

from pydantic import Field, field_validator

from adapters.frames.framer import Framer
from adapters.ports.serial import Parity, SerialPort
from gateway import Adapter, Device, DeviceError, Duration, Value

# What is done with a chunk of bytes; answers None, or something to wait for before the next one.
Take: TypeAlias = Callable[[bytes], Awaitable[None] | None]


class SerialDevice(Adapter):
    """A device that speaks by itself on a serial port. A subclass says what becomes of its bytes: `taker`.

    A subclass with another speed or parity declares these keys again, with its own defaults.
    """

    exclusive: ClassVar[tuple[str, ...]] = ("port",)

    port: str = Field(min_length=1, description="The serial port; best a name from /dev/serial/by-id, which stays.")
    baudrate: int = Field(default=9600, gt=0, le=20_000_000, description="Bits per second.")
    bytesize: Literal[5, 6, 7, 8] = Field(default=8, description="Data bits.")
    parity: Parity = Field(default="N", description="None, even, odd, mark or space.")
    stopbits: float = Field(default=1, description="Stop bits: 1, 1.5 or 2.")
    dtr: bool | None = Field(
        default=None, description="Set the line DTR at opening; false keeps many boards from a reset."
    )
    settle: Duration = Field(default=0.0, description="After opening, throw away for so long what the device writes.")
    silent_after: Duration | None = Field(
        default=None, gt=0, description="Without a byte for so long the device counts as absent, and is opened again."
    )

    @field_validator("stopbits")
    @classmethod
    def _stopbits(cls, given: float) -> float:
        if given not in (1, 1.5, 2):
            raise ValueError("must be 1, 1.5 or 2")
        return given

    def taker(self, device: Device) -> Take:
        """Return a function that takes in what a stream of bytes says, wherever that is cut into chunks.

        It returns None, or something to wait for before the next chunk because the gateway is behind.
        """
        raise NotImplementedError

    def serial_port(self) -> SerialPort:
        """Return the port, not yet open."""
        return SerialPort(
            self.port,
            baudrate=self.baudrate,
            bytesize=self.bytesize,
            parity=self.parity,
            stopbits=self.stopbits,
            dtr=self.dtr,
        )

    async def run(self, device: Device) -> None:
        """Open the port and take in what comes, until it is unplugged."""
        async with self.serial_port() as port:
            if self.settle:
                await _throw_away(port, self.settle)
            take = self.taker(device)
            if self.silent_after is None:
                device.online()
                await port.deliver(take)
            else:  # a device that is expected to speak is there when it speaks
                await _while_speaking(port, take, self.silent_after)


class FramedDevice(SerialDevice):
    """A device whose frames are cut out by a framer, and each of which is one reading."""

    # What `detect` may conclude from one frame that framer and decoder accept, in bits: those of its header and its
    # checksum together, about 4 for text of any kind. 0: it is not looked for.
    detectable: ClassVar[int] = 0
    # At what other speeds than its default such a device speaks, as in "9600 7E1".
    speaks_at: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def readable_with(cls, heard: bytes) -> Iterable[dict[str, Any]]:
        """Return the keys, beside those of the line, with which what was heard might be read, likely ones first."""
        return [{}]

    def framer(self) -> Framer:
        """Return a framer for a port that was just opened."""
        raise NotImplementedError

    def decoder(self) -> Callable[[bytes], dict[str, Value]]:
        """Return the function that reads one frame, for a port that was just opened.

        It returns what the frame says, by metric; nothing, if it says nothing. It raises ValueError with the reason,
        in words for the log, for what is no reading.
        """
        raise NotImplementedError

    def time_of(self, values: dict[str, Value], device: Device) -> float | None:
        """Take the device's own time, in UTC seconds, out of `values`; None if there is none."""
        return None

    def taker(self, device: Device) -> Take:
        """Take in what the frames say, and count what is thrown away. See `SerialDevice.taker`."""
        framer, decode = self.framer(), self.decoder()
        said: dict[str, int] = {}

        def take(chunk: bytes) -> Awaitable[None] | None:
            waiting = None
            for frame in framer.feed(chunk):
                try:
                    values = decode(frame)
                except ValueError as error:
                    device.skip(str(error), frame)
                    continue
                if values:
                    waiting = device.take_in(values, self.time_of(values, device))
            if framer.thrown:
                for reason, count in framer.thrown.items():
                    for _ in range(count - said.get(reason, 0)):
                        device.skip(reason)
                    said[reason] = count
            return waiting

        return take


async def _throw_away(port: SerialPort, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await port.deliver(lambda chunk: None)
    except TimeoutError:
        return


async def _while_speaking(port: SerialPort, take: Take, silent_after: float) -> None:
    loop = asyncio.get_running_loop()

    def heard(chunk: bytes) -> Awaitable[None] | None:
        limit.reschedule(loop.time() + silent_after)
        return take(chunk)

    try:
        async with asyncio.timeout(silent_after) as limit:
            await port.deliver(heard)
    except TimeoutError:
        raise DeviceError(f"silent: nothing from {port.path} for {silent_after:g} s") from None
