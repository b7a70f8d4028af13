"""RDM6300 and RDM630: readers of 125 kHz tags, of which a tag that comes near is one reading."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ClassVar

from pydantic import Field

from adapters.frames import rdm6300
from adapters.frames.framer import Framer
from adapters.serial.device import FramedDevice
from gateway import Duration, Value


class Rdm6300(FramedDevice):
    """Reads the number of each RFID tag that comes near an RDM6300 reader."""

    detectable: ClassVar[int] = 60

    away: Duration = Field(
        default=2.0,
        description="A tag that was not seen for so long has gone, and is a new reading when it comes back.",
    )

    def framer(self) -> Framer:
        """Return what cuts its frames."""
        return rdm6300.framer()

    def decoder(self) -> Callable[[bytes], dict[str, Value]]:
        """Return the function that reads one, and takes a tag that stays for the one arrival that it is."""
        return rdm6300.arrivals(self.away, asyncio.get_running_loop().time)
