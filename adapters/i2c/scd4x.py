"""Sensirion SCD40 and SCD41: CO2, temperature and humidity, measured by themselves all the time."""

from __future__ import annotations

import asyncio
from typing import ClassVar, Self

from pydantic import Field, model_validator

from adapters.frames import sensirion_i2c as sensirion
from adapters.i2c.device import I2cDevice, Measure
from adapters.ports.i2c_bus import Chip
from adapters.sampled_device import Skip
from gateway import Silent, Value

_PATIENCE = 3  # of these without a measurement, and it is started again


class Scd4x(I2cDevice):
    """Reads CO2, temperature and humidity from a Sensirion SCD40 or SCD41. Needs the extra i2c."""

    addresses: ClassVar[tuple[int, ...]] = (0x62,)
    periods: ClassVar[tuple[float, float]] = (5.0, 30.0)
    """Seconds from one measurement to the next, and with low_power."""
    address: int = Field(default=0x62, ge=0x03, le=0x77, description="0x62.")
    low_power: bool = Field(default=False, description="true: it measures every 30 s instead of every 5 s.")
    altitude: int | None = Field(
        default=None,
        ge=0,
        le=3000,
        description="Metres above the sea, for which CO2 is corrected; default: as it is set.",
    )
    pressure: float | None = Field(
        default=None, ge=700, le=1200, description="Air pressure in hPa, in the place of the altitude; default: none."
    )
    self_calibration: bool | None = Field(
        default=None,
        description="Whether it takes the least of a week for 400 ppm; left as it is set if not given.",
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if self.altitude is not None and self.pressure is not None:
            raise ValueError("altitude and pressure say the same: one of them")
        return self

    async def begin(self, chip: Chip, skip: Skip) -> Measure:
        """Set it and have it measure. See `I2cDevice.begin`."""
        # It may still measure, from a run that was killed, and then takes no settings.
        await chip.transfer(sensirion.command(sensirion.STOP))
        await chip.wait(sensirion.STOPPING)
        await ask(chip, sensirion.SERIAL, 9)  # by whose checksums it is known
        for code, value in self._settings():
            await chip.transfer(sensirion.command(code, value))
            await chip.wait(sensirion.ANSWERING)
        await chip.transfer(sensirion.command(sensirion.START_LOW_POWER if self.low_power else sensirion.START))
        period = self.periods[self.low_power]
        loop = asyncio.get_running_loop()
        newest = loop.time()

        async def measure() -> dict[str, Value]:
            nonlocal newest
            if not sensirion.is_ready(await ask(chip, sensirion.READY, 3)):
                if loop.time() - newest > _PATIENCE * period:
                    raise Silent(f"has measured nothing for {_PATIENCE * period:g} s, as after a loss of power")
                return {}
            values = sensirion.decode_scd4x(await ask(chip, sensirion.READ, 9))
            newest = loop.time()
            return {**values}

        return measure

    async def end(self, chip: Chip) -> None:
        """Have it stop. See `I2cDevice.end`."""
        await chip.transfer(sensirion.command(sensirion.STOP))

    def _settings(self) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        if self.altitude is not None:
            found.append((sensirion.ALTITUDE, self.altitude))
        if self.pressure is not None:
            found.append((sensirion.PRESSURE, round(self.pressure)))
        if self.self_calibration is not None:
            found.append((sensirion.SELF_CALIBRATION, int(self.self_calibration)))
        return found


async def ask(chip: Chip, code: int, read: int) -> bytes:
    """Return the answer to a question. Raises DeviceError, and ValueError for a wrong checksum."""
    await chip.transfer(sensirion.command(code))
    await chip.wait(sensirion.ANSWERING)
    answer = await chip.transfer(b"", read)
    sensirion.words(answer)
    return answer
