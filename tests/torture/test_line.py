"""The self-test's devices: each line is read whole by one reader, whenever that one dies or the plug is pulled."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli.selftest.line import FORMS, Canary, Line, values, watch


@pytest.fixture
def canary() -> Iterator[Canary]:
    with Canary() as canary:
        yield canary


@pytest.mark.parametrize("form", sorted(FORMS))
async def test_every_line_is_read_whole_by_one_reader(tmp_path: Path, canary: Canary, form: str) -> None:
    """Readers that die in the middle of a line, and plugs that are pulled, leave nothing out and nothing twice."""
    source = random.Random(1)
    read: list[bytes] = []
    with Line("x", form, tmp_path / "tty", 1e6) as line:
        for _ in range(60):
            terminal = os.open(line.port, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
            for _ in range(source.randrange(20)):
                line.step(1.0)
            await canary.fly()
            chunk = b""
            if line.waiting():
                chunk = os.read(terminal, source.randrange(1, line.waiting() + 1))
            read += chunk.split(b"\n")[:-1]
            if source.random() < 0.3:
                await line.unplug(canary)
                line.plug()
            else:
                await line.take_back(canary)
            os.close(terminal)
            assert line.count == len(read)
        assert [each + b"\n" for each in read] == [
            FORMS[form] % tuple(values(n).values()) for n in range(1, len(read) + 1)
        ]
        assert line.taken_back > 100


async def test_a_device_waits_for_a_reader(tmp_path: Path, canary: Canary) -> None:
    """What a queue has no room for is not written, and so cannot be lost."""
    with Line("x", "json", tmp_path / "tty", 1e6) as line:
        for _ in range(500):
            line.step(1.0)
            await canary.fly()
        written = line.count
        assert 50 < written < 400
        await line.take_back(canary)
        assert (line.count, line.taken_back) == (0, written)


async def test_what_was_read_is_known(tmp_path: Path, canary: Canary) -> None:
    """A line is known to have been read when nothing waits any more, and not before."""
    with Line("x", "json", tmp_path / "tty", 1e6) as line:
        terminal = os.open(line.port, os.O_RDONLY | os.O_NOCTTY)
        watching = asyncio.create_task(watch([line], canary))
        line.step(1.0)
        for _ in range(5):
            await canary.fly()
        assert len(line.read) == 0
        os.read(terminal, 4096)
        async with asyncio.timeout(10):
            while not line.read:
                await asyncio.sleep(0)
        watching.cancel()
        os.close(terminal)
        assert line.read[0] > 1.0
