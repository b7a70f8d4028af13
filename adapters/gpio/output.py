"""A relay, a valve, a lamp on a GPIO line: set by commands, and safe when the gateway ends, however it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Literal, Self

from pydantic import Field, model_validator

from adapters.frames.levels import as_level
from adapters.gpio.device import GpioDevice, Name
from adapters.ports.gpio_line import Drive, GpioLine, Request, Wanted
from adapters.ports.guard import guarded
from gateway import Command, Device, DeviceError, Duration


class GpioOutput(GpioDevice):
    """Drives a GPIO line as commands say, and emits the state that it reads back."""

    metric: Name = Field(default="state", description="What the state is called: true while the line is on.")
    drive: Drive = Field(default="push-pull", description="How it drives: push-pull, open-drain or open-source.")
    safe: Literal["off", "on", "keep"] = Field(
        default="off",
        description="The state at the start, at the end, and when the gateway dies; keep: as it was set last.",
    )
    revert_after: Duration | None = Field(
        default=None, ge=0.01, description="Without another command for so long it goes back to the safe state."
    )

    @model_validator(mode="after")
    def _reverts_to_something(self) -> Self:
        if self.safe == "keep" and self.revert_after is not None:
            raise ValueError('revert_after needs a safe state: safe = "off" or "on"')
        return self

    interval: Duration | None = Field(
        default=None, ge=0.01, description="Emit the state that often as well, also when nothing has set it."
    )

    def can_set(self, metric: str) -> bool:
        """Say whether commands can set this metric: the state."""
        return metric == self.metric

    async def run(self, device: Device) -> None:
        """Request the line and carry out commands, until the line is gone; then make it safe."""
        before = device.memory.load().get("state") is True
        wanted = Wanted(
            self.sought,
            self.chip,
            self.name_for(device),
            output=before if self.safe == "keep" else self.safe == "on",
            active_low=self.active_low,
            bias=self.bias,
            drive=self.drive,
        )
        commands = device.commands()
        async with GpioLine(self._guarded(wanted)) as line:
            device.online()
            await device.emit({self.metric: line.get()})
            revert: asyncio.TimerHandle | None = None
            try:
                while True:
                    try:
                        async with asyncio.timeout(self.interval) as limit:
                            command = await anext(commands)
                    except TimeoutError:
                        if not limit.expired():
                            raise
                        await device.emit({self.metric: line.get()})
                        continue
                    if revert is not None:
                        revert.cancel()
                    await self._carry_out(command, line, device)
                    if self.revert_after is not None:
                        revert = asyncio.get_running_loop().call_later(self.revert_after, self._revert, line, device)
            finally:
                if revert is not None:
                    revert.cancel()

    def _guarded(self, wanted: Wanted) -> Callable[[], Request]:
        open_line = self.request(wanted)
        if self.safe == "keep":
            return open_line
        safe = self.safe == "on"
        if self.backend == "kernel":
            return partial(guarded, open_line, safe, "ioctl", safe)
        return partial(guarded, open_line, safe, "file", safe != self.active_low)

    async def _carry_out(self, command: Command, line: GpioLine, device: Device) -> None:
        level = as_level(command.value)
        if level is None:
            command.refuse("a line is set to true or false, on or off, 1 or 0")
            return
        line.set(level)
        state = line.get()
        if self.safe == "keep":
            device.memory.save({"state": state})
        command.done(state)
        await device.emit({self.metric: state})

    def _revert(self, line: GpioLine, device: Device) -> None:
        try:
            line.set(self.safe == "on")
            device.take_in({self.metric: line.get()})
        except DeviceError as error:
            device.skip(str(error))
