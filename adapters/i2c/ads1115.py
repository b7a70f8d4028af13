"""Texas Instruments ADS1115 and ADS1015: voltages on four inputs."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from adapters.frames import ads1x15
from adapters.i2c.device import I2cDevice, Measure
from adapters.ports.i2c_bus import Chip
from adapters.sampled_device import Skip
from gateway import Value

_LOOKS = 10  # whether it has measured, after it should have


class Input(BaseModel):
    """One input, or the difference of two."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    pins: Literal["0", "1", "2", "3", "0-1", "0-3", "1-3", "2-3"] = Field(
        description='An input against ground, such as "0", or against another, such as "0-1".'
    )
    range: float = Field(
        default=4.096,
        description="Volts at full scale: 6.144, 4.096, 2.048, 1.024, 0.512 or 0.256.",
        json_schema_extra={"enum": list(ads1x15.RANGES)},
    )

    @field_validator("range")
    @classmethod
    def _range(cls, given: float) -> float:
        if given not in ads1x15.RANGES:
            raise ValueError(f"must be one of {', '.join(str(one) for one in ads1x15.RANGES)}")
        return given


class Ads1115(I2cDevice):
    """Reads voltages from an ADS1115 or ADS1015. Needs the extra i2c."""

    addresses: ClassVar[tuple[int, ...]] = (0x48, 0x49, 0x4A, 0x4B)
    address: int = Field(default=0x48, ge=0x03, le=0x77, description="0x48 to 0x4b, by what its pin ADDR is tied to.")
    kind: Literal["ads1115", "ads1015"] = Field(default="ads1115", description="Which of the two it is.")
    rate: int = Field(
        default=128,
        description="Measurements a second; slower is calmer. ADS1115: 8 to 860, ADS1015: 128 to 3300.",
    )
    inputs: dict[str, Input] = Field(min_length=1, description="What is measured for each metric, in V.")

    @model_validator(mode="after")
    def _rate(self) -> Self:
        rates = ads1x15.RATES[self.kind]
        if self.rate not in rates:
            raise ValueError(f"rate: an {self.kind} has {', '.join(str(one) for one in rates)}")
        return self

    async def begin(self, chip: Chip, skip: Skip) -> Measure:
        """Return what measures all inputs once. See `I2cDevice.begin`."""

        async def measure() -> dict[str, Value]:
            values: dict[str, Value] = {}
            for name, one in self.inputs.items():
                answer = await self._convert(chip, one)
                volts = ads1x15.decode(self.kind, answer, one.range)
                if volts is None:
                    skip(f"{name} is beyond its range of {one.range:g} V", answer)
                else:
                    values[name] = volts
            return values

        return measure

    async def _convert(self, chip: Chip, one: Input) -> bytes:
        """Return what one input is converted to. Raises ValueError if that takes too long."""
        started = ads1x15.start(self.kind, one.pins, one.range, self.rate)
        await chip.transfer(started)
        for _ in range(_LOOKS):
            await chip.wait(1 / self.rate)
            if ads1x15.is_ready(await chip.transfer(bytes([ads1x15.CONFIG]), 2), started):
                return await chip.transfer(bytes([ads1x15.CONVERSION]), 2)
        raise ValueError("does not end its measurement")
