"""A device on an I²C bus that is measured at regular intervals: the keys that all such devices have, and the rhythm."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Annotated, ClassVar, Self, TypeAlias

from pydantic import Field, model_validator

from adapters.ports.i2c import MISSING, NobodyAnswers
from adapters.ports.i2c_bus import Chip, chip
from adapters.sampled_device import Skip
from adapters.schedule import following, spread
from gateway import Adapter, Device, DeviceError, Duration, Value

Measure: TypeAlias = Callable[[], Awaitable[dict[str, Value]]]
_ATTEMPTS = 3  # to measure once: a disturbed answer costs no reading
_PARTING = 1.0  # seconds that a device has to be put to rest in


class I2cDevice(Adapter):
    """A device on an I²C bus. A subclass says how it is measured, with `begin`, and what it is left as, with `end`."""

    exclusive: ClassVar[tuple[str, ...]] = ("address",)
    addresses: ClassVar[tuple[int, ...]] = ()
    """The addresses that this kind of device can have."""

    bus: Annotated[int, Field(ge=0, le=255)] | Annotated[str, Field(pattern="^/")] = Field(
        default=1, description="Number of the bus, 1 is /dev/i2c-1; or its path, or the socket of a simulated bus."
    )
    address: int = Field(ge=0x03, le=0x77, description="The device's address, such as 0x76.")
    interval: Duration = Field(default=10.0, ge=0.01, description="Time from one reading to the next.")
    timeout: Duration = Field(
        default=5.0, gt=0, description="The longest that a measurement may take once the bus is free."
    )

    @model_validator(mode="after")
    def _can_be_used(self) -> Self:
        if MISSING is not None:
            raise ValueError(MISSING)
        return self

    def claim(self, key: str) -> tuple[int | str, int]:
        """Return its bus and its address there."""
        return self.bus, self.address

    async def begin(self, chip: Chip, skip: Skip) -> Measure:
        """Prepare the device, after each opening, and return what measures it once.

        That returns the values; none, if there is nothing new. `skip(reason, bytes)` tells of what was thrown away.
        Both have the bus; `chip.wait` leaves it to others for a while. They raise DeviceError when the device does not
        answer, and ValueError, with the reason in words, for an answer that is none.
        """
        raise NotImplementedError

    async def end(self, chip: Chip) -> None:
        """Put the device to rest, at the end of each run, however that ended. Raises DeviceError."""

    async def run(self, device: Device) -> None:
        """Measure at each interval, until the device does not answer."""
        loop = asyncio.get_running_loop()
        path = self.bus if isinstance(self.bus, str) else f"/dev/i2c-{self.bus}"
        async with chip(path, self.address, device.name, self.addresses) as opened:
            try:
                measure = await self._begun(opened, device.skip)
                device.online()
                start = loop.time() + spread(device.name, self.interval) - self.interval
                while True:
                    if values := await self._measured(opened, measure, device.skip):
                        await device.emit(values)
                    now = loop.time()
                    await asyncio.sleep(following(start, self.interval, now) - now)
            finally:
                patience = min(self.timeout, _PARTING)
                with suppress(OSError):
                    async with asyncio.timeout(patience), opened.turn(patience):
                        await self.end(opened)

    async def _begun(self, chip: Chip, skip: Skip) -> Measure:
        try:
            async with chip.turn(self.timeout):
                return await self.begin(chip, skip)
        except ValueError as error:
            raise DeviceError(str(error)) from error

    async def _measured(self, chip: Chip, measure: Measure, skip: Skip) -> dict[str, Value]:
        """Measure once, and again where that went wrong. Each attempt is a turn of its own."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                async with chip.turn(self.timeout):
                    return await measure()
            except NobodyAnswers:
                if attempt == _ATTEMPTS:
                    raise
            except ValueError as error:
                skip(str(error))
                if attempt == _ATTEMPTS:
                    raise DeviceError(str(error)) from error
        raise AssertionError("unreachable")
