"""French electricity meters with a Teleinfo output, such as Linky."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from pydantic import Field

from adapters.frames import teleinfo
from adapters.ports.port import Bytesize, Parity
from adapters.serial.device import FramedDevice
from gateway import Device, Value


class Teleinfo(FramedDevice):
    """Reads the frames that a French meter writes to its customer's output, in either spelling."""

    detectable: ClassVar[int] = 24
    speaks_at: ClassVar[tuple[str, ...]] = ("9600 7E1",)

    baudrate: int = Field(
        default=1200,
        gt=0,
        le=20_000_000,
        description="Bits per second: 1200 in historical mode, 9600 in standard mode.",
    )
    bytesize: Bytesize = Field(default=7, description="Data bits.")
    parity: Parity = Field(default="E", description="None, even, odd, mark or space.")

    def framer(self) -> teleinfo.TeleinfoFramer:
        """Return what cuts frames."""
        return teleinfo.TeleinfoFramer()

    def decoder(self) -> Callable[[bytes], dict[str, Value]]:
        """Return the function that reads a frame."""
        return teleinfo.decode

    def time_of(self, values: dict[str, Value], device: Device) -> float | None:
        """Take the meter's own time out of `values`; a historical frame has none."""
        time = values.pop("time", None)
        return None if time is None else float(time)
