"""Commands of this machine: what they write is read, and what is to be set is set by running one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any, Self, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from adapters.frames.text import value as text_value
from adapters.lines.stream import Stream
from adapters.ports.process import CannotStart, check_command, run_command
from adapters.schedule import following, spread
from adapters.written import word_of
from gateway import Command, Device, DeviceError, Duration, Value

_PLACE = "{value}"
_KEPT = 4096  # bytes of what a command has written that are looked at for a read-back

Words: TypeAlias = Annotated[list[str], Field(min_length=1), AfterValidator(check_command)]


class Setting(BaseModel):
    """The command that sets a metric."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: Words = Field(description='The command and its arguments; "{value}" in one of them is the value.')
    words: dict[str, str] | None = Field(
        default=None,
        min_length=1,
        description='How values are written, as in { true = "1", false = "0" }; any other is refused.',
    )
    read_back: bool = Field(default=False, description="The last line that it writes is the value that there is then.")
    timeout: Duration = Field(default=5.0, gt=0, description="The longest that it may run.")

    def made(self, value: Value) -> list[str]:
        """Return the command for a value. Raises ValueError for what cannot be said so, or could be an option."""
        word = word_of(value, self.words)
        made = [argument.replace(_PLACE, word) for argument in self.command]
        if self.words is None and isinstance(value, str):
            for argument, given in zip(made, self.command, strict=True):
                if given.startswith(_PLACE) and argument.startswith("-"):
                    raise ValueError('text that begins with "-", which could be an option')
        return made


def _setting(given: Any) -> Any:
    return {"command": given} if isinstance(given, list) else given


Set: TypeAlias = Annotated[Setting, BeforeValidator(_setting, json_schema_input_type=list[str] | Setting)]
"""A setting, or only its command."""


class Exec(Stream):
    """Reads what a command writes: one that is started again and again, or one that goes on and on."""

    command: Words | None = Field(
        default=None,
        description='The command and its arguments: ["vcgencmd", "measure_temp"]. '
        "Needed, unless the device is only there to be set.",
    )
    interval: Duration | None = Field(
        default=None, ge=0.1, description="Start it again each time; default: it is started once and goes on."
    )
    timeout: Duration = Field(default=10.0, gt=0, description="With interval: the longest that it may run.")
    commands: dict[str, Set] = Field(
        default={},
        description='What is run to set a metric: valve = ["gpioset", "gpiochip0", "17={value}"], or a table with '
        "command, words, read_back and timeout.",
    )

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.command is None and not self.commands:
            raise ValueError('command = ["..."] is missing, or commands for what is to be set')
        return self

    def can_set(self, metric: str) -> bool:
        """Say that what there is a command for can be set."""
        return metric in self.commands

    async def run(self, device: Device) -> None:
        """Run the command and take in what it writes, and set what is asked. Raises DeviceError when it fails."""
        if not self.commands:
            await self._read(device)
            return
        orders = device.commands()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._serve(orders))
            await self._read(device)

    async def _read(self, device: Device) -> None:
        if self.command is None:
            device.online()
            await asyncio.get_running_loop().create_future()  # until it is cancelled
        elif self.interval is None:
            await self._once(self.command, device, None)
            raise DeviceError(f"{self.command[0]} has ended")
        else:
            loop = asyncio.get_running_loop()
            start = loop.time() + spread(device.name, self.interval) - self.interval
            while True:
                await self._once(self.command, device, self.timeout)
                now = loop.time()
                await asyncio.sleep(following(start, self.interval, now) - now)

    async def _once(self, command: list[str], device: Device, timeout: float | None) -> None:
        await run_command(command, self.taking(device)(), timeout, started=device.online)

    async def _serve(self, orders: AsyncIterator[Command]) -> None:
        """Carry out what is asked, one after the other."""
        async for order in orders:
            setting = self.commands[order.metric]
            written = bytearray()

            def keep(chunk: bytes, written: bytearray = written) -> None:
                written.extend(chunk)
                del written[:-_KEPT]

            try:
                await run_command(setting.made(order.value), keep, setting.timeout)
            except (ValueError, CannotStart) as error:
                order.refuse(str(error))
            except DeviceError as error:
                order.fail(str(error))
            else:
                lines = written.decode("utf-8", "replace").split("\n") if setting.read_back else []
                last = next((line.strip() for line in reversed(lines) if line.strip()), None)
                order.done(None if last is None else text_value(last))
