"""Nova Fitness SDS011 and relatives: particle sensors that write a reading each second, or sleep between readings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ClassVar, Self

from pydantic import Field, model_validator

from adapters.frames import nova
from adapters.frames.framer import Framer
from adapters.ports.port import Port
from adapters.serial.device import FramedDevice
from gateway import DeviceError, Duration, Value

_ATTEMPTS = 3
_LONGEST = 30 * 60.0  # seconds


class NovaSds011(FramedDevice):
    """Reads the particles in the air from a Nova Fitness SDS011."""

    detectable: ClassVar[int] = 30

    period: Duration | None = Field(
        default=None,
        le=_LONGEST,
        description="Measure for 30 s once in so many minutes, 1m to 30m, and sleep in between, which spares laser and "
        "fan; 0s: all the time. The sensor keeps this; left as it is if not given.",
    )

    @model_validator(mode="after")
    def _period_fits(self) -> Self:
        if self.period is None:
            return self
        if self.period % 60:
            raise ValueError("period is in whole minutes, from 1m to 30m, or 0s")
        if self.silent_after is not None and self.silent_after <= self.period:
            raise ValueError("silent_after is not longer than period, in which the sensor is silent")
        return self

    def framer(self) -> Framer:
        """Return what cuts its frames."""
        return nova.framer()

    def decoder(self) -> Callable[[bytes], dict[str, Value]]:
        """Return the function that reads one."""
        return nova.decode

    async def greet(self, port: Port) -> None:
        """Wake the sensor and set its period, if the config has one. Raises DeviceError if it does not confirm."""
        if self.period is None:
            return
        for command in (nova.work(), nova.report(), nova.period(int(self.period // 60))):
            await tell(port, command)


async def tell(port: Port, command: bytes, within: float = 2.0) -> None:
    """Write a command to the sensor until it confirms it, three times at most, each with `within` seconds to do so.

    Readings that come in between are lost. Raises DeviceError when it does not confirm.
    """
    for _ in range(_ATTEMPTS):
        framer = nova.framer()
        try:
            async with asyncio.timeout(within):
                await port.write(command)
                while not any(nova.confirms(frame, command) for frame in framer.feed(await port.read())):
                    pass
                return
        except TimeoutError:
            continue
    raise DeviceError(f"{port.path}: the sensor does not confirm {command[2:5].hex(' ')} (is its RX connected?)")
