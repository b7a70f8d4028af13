"""DS18B20 and other 1-wire thermometers, which the kernel reads."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field, PrivateAttr, field_validator

from adapters.frames.onewire import POWER_ON, decode
from adapters.sampled_device import SampledDevice, Skip
from gateway import DeviceError, Duration, Value

NEAR = 10.0
"""Degrees: 85 °C is believed of a sensor that was not further away from it last time."""


class OneWire(SampledDevice):
    """Reads the temperature from a 1-wire thermometer such as the DS18B20."""

    address: str = Field(description="The sensor's address, such as 28-0316a2795dff.")
    timeout: Duration = Field(default=5.0, gt=0, description="The longest that a measurement may take.")
    root: str = Field(default="/sys/bus/w1/devices", description="Where the kernel shows the sensors.")
    _last: list[float] = PrivateAttr(default_factory=list)

    @field_validator("address")
    @classmethod
    def _address(cls, given: str) -> str:
        if not re.fullmatch(r"[0-9a-f]{2}-[0-9a-f]{12}", given):
            raise ValueError('must look like "28-0316a2795dff": two digits, a dash, twelve digits, in small letters')
        return given

    def sample(self, skip: Skip) -> dict[str, Value]:
        """Return the temperature in °C. See `SampledDevice.sample`."""
        path = Path(self.root) / self.address / "w1_slave"
        try:
            text = path.read_text()
        except FileNotFoundError:
            raise DeviceError(self._missing()) from None
        degrees = decode(text)
        last = self._last[0] if self._last else None
        if degrees == POWER_ON and (last is None or abs(last - degrees) > NEAR):
            skip("85 °C: the sensor has lost its power for a moment, or has none of its own")
            return {}
        self._last[:] = [degrees]
        return {"temperature": degrees}

    def _missing(self) -> str:
        root = Path(self.root)
        if not root.is_dir():
            return "the kernel has no 1-wire bus. Fix: add dtoverlay=w1-gpio to /boot/firmware/config.txt, and reboot"
        there = ", ".join(sorted(path.name for path in root.iterdir() if re.match(r"[0-9a-f]{2}-", path.name)))
        return f"there is no sensor {self.address}; there is: {there or 'none'}"
