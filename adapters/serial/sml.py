"""German smart meters that speak SML through an infrared head."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from adapters.frames import sml
from adapters.serial.device import FramedDevice
from gateway import Value


class Sml(FramedDevice):
    """Reads the SML files that a smart meter sends by itself through its infrared interface."""

    detectable: ClassVar[int] = 80

    def framer(self) -> sml.SmlFramer:
        """Return what cuts SML files."""
        return sml.SmlFramer()

    def decoder(self) -> Callable[[bytes], dict[str, Value]]:
        """Return the function that reads a file."""
        return sml.decode
