"""Satellite receivers and instruments that speak NMEA 0183."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from adapters.frames import nmea
from adapters.frames.lines import LineFramer
from adapters.serial.device import FramedDevice
from gateway import Device, Value

# A sentence has at most 82 characters by the standard; some receivers write more digits.
_LONGEST = 256


class Nmea(FramedDevice):
    """Reads the sentences of a satellite receiver or of an instrument on a boat; each is a reading."""

    detectable: ClassVar[int] = 16
    speaks_at: ClassVar[tuple[str, ...]] = ("4800 8N1", "38400 8N1", "115200 8N1")

    def framer(self) -> LineFramer:
        """Return what cuts lines."""
        return LineFramer(_LONGEST)

    def decoder(self) -> Callable[[bytes], dict[str, Value]]:
        """Return the function that reads a sentence."""
        return nmea.decoder()

    def time_of(self, values: dict[str, Value], device: Device) -> float | None:
        """Take the time at which it was measured out of `values`, if the sentence says it."""
        time = values.pop("time", None)
        return None if time is None else float(time)
