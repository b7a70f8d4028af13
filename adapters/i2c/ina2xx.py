"""Texas Instruments INA219 and INA226: voltage, current and power."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from adapters.frames import ina2xx
from adapters.i2c.device import I2cDevice, Measure
from adapters.ports.i2c_bus import Chip
from adapters.sampled_device import Skip
from gateway import DeviceError, Value

_LOOKS = 10  # whether it has measured, after it should have


class PowerMonitor(I2cDevice):
    """What the two have in common."""

    model: ClassVar[ina2xx.Kind]
    addresses: ClassVar[tuple[int, ...]] = tuple(range(0x40, 0x50))
    address: int = Field(default=0x40, ge=0x03, le=0x77, description="0x40 to 0x4f, by its pins A0 and A1.")
    shunt: float = Field(default=0.1, gt=0, description="The shunt's resistance, in Ω.")
    average: int
    max_current: float

    @model_validator(mode="after")
    def _fits(self) -> Self:
        self.setting()
        return self

    def setting(self) -> ina2xx.Setting:
        """Return how the chip is set. Raises ValueError."""
        return ina2xx.plan(self.model, self.shunt, self.max_current, self.average)

    async def identify(self, chip: Chip) -> None:
        """Raise DeviceError if that is another chip."""
        raise NotImplementedError

    async def flags(self, chip: Chip) -> tuple[bool, bool]:
        """Return whether a measurement is ready, and whether its arithmetic overflowed."""
        raise NotImplementedError

    async def begin(self, chip: Chip, skip: Skip) -> Measure:
        """See that it is the right chip, and return what measures once. See `I2cDevice.begin`."""
        setting = self.setting()
        await self.identify(chip)

        async def measure() -> dict[str, Value]:
            # Each time, because it forgets them when its power fails.
            await write(chip, ina2xx.CALIBRATION, setting.calibration)
            await write(chip, ina2xx.CONFIG, setting.config)
            lasts = self.model.once * self.average
            await chip.wait(lasts)
            for _ in range(_LOOKS):
                ready, overflowed = await self.flags(chip)
                if ready:
                    break
                await chip.wait(max(0.001, lasts / 10))
            else:
                raise ValueError("does not end its measurement")
            names = (ina2xx.SHUNT, ina2xx.BUS, ina2xx.POWER, ina2xx.CURRENT)
            registers = [await read(chip, register) for register in names]
            if overflowed or ina2xx.is_beyond(setting, registers[0]):
                skip("the current is beyond its range", b"".join(one.to_bytes(2, "big") for one in registers))
                return {}
            return {**ina2xx.decode(setting, *registers)}

        return measure


class Ina219(PowerMonitor):
    """Reads voltage, current and power from an INA219. Needs the extra i2c."""

    model: ClassVar[ina2xx.Kind] = ina2xx.INA219
    max_current: float = Field(
        default=3.2, gt=0, description="The highest current, in A; with the shunt it makes 0.32 V at most."
    )
    average: Literal[1, 2, 4, 8, 16, 32, 64, 128] = Field(
        default=16, description="How many measurements of 1 ms make one."
    )

    async def identify(self, chip: Chip) -> None:
        """Raise DeviceError if it does not keep what an INA219 keeps: it has no number by which it could be known."""
        config = self.setting().config
        await write(chip, ina2xx.CONFIG, config)
        kept = await read(chip, ina2xx.CONFIG)
        if (kept ^ config) & ~ina2xx.MODE:
            like = ": it looks like an INA226" if kept & 0x4000 else ""
            raise DeviceError(
                f"what answers at {self.address:#04x} is no INA219{like} ({config:#06x} became {kept:#06x})"
            )

    async def flags(self, chip: Chip) -> tuple[bool, bool]:
        """See `PowerMonitor.flags`."""
        bus = await read(chip, ina2xx.BUS)
        return bool(bus & 2), bool(bus & 1)


class Ina226(PowerMonitor):
    """Reads voltage, current and power from an INA226. Needs the extra i2c."""

    model: ClassVar[ina2xx.Kind] = ina2xx.INA226
    max_current: float = Field(
        default=0.8, gt=0, description="The highest current, in A; with the shunt it makes 0.08192 V at most."
    )
    average: Literal[1, 4, 16, 64, 128, 256, 512, 1024] = Field(
        default=16, description="How many measurements of 2.2 ms make one."
    )

    async def identify(self, chip: Chip) -> None:
        """Raise DeviceError if it does not call itself an INA226."""
        maker, die = await read(chip, ina2xx.MAKER), await read(chip, ina2xx.DIE)
        if maker != ina2xx.TEXAS or ina2xx.DIES.get(die >> 4) != "INA226":
            known = ina2xx.DIES.get(die >> 4) if maker == ina2xx.TEXAS else None
            other = f": it is an {known}" if known else f", by its ids {maker:#06x} and {die:#06x}; an INA219?"
            raise DeviceError(f"what answers at {self.address:#04x} is no INA226{other}")

    async def flags(self, chip: Chip) -> tuple[bool, bool]:
        """See `PowerMonitor.flags`."""
        status = await read(chip, ina2xx.STATUS)
        return bool(status & 8), bool(status & 4)


async def write(chip: Chip, register: int, word: int) -> None:
    """Write a register. Raises DeviceError."""
    await chip.transfer(bytes([register]) + word.to_bytes(2, "big"))


async def read(chip: Chip, register: int) -> int:
    """Read a register. Raises DeviceError."""
    return int.from_bytes(await chip.transfer(bytes([register]), 2), "big")
