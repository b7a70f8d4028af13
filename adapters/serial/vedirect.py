"""Battery monitors, solar chargers and inverters of Victron with a VE.Direct port."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from pydantic import Field

from adapters.frames import vedirect
from adapters.serial.device import FramedDevice
from gateway import Value


class VeDirect(FramedDevice):
    """Reads the blocks of text that a device of Victron writes to its VE.Direct port each second."""

    detectable: ClassVar[int] = 40

    baudrate: int = Field(default=19200, gt=0, le=20_000_000, description="Bits per second.")

    def framer(self) -> vedirect.VeDirectFramer:
        """Return what cuts blocks."""
        return vedirect.VeDirectFramer()

    def decoder(self) -> Callable[[bytes], dict[str, Value]]:
        """Return the function that reads a block."""
        return vedirect.decode
