"""Scales and balances that write a line for each weighing: A&D, Ohaus, CAS and the many that do it alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from pydantic import Field

from adapters.frames import scales
from adapters.frames.lines import LineFramer
from adapters.serial.device import FramedDevice
from gateway import Value

_LONGEST = 128


class Scale(FramedDevice):
    """Reads the lines that a scale writes by itself, or when somebody presses its print key."""

    detectable: ClassVar[int] = 3  # a bare number, which is a line of a scale as well, is plain text before that

    stable_only: bool = Field(default=False, description="Leave out what the scale says while it is not at rest.")

    def framer(self) -> LineFramer:
        """Return what cuts lines."""
        return LineFramer(_LONGEST)

    def decoder(self) -> Callable[[bytes], dict[str, Value]]:
        """Return the function that reads a line."""
        if not self.stable_only:
            return scales.decode

        def decode(frame: bytes) -> dict[str, Value]:
            values = scales.decode(frame)
            return values if values.get("stable", True) else {}

        return decode
