"""Bosch BME280 and BMP280: temperature, pressure and, from the first, humidity."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from adapters.frames import bosch
from adapters.i2c.device import I2cDevice, Measure
from adapters.ports.i2c_bus import Chip
from adapters.sampled_device import Skip
from gateway import DeviceError, Value


class Bme280(I2cDevice):
    """Reads temperature, pressure and humidity from a BME280, or the first two from a BMP280. Needs the extra i2c."""

    addresses: ClassVar[tuple[int, ...]] = (0x76, 0x77)
    address: int = Field(default=0x76, ge=0x03, le=0x77, description="0x76, or 0x77.")

    async def begin(self, chip: Chip, skip: Skip) -> Measure:
        """Find out which of the two it is, and read its calibration. See `I2cDevice.begin`."""
        number = (await chip.transfer(bytes([bosch.CHIP_ID]), 1))[0]
        if number not in bosch.CHIPS:
            other = f": it is a {bosch.OTHERS[number]}" if number in bosch.OTHERS else f", by its id {number:#04x}"
            raise DeviceError(f"what answers at {self.address:#04x} is no BME280 or BMP280{other}")
        has_humidity = bosch.CHIPS[number] == "BME280"
        known = bosch.calibration(
            await chip.transfer(bytes([bosch.CALIBRATION]), 26),
            await chip.transfer(bytes([bosch.HUMIDITY_CALIBRATION]), 7) if has_humidity else b"",
        )

        async def measure() -> dict[str, Value]:
            if has_humidity:
                await chip.transfer(bosch.HUMIDITY_ONCE)
            await chip.transfer(bosch.FORCED)
            await chip.wait(bosch.MEASURING)
            return {**bosch.decode(await chip.transfer(bytes([bosch.DATA]), 8 if has_humidity else 6), known)}

        return measure
