"""Plantower particle sensors, which write a reading each second or so: PMS5003, PMS7003, PMSA003, PMS3003."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from adapters.frames import plantower
from adapters.frames.framer import Framer
from adapters.serial.device import FramedDevice
from gateway import Value


class PlantowerPms(FramedDevice):
    """Reads the particles in the air from a Plantower PMS sensor."""

    detectable: ClassVar[int] = 48

    def framer(self) -> Framer:
        """Return what cuts its frames."""
        return plantower.framer()

    def decoder(self) -> Callable[[bytes], dict[str, Value]]:
        """Return the function that reads one."""
        return plantower.decode
