"""German smart meters that speak SML through an infrared head."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from pydantic import Field

from adapters.frames import sml
from adapters.serial.device import FramedDevice
from gateway import Value


class Sml(FramedDevice):
    """Reads the SML files that a smart meter sends by itself through its infrared interface."""

    detectable: ClassVar[int] = 80

    checksum: sml.Checksum = Field(
        default="x25", description='How a file is checked: "kermit" for early Holley DTZ541, "x25" for all others.'
    )

    @classmethod
    def readable_with(cls, heard: bytes) -> Iterable[dict[str, Any]]:
        """Return each way to check a file. See `FramedDevice`."""
        return [{}, {"checksum": "kermit"}]

    def framer(self) -> sml.SmlFramer:
        """Return what cuts SML files."""
        return sml.SmlFramer(self.checksum)

    def decoder(self) -> Callable[[bytes], dict[str, Value]]:
        """Return the function that reads a file."""
        return sml.decode
