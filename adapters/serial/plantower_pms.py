"""Plantower particle sensors, which write a reading each second or so: PMS5003, PMS7003, PMSA003, PMS3003."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar

from pydantic import Field

from adapters.frames import plantower
from adapters.frames.framer import Framer
from adapters.serial.device import FramedDevice
from gateway import Value


class PlantowerPms(FramedDevice):
    """Reads the particles in the air from a Plantower PMS sensor."""

    detectable: ClassVar[int] = 48

    model: plantower.Model = Field(
        default="PMS5003",
        description='"PMS5003T" measures temperature and humidity too, "PMS5003S" formaldehyde; "PMS5003" is all '
        "others: the PMS5003ST and the PMS3003 tell it by the length of their frames.",
    )

    def framer(self) -> Framer:
        """Return what cuts its frames."""
        return plantower.framer()

    def decoder(self) -> Callable[[bytes], dict[str, Value]]:
        """Return the function that reads one."""
        return partial(plantower.decode, model=self.model)
