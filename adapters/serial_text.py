"""Devices that write lines of text to a serial port: Arduinos, scales, loggers; JSON, key=value, CSV or a pattern."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import ClassVar, Literal, Self, TypeAlias

from pydantic import Field, field_validator, model_validator

from adapters.frames import text
from adapters.frames.lines import LineFramer
from adapters.ports.serial import Parity, SerialPort
from gateway import Adapter, Device, DeviceError, Duration, Size, Value

# The device's own time is believed between 2000 and 2100; a clock that was never set says 1970.
_EARLIEST, _LATEST = 946_684_800.0, 4_102_444_800.0

# What is done with a chunk of bytes; answers None, or something to wait for before the next one.
Take: TypeAlias = Callable[[bytes], Awaitable[None] | None]


class SerialText(Adapter):
    """Reads one reading from each line of text that a device writes to a serial port."""

    exclusive: ClassVar[tuple[str, ...]] = ("port",)

    port: str = Field(min_length=1, description="The serial port; best a name from /dev/serial/by-id, which stays.")
    baudrate: int = Field(default=9600, gt=0, le=20_000_000, description="Bits per second.")
    bytesize: Literal[5, 6, 7, 8] = Field(default=8, description="Data bits.")
    parity: Parity = Field(default="N", description="None, even, odd, mark or space.")
    stopbits: float = Field(default=1, description="Stop bits: 1, 1.5 or 2.")
    dtr: bool | None = Field(
        default=None, description="Set the line DTR at opening; false keeps many boards from a reset."
    )
    format: Literal["json", "key-value", "csv", "regex"] = Field(
        default="json", description="How a line is to be read."
    )
    columns: list[str] = Field(default=[], description='Names of the columns, for "csv"; "-" leaves one out.')
    separator: str = Field(
        default=",", min_length=1, max_length=1, description='Between columns, for "csv"; " " is any white space.'
    )
    pattern: str | None = Field(
        default=None,
        description='For "regex": searched in the line, with a named group for each metric; "^" and "$" are its ends.',
    )
    time: str | None = Field(
        default=None, description="The value that holds the device's own time (UTC), if it has one."
    )
    time_format: Literal["s", "ms"] = Field(default="s", description="Seconds or milliseconds since 1970.")
    encoding: str = Field(default="utf-8", description="How the device spells characters, such as utf-8 or latin-1.")
    max_line: Size = Field(default=4096, ge=16, le=1_048_576, description="A longer line is thrown away and counted.")
    skip_first: bool = Field(
        default=False, description="Throw away the first line after opening, which may be the second half of one."
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

    @field_validator("encoding")
    @classmethod
    def _encoding(cls, given: str) -> str:
        ascii_signs = "\n,;:=0aZ{}"
        try:
            fits = ascii_signs.encode().decode(given) == ascii_signs
        except (LookupError, ValueError):
            raise ValueError(f'"{given}" is not an encoding of text') from None
        if not fits:
            raise ValueError(f'"{given}" does not contain ASCII, in which lines are found')
        return given

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.format == "csv") != bool(self.columns):
            raise ValueError('columns = ["...", ...] goes with format = "csv", and only with it')
        if (self.format == "regex") != (self.pattern is not None):
            raise ValueError("pattern = '...' goes with format = \"regex\", and only with it")
        named = [column for column in self.columns if column != "-"]
        if len(named) != len(set(named)):
            raise ValueError("columns has a name twice")
        if self.columns and not named:
            raise ValueError('columns names nothing but "-"')
        if self.separator in '"\n\r':
            raise ValueError("separator cannot be a quote or an end of line")
        try:
            self.decoder()
        except ValueError as error:
            raise ValueError(f"pattern {error}") from None
        return self

    def decoder(self) -> text.Decoder:
        """Return the function that reads one line."""
        match self.format:
            case "json":
                return text.json_decoder(self.encoding)
            case "key-value":
                return text.key_value_decoder(self.encoding)
            case "csv":
                return text.csv_decoder(self.columns, self.separator, self.encoding)
            case "regex":
                return text.regex_decoder(self.pattern or "", self.encoding)

    async def run(self, device: Device) -> None:
        """Open the port and take in what its lines say, until it is unplugged."""
        port = SerialPort(
            self.port,
            baudrate=self.baudrate,
            bytesize=self.bytesize,
            parity=self.parity,
            stopbits=self.stopbits,
            dtr=self.dtr,
        )
        async with port:
            if self.settle:
                await _throw_away(port, self.settle)
            take = self.taker(device)
            if self.silent_after is None:
                device.online()
                await port.deliver(take)
            else:  # a device that is expected to speak is there when it speaks
                await _while_speaking(port, take, self.silent_after)

    def taker(self, device: Device) -> Take:
        """Return a function that takes in what the lines in a stream say, wherever that is cut into chunks.

        It returns None, or something to wait for before the next chunk because the gateway is behind.
        """
        framer = LineFramer(self.max_line, skip_first=self.skip_first)
        decode, overlong = self.decoder(), 0

        def take(chunk: bytes) -> Awaitable[None] | None:
            nonlocal overlong
            waiting = None
            for frame in framer.feed(chunk):
                try:
                    values = decode(frame)
                except ValueError as error:
                    device.skip(str(error), frame)
                    continue
                waiting = device.take_in(values, self._time_of(values, device) if self.time else None)
            while overlong < framer.overlong:
                overlong += 1
                device.skip(f"line longer than {self.max_line} bytes")
            return waiting

        return take

    def _time_of(self, values: dict[str, Value], device: Device) -> float | None:
        """Take the device's own time out of `values`; None, and counted, if it cannot be right."""
        given = values.pop(self.time or "", None)
        if given is None:
            return None
        if isinstance(given, int | float):
            seconds = given / 1000 if self.time_format == "ms" else float(given)
            if _EARLIEST <= seconds < _LATEST:
                return seconds
        device.skip("device time that cannot be right; the gateway's own is used", str(given).encode(errors="replace"))
        return None


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
