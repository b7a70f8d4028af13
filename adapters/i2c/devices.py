"""Sensors on an I²C bus: BME280 and BMP280, SHT3x and SHT4x, BH1750."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal, Self

from pydantic import Field, model_validator

from adapters.frames import bosch, sensirion_i2c
from adapters.sampled_device import SampledDevice, Skip
from gateway import Value

try:
    from adapters.ports.i2c import Transfer, opened
except ImportError as error:
    MISSING: str | None = f"needs the package smbus2 ({error}); type: pip install 'sensor-gateway[i2c]'"
else:
    MISSING = None


class I2cDevice(SampledDevice):
    """A sensor on an I²C bus. A subclass says how it is asked: `measure`."""

    bus: int = Field(default=1, ge=0, le=255, description="Number of the bus: 1 is /dev/i2c-1.")
    address: int = Field(ge=0x03, le=0x77, description="The sensor's address, such as 0x76.")

    @model_validator(mode="after")
    def _can_be_used(self) -> Self:
        if MISSING is not None:
            raise ValueError(MISSING)
        return self

    def measure(self, transfer: Transfer, wait: Callable[[float], None]) -> dict[str, Value]:
        """Return what it measures now; `wait` waits for so many seconds. Raises ValueError for no measurement."""
        raise NotImplementedError

    def sample(self, skip: Skip) -> dict[str, Value]:
        """Ask the sensor. See `SampledDevice.sample`."""
        with opened(self.bus, self.address) as transfer:
            return self.measure(transfer, time.sleep)


class Bme280(I2cDevice):
    """Reads temperature, pressure and humidity from a BME280, or the first two from a BMP280. Needs the extra i2c."""

    address: int = Field(default=0x76, ge=0x03, le=0x77, description="0x76, or 0x77.")

    def measure(self, transfer: Transfer, wait: Callable[[float], None]) -> dict[str, Value]:
        """Measure once. See `I2cDevice.measure`."""
        chip = transfer(bytes([bosch.CHIP_ID]), 1)[0]
        if chip not in bosch.CHIPS:
            raise ValueError(f"what answers at {self.address:#04x} is no BME280: it calls itself {chip:#04x}")
        has_humidity = bosch.CHIPS[chip] == "BME280"
        known = bosch.calibration(
            transfer(bytes([bosch.CALIBRATION]), 26),
            transfer(bytes([bosch.HUMIDITY_CALIBRATION]), 7) if has_humidity else b"",
        )
        if has_humidity:
            transfer(bosch.HUMIDITY_ONCE, 0)
        transfer(bosch.FORCED, 0)
        wait(bosch.MEASURING)
        return {**bosch.decode(transfer(bytes([bosch.DATA]), 8 if has_humidity else 6), known)}


class Sht(I2cDevice):
    """Reads temperature and humidity from a Sensirion SHT3x or SHT4x. Needs the extra i2c."""

    address: int = Field(default=0x44, ge=0x03, le=0x77, description="0x44, or 0x45.")
    kind: Literal["sht3x", "sht4x"] = Field(default="sht3x", description="Which of the two it is.")

    def measure(self, transfer: Transfer, wait: Callable[[float], None]) -> dict[str, Value]:
        """Measure once. See `I2cDevice.measure`."""
        transfer(sensirion_i2c.SHT3X if self.kind == "sht3x" else sensirion_i2c.SHT4X, 0)
        wait(sensirion_i2c.MEASURING)
        answer = transfer(b"", 6)
        if self.kind == "sht3x":
            return {**sensirion_i2c.decode(answer)}
        return {**sensirion_i2c.decode(answer, offset=-6.0, span=125.0)}


class Bh1750(I2cDevice):
    """Reads the illuminance from a BH1750. Needs the extra i2c.

    One measurement at high resolution, 180 ms at most; a count is 1/1.2 lx (ROHM, BH1750FVI technical note).
    """

    address: int = Field(default=0x23, ge=0x03, le=0x77, description="0x23, or 0x5c.")

    def measure(self, transfer: Transfer, wait: Callable[[float], None]) -> dict[str, Value]:
        """Measure once. See `I2cDevice.measure`."""
        transfer(b"\x20", 0)
        wait(0.18)
        return {"illuminance": round(int.from_bytes(transfer(b"", 2), "big") / 1.2, 1)}
