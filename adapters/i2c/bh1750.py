"""ROHM BH1750: how light it is."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from adapters.frames import rohm
from adapters.i2c.device import I2cDevice, Measure
from adapters.ports.i2c_bus import Chip
from adapters.sampled_device import Skip
from gateway import Value


class Bh1750(I2cDevice):
    """Reads the illuminance from a BH1750. Needs the extra i2c."""

    addresses: ClassVar[tuple[int, ...]] = (0x23, 0x5C)
    address: int = Field(default=0x23, ge=0x03, le=0x77, description="0x23, or 0x5c.")

    async def begin(self, chip: Chip, skip: Skip) -> Measure:
        """Return what measures once. See `I2cDevice.begin`."""

        async def measure() -> dict[str, Value]:
            await chip.transfer(rohm.ONCE)
            await chip.wait(rohm.MEASURING)
            answer = await chip.transfer(b"", 2)
            lux = rohm.decode(answer)
            if lux is None:
                skip("brighter than it can tell", answer)
                return {}
            return {"illuminance": lux}

        return measure
