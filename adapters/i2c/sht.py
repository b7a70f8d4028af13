"""Sensirion SHT3x and SHT4x: temperature and humidity."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from adapters.frames import sensirion_i2c
from adapters.i2c.device import I2cDevice, Measure
from adapters.ports.i2c_bus import Chip
from adapters.sampled_device import Skip
from gateway import Value


class Sht(I2cDevice):
    """Reads temperature and humidity from a Sensirion SHT3x or SHT4x. Needs the extra i2c."""

    addresses: ClassVar[tuple[int, ...]] = (0x44, 0x45)
    address: int = Field(default=0x44, ge=0x03, le=0x77, description="0x44, or 0x45.")
    kind: Literal["sht3x", "sht4x"] = Field(default="sht3x", description="Which of the two it is.")

    async def begin(self, chip: Chip, skip: Skip) -> Measure:
        """Return what measures once. See `I2cDevice.begin`."""
        third = self.kind == "sht3x"

        async def measure() -> dict[str, Value]:
            await chip.transfer(sensirion_i2c.SHT3X if third else sensirion_i2c.SHT4X)
            await chip.wait(sensirion_i2c.MEASURING)
            answer = await chip.transfer(b"", 6)
            return {
                **(sensirion_i2c.decode(answer) if third else sensirion_i2c.decode(answer, offset=-6.0, span=125.0))
            }

        return measure
