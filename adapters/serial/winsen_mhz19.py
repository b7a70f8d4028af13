"""Winsen MH-Z19B, MH-Z19C and relatives: CO2 sensors that answer when they are asked."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import Field

from adapters.frames import winsen
from adapters.frames.framer import Framer
from adapters.ports.bus import Bus, Turn
from adapters.serial.polled import PolledDevice
from gateway import Value


class WinsenMhz19(PolledDevice):
    """Reads the CO2 concentration from a Winsen MH-Z19 sensor."""

    self_calibration: bool | None = Field(
        default=None,
        description="Whether the sensor takes the least that it saw in a day for 400 ppm; left as it is if not given.",
    )

    def framer(self) -> Framer:
        """Return what cuts its answers."""
        return winsen.framer()

    def decoder(self) -> Callable[[bytes], dict[str, Value]]:
        """Return the function that reads one."""
        return winsen.decode

    async def prepare(self, bus: Bus) -> None:
        """Turn the sensor's own calibration on or off, if the config says so. See `PolledDevice.prepare`."""
        if self.self_calibration is not None:
            async with bus.turn(self.timeout) as turn:
                await turn.write(winsen.self_calibration(self.self_calibration))  # not every one answers

    async def poll(self, turn: Turn) -> dict[str, Value]:
        """Ask for a reading. See `PolledDevice.poll`."""
        return winsen.decode(await turn.ask(winsen.read(), self.framer()))
