"""Electricity meters with an infrared interface by IEC 62056-21: asked for a readout, or sending by themselves."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from adapters.frames import iec62056_21 as iec
from adapters.frames.framer import Framer
from adapters.frames.lines import LineFramer
from adapters.frames.telegrams import TelegramFramer
from adapters.ports.port import Bytesize, Parity, Port
from adapters.ports.serial import SerialPort
from adapters.schedule import following
from adapters.serial.device import FramedDevice
from gateway import Device, Duration, Silent, Value

_BITS = 10  # of a sign: start, 7 bits, parity, stop
_ADDRESS = r"^[0-9A-Za-z ]{0,32}$"
_REST = 0.02  # seconds for the last bits of a question to leave the adapter
_PAUSE = 0.73  # of the time in which a meter is woken, 2.2 s by the standard: 1.6 s until it may be asked


class Iec6205621(FramedDevice):
    """Reads the register values of an electricity meter through its infrared interface, in mode A, B, C or D."""

    detectable: ClassVar[int] = 12
    speaks_at: ClassVar[tuple[str, ...]] = ("2400 7E1", "9600 7E1")

    baudrate: int = Field(
        default=300, gt=0, le=20_000_000, description="Bits per second: 300 to ask; mode D mostly has 2400 or 9600."
    )
    bytesize: Bytesize = Field(default=7, description="Data bits.")
    parity: Parity = Field(default="E", description="None, even, odd, mark or space.")
    mode: Literal["C", "D"] = Field(
        default="C",
        description='"C" asks for a readout, of meters in mode A and B too; "D" listens to what comes by itself.',
    )
    interval: Duration = Field(default=60.0, gt=0, description="Between two readouts.")
    timeout: Duration = Field(
        default=60.0, gt=0, description="The longest that a readout may take; at 300 bit/s it is 33 ms for each sign."
    )
    address: str = Field(
        default="",
        json_schema_extra={"pattern": _ADDRESS},
        description="The meter's address, for several on one line.",
    )
    faster: bool = Field(
        default=True,
        description="Go over to the speed that the meter offers; false stays at the first one, but in mode B.",
    )
    wake: Duration | None = Field(
        default=None,
        gt=0,
        le=60,
        description="How long a meter with a battery is woken with NULs before each question; 2200ms by the standard.",
    )

    @classmethod
    def readable_with(cls, heard: bytes) -> Iterable[dict[str, Any]]:
        """Return the mode of meters that send by themselves: another one is not heard. See `FramedDevice`."""
        return [{"mode": "D"}]

    @field_validator("address")
    @classmethod
    def _address(cls, given: str) -> str:
        if not re.fullmatch(_ADDRESS, given):
            raise ValueError("must be up to 32 letters, digits and spaces")
        return given

    def framer(self) -> Framer:
        """Return what cuts the telegrams that a meter sends by itself."""
        return TelegramFramer()

    def decoder(self) -> Callable[[bytes], dict[str, Value]]:
        """Return the function that reads a readout."""
        return iec.decode

    async def run(self, device: Device) -> None:
        """Open the port and take in what comes, or ask for it at each interval, until it is unplugged."""
        if self.mode == "D":
            return await super().run(device)
        loop = asyncio.get_running_loop()
        async with self.serial_port() as port:
            start = loop.time()
            while True:
                await device.emit(await self._readout(port))
                due = following(start, self.interval, loop.time())
                await asyncio.sleep(due - loop.time())

    async def _readout(self, port: Port) -> dict[str, Value]:
        """Ask the meter for its values. Raises DeviceError."""
        try:
            async with asyncio.timeout(self.timeout):
                frame = await self._ask(port)
            return iec.decode(frame)
        except TimeoutError:
            raise Silent(f"no readout from {port.path} within {self.timeout:g} s") from None
        except ValueError as error:
            raise Silent(f"no readout from {port.path}: {error}") from None

    async def _ask(self, port: Port) -> bytes:
        if self.wake:
            await port.write(bytes(round(self.wake * self.baudrate / _BITS)))
            await asyncio.sleep(self.wake * (1 + _PAUSE))
        port.discard()
        await port.write(iec.request(self.address))
        lines = LineFramer()
        identification = b""
        while not identification:
            # An infrared head may hear its own question.
            chunk = await port.read()
            heard = [line for line in lines.feed(chunk) if line.startswith(b"/") and not line.startswith(b"/?")]
            identification = heard[0] if heard else b""
        speed, waits = iec.offer(identification)
        if speed is None:  # mode A: the lines come at once
            return await _block(port, chunk)
        stays = speed == self.baudrate or (waits and not (self.faster and isinstance(port, SerialPort)))
        if waits:
            answer = iec.acknowledgement(self.baudrate if stays else speed)
            await port.write(answer)
        if stays:
            return await _block(port)
        if not isinstance(port, SerialPort):
            raise ValueError(f"the meter goes over to {speed} bit/s by itself (mode B), which this port cannot")
        if waits:
            await asyncio.sleep(len(answer) * _BITS / self.baudrate + _REST)
        return await self._at(port, speed)

    async def _at(self, port: SerialPort, speed: int) -> bytes:
        """Return the block that comes at another speed, and go back to the first one."""
        port.retune(speed, self.bytesize, self.parity, self.stopbits)
        try:
            return await _block(port)
        finally:
            if port.is_open:
                port.retune(self.baudrate, self.bytesize, self.parity, self.stopbits)


async def _block(port: Port, chunk: bytes = b"") -> bytes:
    """Return what stands between STX and ETX, of which `chunk` has come already. Raises ValueError if it is damaged."""
    blocks = iec.BlockFramer()
    while not (found := blocks.feed(chunk)):
        if blocks.thrown:
            raise ValueError(next(iter(blocks.thrown)))
        chunk = await port.read()
    return found[0]
