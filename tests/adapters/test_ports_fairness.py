"""A device that floods leaves the others their turns: it is given as much at once as its reader takes in a moment."""

from __future__ import annotations

import asyncio
import socket
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from adapters.ports.port import CHUNK, LEAST, TURN, Line, Opened, Port, Portion, following
from tests.adapters.notebook import WAIT

COSTS = st.floats(0, 1e-3)
"""Seconds that a reader takes for a byte: from nothing to a format that is hopeless."""


@given(COSTS, st.integers(LEAST, CHUNK))
def test_the_size_of_a_chunk_follows_what_a_byte_costs(cost: float, size: int) -> None:
    """From wherever it begins, a chunk soon takes no longer than a moment, and is no smaller than it has to be."""
    for _ in range(10):
        size = following(size, size * cost)
        assert LEAST <= size <= CHUNK
    for _ in range(10):
        assert size * cost <= TURN or size == LEAST
        assert size * cost >= TURN / 4 or size == CHUNK
        size = following(size, size * cost)


class Joined(Port):
    """A port with a socket behind it, whose other end is `device`. The kernel carries what is written at once."""

    def __init__(self) -> None:
        super().__init__("joined", Line())
        self.device, self._own = socket.socketpair()

    def _open(self) -> Opened:
        self._own.setblocking(False)
        return self._own


class Flooding(Joined):
    """Behind it is a device that always has more to say, for which its reader takes `cost` seconds a byte."""

    cost = 1e-6  # which is 16 ms for a whole chunk

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._portion = Portion(lambda: self.now)

    def _read(self) -> bytes:
        return bytes(self._portion.size)


async def test_a_flood_is_cut_so_that_others_have_their_turn() -> None:
    """Between two lines of a quiet device, a flood that is slow to read is given one moment, and not a whole chunk."""
    flood, quiet = Flooding(), Joined()
    between: list[float] = []
    enough = asyncio.Event()

    def drown(chunk: bytes) -> None:
        flood.now += flood.cost * len(chunk)

    def hear(chunk: bytes) -> None:
        between.append(flood.now)
        quiet.device.send(b"x")  # and it is ready again
        if len(between) == 50:
            enough.set()

    with flood.device, quiet.device:
        async with flood, quiet:
            flood.device.send(b"x")
            quiet.device.send(b"x")
            tasks = [asyncio.create_task(flood.deliver(drown)), asyncio.create_task(quiet.deliver(hear))]
            async with asyncio.timeout(WAIT):
                await enough.wait()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    turns = [after - before for before, after in pairwise(between)]
    assert max(turns) <= CHUNK * flood.cost
    assert 0 < max(turns[10:]) <= TURN
