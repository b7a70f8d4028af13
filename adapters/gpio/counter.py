"""A meter that gives pulses on a GPIO line: S0, water, gas, flow, rain, wind; its total, its rate and its frequency."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Any, Literal

from pydantic import Field

from adapters.frames.edges import Edge
from adapters.gpio.device import GpioDevice
from adapters.gpio.pulses import Pulses, Rhythm
from adapters.ports.gpio_line import GpioLine, Wanted
from adapters.schedule import following
from gateway import Device, Duration, Value

_DIGITS = 9  # after the decimal point: what a division leaves behind them is noise


class GpioCounter(GpioDevice):
    """Counts the pulses of a GPIO line; its total goes on after a restart."""

    interval: Duration = Field(default=10.0, ge=0.01, description="Between two readings.")
    report: list[Literal["total", "rate", "frequency"]] = Field(
        default=["total", "rate"],
        min_length=1,
        description="Which metrics a reading has; frequency is pulses a second.",
    )
    pulses_per_unit: float = Field(
        default=1.0, gt=0, description="How many pulses make one unit of the total, such as 1000 for 1000 imp/kWh."
    )
    initial: float = Field(
        default=0.0, allow_inf_nan=False, description="The total, in units, at which counting began: the meter's own."
    )
    rate_per: Duration = Field(
        default=1.0, gt=0, description='The rate is in units per this; "1h" with kWh makes it kW, "1m" litres a minute.'
    )
    glitch: Duration = Field(
        default=0.0,
        le=10.0,
        description='A level that lasts shorter than this does not count, such as "0.2ms"; 0s: each pulse counts.',
    )
    idle: Duration = Field(default=300.0, gt=0, description="Without a pulse for so long the rate is 0.")

    async def run(self, device: Device) -> None:
        """Request the line, count and emit, until the line is gone."""
        glitch = round(self.glitch * 1e9)
        wanted = Wanted(
            self.sought,
            self.chip,
            self.name_for(device),
            falling=bool(glitch),
            active_low=self.active_low,
            bias=self.bias,
        )
        pulses = Pulses(remembered(device.memory.load()), glitch)
        rhythm = Rhythm(pulses.total, self.idle)

        def take(edges: list[Edge]) -> Awaitable[None] | None:
            pulses.feed(edges)
            return None

        loop = asyncio.get_running_loop()
        async with GpioLine(self.request(wanted), take) as line:
            device.online()
            start = loop.time()
            try:
                while True:
                    await line.lasts(following(start, self.interval, loop.time()))
                    await self._tell(device, pulses, rhythm)
            finally:
                pulses.settle(time.monotonic_ns())
                device.memory.save({"pulses": pulses.total})

    async def _tell(self, device: Device, pulses: Pulses, rhythm: Rhythm) -> None:
        now = time.monotonic_ns()
        pulses.settle(now)
        missed, pulses.missed = pulses.missed, 0
        for _ in range(missed):
            device.skip("an edge that came faster than it could be read, in a line with a glitch filter")
        values = self.values(pulses.total, rhythm.hertz(pulses, now))
        # Before it is emitted: a total that was reported is never gone back behind, whatever ends this process.
        device.memory.save({"pulses": pulses.total})
        await device.memory.flush()
        await device.emit(values)

    def values(self, pulses: int, hertz: float) -> dict[str, Value]:
        """Return the reading for so many pulses, which come that often."""
        total = self.initial + pulses / self.pulses_per_unit
        rate = hertz * self.rate_per / self.pulses_per_unit
        every: dict[str, Value] = {
            "total": int(total) if self.pulses_per_unit == 1 and total.is_integer() else round(total, _DIGITS),
            "rate": round(rate, _DIGITS),
            "frequency": round(hertz, _DIGITS),
        }
        return {name: every[name] for name in self.report}


def remembered(contents: dict[str, Any]) -> int:
    """Return the pulses that were counted before; 0, if that is not known."""
    pulses = contents.get("pulses")
    return pulses if isinstance(pulses, int) and pulses >= 0 else 0
