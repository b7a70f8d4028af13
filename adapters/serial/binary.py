"""Devices that write binary frames of a fixed shape to a serial port: the shape is described in the config."""

from __future__ import annotations

from adapters.binary_frames import BinaryFrames
from adapters.serial.device import FramedDevice


class SerialBinary(BinaryFrames, FramedDevice):
    """Reads the numbers in binary frames whose shape the config describes."""
