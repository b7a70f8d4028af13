"""A made-up device at a pseudo-terminal: who listens at another speed than its own hears rubbish, as on a real line."""

from __future__ import annotations

import asyncio
import random
import termios
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from tests.adapters.cable import Cable

SPEEDS = {getattr(termios, f"B{speed}"): speed for speed in (300, 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200)}
TICK = 0.004  # seconds between two things that it says


class Speaker:
    """`async with Speaker(cable, "9600 7E1", frames):` says the frames over and over, with noise between them.

    After every third frame, on average, come as many bytes of noise as the frame has. A pseudo-terminal knows speeds,
    but neither parity nor seven bits: parity is sent as a real line has it for one who listens with eight bits.
    """

    def __init__(self, cable: Cable, line: str, frames: Sequence[bytes]) -> None:
        speed, _, form = line.partition(" ")
        self._cable = cable
        self._speed = int(speed)
        self._parity = form[:2]
        self._frames = frames
        self._chance = random.Random(1)
        self._task: asyncio.Task[None] | None = None
        self.heard_at: set[int] = set()  # at which speeds somebody has listened

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._speak())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _speak(self) -> None:
        at = 0
        while True:
            frame = self._frames[at]
            noise = self._chance.randbytes(len(frame)) if self._chance.random() < 0.33 else b""
            self._say(self._coded(frame) + noise)
            at = (at + 1) % len(self._frames)
            await asyncio.sleep(TICK)

    def _say(self, data: bytes) -> None:
        speed = SPEEDS[termios.tcgetattr(self._cable.master)[4]]
        self.heard_at.add(speed)
        if speed != self._speed:
            data = self._chance.randbytes(
                max(1, len(data) * speed // self._speed // 4) if speed < 50_000 else len(data)
            )
        with suppress(BlockingIOError):
            self._cable.write(data)

    def _coded(self, data: bytes) -> bytes:
        if self._parity == "7E":
            return bytes(byte | 0x80 if byte.bit_count() % 2 else byte for byte in data)
        if self._parity == "7O":
            return bytes(byte if byte.bit_count() % 2 else byte | 0x80 for byte in data)
        return data
