"""A device on a serial port: the keys that all such devices have, and how one is read until it is unplugged."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import fields
from typing import Any, ClassVar, Self, TypeAlias

from pydantic import ConfigDict, Field, field_validator, model_validator

from adapters.frames.framer import Framer
from adapters.ports.bus import Bus, bus
from adapters.ports.network import check_port, port_at
from adapters.ports.port import Bytesize, Line, Parity, Port
from adapters.ports.serial import SerialPort
from adapters.ports.usb import IDENTITY, SOCKET, Usb
from gateway import Adapter, Device, Duration, Silent, Value

PORTS = ("port", "usb", "usb_port")
"""The keys of which one says where the device is."""
LINE = tuple(field.name for field in fields(Line))
"""The keys that say how its line is set."""

UNREAD = 4096
"""Bytes, of which some can be read if the line is set right."""

# What is done with a chunk of bytes; answers None, or something to wait for before the next one.
Take: TypeAlias = Callable[[bytes], Awaitable[None] | None]


class SerialAdapter(Adapter):
    """A device on a serial port: which port that is, and how its line is set.

    A subclass with another speed or parity declares these keys again, with its own defaults.
    """

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [key]} for key in PORTS]})

    exclusive: ClassVar[tuple[str, ...]] = PORTS

    port: str | None = Field(
        default=None,
        min_length=1,
        description="The serial port; best a name from /dev/serial/by-id, which stays. Or a network serial server: "
        '"socket://HOST:PORT" (plain bytes) or "rfc2217://HOST:PORT". One of port, usb and usb_port is needed.',
    )
    usb: str | None = Field(
        default=None,
        json_schema_extra={"pattern": IDENTITY},
        description='The port by what is plugged in: vendor:product or vendor:product:serial, as "0403:6001:A50285BI".',
    )
    usb_port: str | None = Field(
        default=None,
        json_schema_extra={"pattern": SOCKET},
        description='The port by the USB socket that it is plugged into, as "1-1.2"; "1-1.2:1.0" is one of several.',
    )
    baudrate: int = Field(default=9600, gt=0, le=20_000_000, description="Bits per second.")
    bytesize: Bytesize = Field(default=8, description="Data bits.")
    parity: Parity = Field(default="N", description="None, even, odd, mark or space.")
    stopbits: float = Field(default=1, description="Stop bits: 1, 1.5 or 2.")
    dtr: bool | None = Field(
        default=None, description="Set the line DTR at opening; false keeps many boards from a reset."
    )
    rts: bool | None = Field(default=None, description="Set the line RTS at opening.")
    rs485: bool = Field(
        default=False, description="Have the driver turn an RS-485 transceiver with RTS; most USB adapters do it alone."
    )
    low_latency: bool = Field(
        default=False, description="Have the driver hand over each byte at once (FTDI: 1 ms instead of 16)."
    )
    settle: Duration = Field(default=0.0, description="After opening, throw away for so long what the device writes.")

    @field_validator("port")
    @classmethod
    def _port(cls, given: str | None) -> str | None:
        if given is not None:
            check_port(given)
        return given

    @field_validator("usb")
    @classmethod
    def _usb(cls, given: str | None) -> str | None:
        if given is not None and not re.fullmatch(IDENTITY, given):
            raise ValueError('must be "vendor:product" or "vendor:product:serial", such as "1a86:7523"')
        return given

    @field_validator("usb_port")
    @classmethod
    def _usb_port(cls, given: str | None) -> str | None:
        if given is not None and not re.fullmatch(SOCKET, given):
            raise ValueError('must be a USB socket, such as "1-1.2", or "1-1.2:1.0" for one port of several')
        return given

    @field_validator("stopbits")
    @classmethod
    def _stopbits(cls, given: float) -> float:
        if given not in (1, 1.5, 2):
            raise ValueError("must be 1, 1.5 or 2")
        return given

    @model_validator(mode="after")
    def _one_port(self) -> Self:
        given = [key for key in PORTS if getattr(self, key) is not None]
        if len(given) > 1:
            raise ValueError(f"{given[1]} is another way to say what {given[0]} says: leave one of them out")
        if not given:
            raise ValueError('port = "..." is missing (or usb, or usb_port)')
        return self

    def serial_port(self) -> Port:
        """Return the port, not yet open."""
        line = Line(**{key: getattr(self, key) for key in LINE})
        if self.port is None:
            return SerialPort(Usb(self.usb, self.usb_port), line)
        return port_at(self.port, line)


class AskedDevice(SerialAdapter):
    """A device that speaks when it is asked, and may share its port with others that do.

    `run` begins with `async with self.bus(device) as bus:`, and asks with
    `async with bus.turn(timeout) as turn: answer = await turn.ask(request, framer)`; its first answer has it online.
    """

    shared: ClassVar[tuple[str, ...]] = PORTS
    alike: ClassVar[tuple[str, ...]] = LINE

    def bus(self, device: Device) -> AbstractAsyncContextManager[Bus]:
        """Return the way to the port, which is open while anybody uses it. See `adapters.ports.bus.bus`."""
        return bus(self.serial_port(), device.name)


class SerialDevice(SerialAdapter):
    """A device that speaks by itself on a serial port. A subclass says what becomes of its bytes: `taker`."""

    silent_after: Duration | None = Field(
        default=None, gt=0, description="Without a byte for so long the device counts as silent, and is opened again."
    )

    def taker(self, device: Device) -> Take:
        """Return a function that takes in what a stream of bytes says, wherever that is cut into chunks.

        It returns None, or something to wait for before the next chunk because the gateway is behind.
        """
        raise NotImplementedError

    async def greet(self, port: Port) -> None:
        """Say what the device has to hear before it speaks: nothing. Called after each opening. Raises DeviceError."""

    async def run(self, device: Device) -> None:
        """Open the port and take in what comes, until it is unplugged."""
        async with self.serial_port() as port:
            await self.greet(port)
            await self.hear(device, port, self.taker(device))

    async def hear(self, device: Device, port: Port, take: Take) -> None:
        """Have `take` take in what comes, until the port is unplugged or the device falls silent."""
        await hear(device, port, take, self.silent_after)


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

    def readings(self, values: dict[str, Value], device: Device) -> Iterable[tuple[dict[str, Value], float | None]]:
        """Return the readings that a frame with these values is, each with the device's own time: one."""
        return ((values, self.time_of(values, device)),)

    def taker(self, device: Device, decode: Callable[[bytes], dict[str, Value]] | None = None) -> Take:
        """Take in what the frames say, and count what is thrown away. See `SerialDevice.taker`.

        `decode` is used in place of `decoder()`.
        """
        hint = (
            f"not one frame that can be read in the first {UNREAD} bytes: another speed, or another device? With the "
            f"gateway stopped, sensor-gateway detect {self.port or 'PORT'} finds out"
        )
        return take_frames(device, self.framer(), decode or self.decoder(), self.readings, hint)


def take_frames(
    device: Device,
    framer: Framer,
    decode: Callable[[bytes], dict[str, Value]],
    readings: Callable[[dict[str, Value], Device], Iterable[tuple[dict[str, Value], float | None]]],
    hint: str = "",
) -> Take:
    """Return a function that takes in the readings in a stream of frames, and counts what is thrown away.

    `hint` is what is said when nothing can be read in the first UNREAD bytes.
    """
    said: dict[str, int] = {}
    unread = 0 if hint else UNREAD + 1  # bytes, until a frame was read or it was said that none was

    def take(chunk: bytes) -> Awaitable[None] | None:
        nonlocal unread
        waiting = None
        for frame in framer.feed(chunk):
            try:
                values = decode(frame)
            except ValueError as error:
                device.skip(str(error), frame)
                continue
            unread = UNREAD + 1
            if values:
                for reading, time in readings(values, device):
                    waiting = device.take_in(reading, time)
        if framer.thrown:
            for reason, count in framer.thrown.items():
                for _ in range(count - said.get(reason, 0)):
                    device.skip(reason)
                said[reason] = count
        if unread <= UNREAD:
            unread += len(chunk)
            if unread > UNREAD:
                device.skip(hint, chunk)
        return waiting

    return take


async def hear(device: Device, port: Port, take: Take, silent_after: float | None) -> None:
    """Have `take` take in what comes over an open port. Raises DeviceError when it is gone, Silent when nothing comes.

    A device that is expected to speak within `silent_after` seconds is there when it speaks; any other at once.
    """
    if silent_after is None:
        device.online()
        await port.deliver(take)
    loop = asyncio.get_running_loop()

    def heard(chunk: bytes) -> Awaitable[None] | None:
        limit.reschedule(loop.time() + silent_after)
        return take(chunk)

    try:
        async with asyncio.timeout(silent_after) as limit:
            await port.deliver(heard)
    except TimeoutError:
        raise Silent(f"nothing from {port.path} for {silent_after:g} s") from None
