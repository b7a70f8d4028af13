"""A thermometer that writes lines such as `T=21.5` to a serial port."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import Field

from adapters.frames.lines import LineFramer
from adapters.serial.device import FramedDevice
from gateway import Value


class Thermometer(FramedDevice):
    """Reads the temperature from a thermometer that writes a line for each measurement."""

    baudrate: int = Field(default=4800, gt=0, description="Bits per second.")
    fahrenheit: bool = Field(default=False, description="The thermometer shows °F; what is emitted is °C all the same.")

    def framer(self) -> LineFramer:
        return LineFramer(max_line=64)

    def decoder(self) -> Callable[[bytes], dict[str, Value]]:
        return self.decode

    def decode(self, frame: bytes) -> dict[str, Value]:
        if not frame.startswith(b"T="):
            raise ValueError("not a line of a thermometer")
        number = float(frame[2:])
        return {"temperature": round((number - 32) / 1.8, 2) if self.fahrenheit else number}
