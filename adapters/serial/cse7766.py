"""CSE7766, the meter in many switched sockets: voltage, current, power and energy of what is plugged in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ClassVar

from pydantic import Field

from adapters.frames import cse7766
from adapters.frames.framer import Framer
from adapters.ports.port import Parity
from adapters.serial.device import FramedDevice
from gateway import Duration, Value


class Cse7766(FramedDevice):
    """Reads what a CSE7766 chip measures of mains electricity."""

    detectable: ClassVar[int] = 20

    baudrate: int = Field(default=4800, gt=0, le=20_000_000, description="Bits per second.")
    parity: Parity = Field(default="E", description="None, even, odd, mark or space.")
    interval: Duration = Field(
        default=1.0, description="From one reading to the next, of the 18 a second; 0s: all. All count for the energy."
    )

    def framer(self) -> Framer:
        """Return what cuts its frames."""
        return cse7766.framer()

    def decoder(self) -> Callable[[bytes], dict[str, Value]]:
        """Return the function that reads one; it says nothing of a frame that comes before its time."""
        return cse7766.every(self.interval, asyncio.get_running_loop().time)
