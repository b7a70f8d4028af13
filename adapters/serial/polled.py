"""A device on a serial port that gives readings when it is asked: on a schedule, and again if need be."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pydantic import Field

from adapters.frames.framer import Framer
from adapters.ports.bus import Bus, NoAnswer, Turn
from adapters.schedule import following, spread
from adapters.serial.device import AskedDevice, Take, take_frames
from gateway import Device, DeviceError, Duration, Value

_ATTEMPTS = 3  # to get one answer: a disturbed one costs no reading
T = TypeVar("T")


class PolledDevice(AskedDevice):
    """A device that is asked for a reading each `interval`. A subclass says how: `poll` and, if need be, `prepare`."""

    interval: Duration = Field(default=10.0, gt=0, description="From one reading to the next.")
    timeout: Duration = Field(
        default=1.0, gt=0, description="How long an answer may take; without one the device is asked three times."
    )

    async def prepare(self, bus: Bus) -> None:
        """Say what the device has to hear before it is asked. Called after each opening. Raises DeviceError."""

    def framer(self) -> Framer:
        """Return what cuts its answers."""
        raise NotImplementedError

    def decoder(self) -> Callable[[bytes], dict[str, Value]]:
        """Return the function that reads an answer. See `FramedDevice.decoder`."""
        raise NotImplementedError

    def taker(self, device: Device) -> Take:
        """Return a function that takes in what answers say, for a stream of them that was recorded."""
        return take_frames(device, self.framer(), self.decoder(), lambda values, _: ((values, None),))

    async def poll(self, turn: Turn) -> dict[str, Value]:
        """Ask for a reading and return it; nothing, if there is none yet.

        Raises ValueError, with the reason in words, for an answer that is no reading, which has the device prepared
        again, and DeviceError when the port is gone.
        """
        raise NotImplementedError

    async def answer(self, bus: Bus, ask: Callable[[Turn], Awaitable[T]]) -> T:
        """Return what `ask` makes of an answer. Raises NoAnswer after three attempts, and DeviceError if it is wrong.

        Each attempt is a turn of its own, so that other devices on the port wait for one at most.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                async with bus.turn(self.timeout) as turn:
                    return await ask(turn)
            except NoAnswer:
                if attempt == _ATTEMPTS:
                    raise
            except ValueError as error:
                raise DeviceError(str(error)) from None
        raise AssertionError("unreachable")

    async def run(self, device: Device) -> None:
        """Ask for readings until the device does not answer, or is unplugged."""
        loop = asyncio.get_running_loop()
        async with self.bus(device) as bus:
            await asyncio.sleep(spread(device.name, self.interval))
            await self.prepare(bus)
            start = loop.time()
            while True:
                values = await self.answer(bus, self.poll)
                device.online()  # an open port says nothing about who is behind it
                if values:
                    await device.emit(values)
                now = loop.time()
                await asyncio.sleep(following(start, self.interval, now) - now)
