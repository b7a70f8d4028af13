"""A device that is not there: readings of known shape at a steady rhythm, for first steps, demos and tests."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gateway import Adapter, Command, Device, Duration, Value

_DIGITS = 3  # after the decimal point


class Signal(BaseModel):
    """How one simulated metric goes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["sine", "ramp", "random", "counter", "constant", "setpoint"] = Field(
        default="sine",
        description="sine and ramp repeat each period; counter goes up by 1 from low; constant is low; "
        "setpoint is low until a command sets it.",
    )
    low: float = Field(default=0.0, description="The lowest value.")
    high: float = Field(default=100.0, description="The highest value; a counter starts again from low after it.")
    period: Duration = Field(default=60.0, gt=0, description="How long a sine or a ramp takes.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.high < self.low:
            raise ValueError("high is below low")
        return self

    def at(self, index: int, elapsed: float, chance: random.Random) -> Value:
        """Return the value of reading number `index` (from 0), `elapsed` seconds after the first."""
        span = self.high - self.low
        match self.kind:
            case "sine":
                part = (1 + math.sin(2 * math.pi * elapsed / self.period)) / 2
            case "ramp":
                part = (elapsed / self.period) % 1.0
            case "random":
                part = chance.random()
            case "counter":
                return int(self.low) + index % (int(span) + 1)
            case "constant" | "setpoint":
                part = 0.0
        return round(self.low + span * part, _DIGITS)


_SIGNALS = {
    "temperature": Signal(kind="sine", low=18.0, high=24.0, period=60.0),
    "humidity": Signal(kind="random", low=35.0, high=45.0),
}


class Simulator(Adapter):
    """Emits made-up readings: the same ones each time, if it is given a seed."""

    interval: Duration = Field(default=1.0, description="Between two readings; 0s: as fast as the gateway takes them.")
    signals: dict[str, Signal] = Field(default=_SIGNALS, min_length=1, description="The metrics, and how each goes.")
    count: int | None = Field(default=None, ge=1, description="Stop after so many readings.")
    seed: int | None = Field(default=None, description="Makes random signals repeatable.")

    def can_set(self, metric: str) -> bool:
        """Say that setpoints can be set."""
        return metric in self.signals and self.signals[metric].kind == "setpoint"

    async def run(self, device: Device) -> None:
        """Emit readings until `count` of them are emitted, or for ever; and do what commands say."""
        if not any(map(self.can_set, self.signals)):
            device.online()
            await self._emit(device, {})
            return
        points: dict[str, Value] = {}
        commands = device.commands()
        device.online()
        async with asyncio.TaskGroup() as tasks:
            obeying = tasks.create_task(self._obey(device, commands, points))
            await self._emit(device, points)
            obeying.cancel()

    async def _obey(self, device: Device, commands: AsyncIterator[Command], points: dict[str, Value]) -> None:
        """Set what commands say, and emit it at once."""
        async for command in commands:
            signal, value = self.signals[command.metric], command.value
            if isinstance(value, str) or not signal.low <= value <= signal.high:
                command.refuse(f"not from {signal.low:g} to {signal.high:g}")
                continue
            points[command.metric] = value
            command.done(value)
            await device.emit({command.metric: value})

    async def _emit(self, device: Device, points: dict[str, Value]) -> None:
        """Emit readings, with these values of setpoints."""
        chance = random.Random(self.seed)  # noqa: S311 - made-up readings need no secrecy
        loop = asyncio.get_running_loop()
        deadline, index = loop.time(), 0
        while self.count is None or index < self.count:
            await device.emit({**self.values(index, chance), **points})
            index += 1
            deadline = following(deadline, self.interval, loop.time())
            if (wait := deadline - loop.time()) > 0:
                await asyncio.sleep(wait)

    def values(self, index: int, chance: random.Random) -> dict[str, Value]:
        """Return reading number `index`, from 0."""
        elapsed = index * self.interval
        return {name: signal.at(index, elapsed, chance) for name, signal in self.signals.items()}


def following(deadline: float, interval: float, now: float) -> float:
    """Return when the next reading is due: one interval later, without drift; from now on, if that has passed."""
    return max(deadline + interval, now)
