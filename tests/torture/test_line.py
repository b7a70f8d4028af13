"""The self-test's devices: each line is read whole by one reader, whenever that one dies or the plug is pulled."""

from __future__ import annotations

import asyncio
import os
import random
import termios
from pathlib import Path

import pytest

from gateway.cli.selftest.line import FORMS, Line, values, watch


@pytest.mark.parametrize("form", sorted(FORMS))
async def test_every_line_is_read_whole_by_one_reader(tmp_path: Path, form: str) -> None:
    """Readers that die in the middle of a line, and plugs that are pulled, leave nothing out and nothing twice."""
    source = random.Random(1)
    read: list[bytes] = []
    with Line("x", form, tmp_path / "tty", 1e6) as line:
        for _ in range(200):
            terminal = os.open(line.port, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
            chunk = b""
            for _ in range(source.randrange(20)):
                line.step(1.0)
                if line.has_waiting() and source.random() < 0.3:
                    chunk += os.read(terminal, source.randrange(1, 40))
            if source.random() < 0.3:
                pulling = asyncio.create_task(line.unplug())
                while not pulling.done():
                    if line.has_waiting():
                        chunk += os.read(terminal, source.randrange(1, 40))
                    await asyncio.sleep(0)
                line.plug()
            else:
                line.take_back()
            read += chunk.split(b"\n")[:-1]
            os.close(terminal)
            assert line.count == len(read)
        lines = [FORMS[form] % tuple(values(n).values()) for n in range(1, len(read) + 1)]
        assert [each + b"\n" for each in read] == lines
        assert line.taken_back > 100
        assert len(read) > 100


async def test_a_device_waits_for_a_reader(tmp_path: Path) -> None:
    """What a queue has no room for is not written; what nobody reads before the plug is pulled was never written."""
    with Line("x", "json", tmp_path / "tty", 1e6) as line:
        for _ in range(5000):
            line.step(1.0)
            assert line.has_waiting()
        written = line.count
        assert 50 < written < 3000
        line.take_back()
        assert not line.has_waiting()
        assert (line.count, line.taken_back) == (0, written)


async def test_what_is_left_is_taken_back_however_the_line_was_set(tmp_path: Path) -> None:
    """A reader killed while it sets the line up may leave VMIN at 0: a read that finds nothing returns."""
    with Line("x", "json", tmp_path / "tty", 1e6) as line:
        line.step(1.0)
        terminal = os.open(line.port, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
        settings = termios.tcgetattr(terminal)
        settings[6][termios.VMIN] = 0
        termios.tcsetattr(terminal, termios.TCSANOW, settings)
        os.close(terminal)
        line.take_back()
        assert (line.count, line.taken_back) == (0, 1)


async def test_what_was_read_is_known(tmp_path: Path) -> None:
    """A line is known to have been read when nothing waits any more, and not before."""
    with Line("x", "json", tmp_path / "tty", 1e6) as line:
        terminal = os.open(line.port, os.O_RDONLY | os.O_NOCTTY)
        watching = asyncio.create_task(watch([line]))
        line.step(1.0)
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(line.read) == 0
        os.read(terminal, 4096)
        async with asyncio.timeout(10):
            while not line.read:
                await asyncio.sleep(0)
        watching.cancel()
        os.close(terminal)
        assert line.read[0] > 1.0
