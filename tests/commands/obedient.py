"""A device that does what commands say, and a way to wait for that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway import Adapter, Device, DeviceError


class Obedient(Adapter):
    """Does with each command what its value says."""

    def can_set(self, metric: str) -> bool:
        """Say yes to all but the gauge."""
        return metric != "gauge"

    async def run(self, device: Device) -> None:
        """Serve commands."""
        commands = device.commands()
        device.online()
        async for command in commands:
            match command.value:
                case "refuse":
                    command.refuse("it  will\nnot")
                case "ignore":
                    pass
                case "break":
                    raise DeviceError("unplugged")
                case "end":
                    return
                case "twice":
                    command.done(1)
                    command.refuse("no")
                case value:
                    command.done(value)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)
