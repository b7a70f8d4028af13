"""Sensirion SPS30: a particle sensor that is told to measure, and answers when it is asked."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import Field

from adapters.frames import sensirion_shdlc as shdlc
from adapters.frames.framer import Framer
from adapters.ports.bus import Bus, Turn
from adapters.serial.polled import PolledDevice
from gateway import Value


class SensirionSps30(PolledDevice):
    """Reads the particles in the air from a Sensirion SPS30."""

    baudrate: int = Field(default=115200, gt=0, le=20_000_000, description="Bits per second.")

    def framer(self) -> Framer:
        """Return what cuts its answers."""
        return shdlc.framer()

    def decoder(self) -> Callable[[bytes], dict[str, Value]]:
        """Return the function that reads one."""
        return shdlc.decode

    async def prepare(self, bus: Bus) -> None:
        """Have the sensor measure. See `PolledDevice.prepare`."""
        await self.answer(bus, _start)

    async def poll(self, turn: Turn) -> dict[str, Value]:
        """Ask for the newest reading. See `PolledDevice.poll`."""
        return await _ask(turn, shdlc.read())


async def _start(turn: Turn) -> None:
    await _ask(turn, shdlc.start())


async def _ask(turn: Turn, command: bytes) -> dict[str, Value]:
    """Return what the answer to a command says. Raises ValueError when the sensor reports an error."""
    framer = shdlc.framer()
    frame = await turn.ask(command, framer)
    while not shdlc.answers(frame, command):  # but an earlier one, which came too late
        frame = await turn.frame(framer)
    return shdlc.decode(frame)
