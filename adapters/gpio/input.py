"""A switch, a door, a motion or leak sensor on a GPIO line: its state, whenever it changes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Literal

from pydantic import Field

from adapters.frames.edges import Edge, skipped
from adapters.gpio.device import GpioDevice, Name
from adapters.ports.gpio_line import GpioLine, Wanted
from gateway import Device, Duration, Value

_SECOND = 1e9  # nanoseconds


class GpioInput(GpioDevice):
    """Emits the state of a GPIO line at the start and at each edge, and how long the state before it lasted."""

    metric: Name = Field(default="state", description="What the state is called: true while the line is active.")
    duration: Name | None = Field(
        default=None, description="What to call the seconds that the state before lasted; left out by default."
    )
    edges: Literal["both", "rising", "falling"] = Field(
        default="both", description="Which changes make a reading: rising is from inactive to active."
    )
    debounce: Duration = Field(
        default=0.0, le=10.0, description="The kernel reports a state that has lasted for so long; 10s at most."
    )
    interval: Duration | None = Field(
        default=None, ge=0.01, description="Emit the state that often as well, also when it has not changed."
    )

    async def run(self, device: Device) -> None:
        """Request the line and emit its state, until the line is gone."""
        wanted = Wanted(
            self.sought,
            self.chip,
            self.name_for(device),
            active_low=self.active_low,
            bias=self.bias,
            debounce=self.debounce,
        )
        story = Story(self)

        def take(edges: list[Edge]) -> Awaitable[None] | None:
            waiting = None
            for edge in edges:
                for _ in range(story.skipped(edge)):
                    device.skip("an edge that came faster than it could be read")
                if (values := story.tell(edge)) is not None:
                    age = (time.monotonic_ns() - edge.time) / _SECOND
                    waiting = device.take_in(values, age=max(age, 0.0)) or waiting
            return waiting

        loop = asyncio.get_running_loop()
        async with GpioLine(self.request(wanted), take) as line:
            device.online()
            await device.emit({self.metric: line.get()})
            while True:
                await line.lasts(None if self.interval is None else loop.time() + self.interval)
                await device.emit({self.metric: line.get()})


class Story:
    """What the edges of a line tell, one after the other. Pure."""

    def __init__(self, keys: GpioInput) -> None:
        self._keys = keys
        self._before: int | None = None  # when the edge before was, in nanoseconds
        self._number = 0

    def skipped(self, edge: Edge) -> int:
        """Return how many edges are missing before this one."""
        missing, self._number = skipped(self._number, edge.number), edge.number
        if missing:
            self._before = None
        return missing

    def tell(self, edge: Edge) -> dict[str, Value] | None:
        """Return the reading that an edge is; None, if it is none."""
        before, self._before = self._before, edge.time
        if self._keys.edges != "both" and edge.level != (self._keys.edges == "rising"):
            return None
        values: dict[str, Value] = {self._keys.metric: edge.level}
        if self._keys.duration is not None and before is not None:
            values[self._keys.duration] = round((edge.time - before) / _SECOND, 6)
        return values
