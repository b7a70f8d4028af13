"""A02YYUW and relatives: ultrasonic sensors that write a distance several times a second."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from adapters.frames import a02yyuw
from adapters.frames.framer import Framer
from adapters.serial.device import FramedDevice
from gateway import Value


class A02yyuw(FramedDevice):
    """Reads the distance to what is in front of an A02YYUW ultrasonic sensor."""

    detectable: ClassVar[int] = 16

    def framer(self) -> Framer:
        """Return what cuts its frames."""
        return a02yyuw.framer()

    def decoder(self) -> Callable[[bytes], dict[str, Value]]:
        """Return the function that reads one."""
        return a02yyuw.decode
