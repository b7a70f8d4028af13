"""Writing to a port: all of it, without holding up the loop, and no longer than it may take."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from adapters.ports import serial
from adapters.ports.port import Line
from adapters.ports.serial import SerialPort
from gateway import DeviceError
from tests.adapters.cable import Cable
from tests.adapters.notebook import WAIT


async def read_all(fd: int, size: int) -> bytes:
    """Read like a device, in the loop, until there are `size` bytes."""
    loop, got, done = asyncio.get_running_loop(), bytearray(), asyncio.Event()

    def readable() -> None:
        with suppress(BlockingIOError):
            got.extend(os.read(fd, 4096))
        if len(got) >= size:
            done.set()

    loop.add_reader(fd, readable)
    try:
        async with asyncio.timeout(WAIT):
            await done.wait()
    finally:
        loop.remove_reader(fd)
    return bytes(got)


async def test_everything_is_written_while_the_loop_goes_on(tmp_path: Path) -> None:
    """More than the kernel takes at once goes out in order, while the same loop reads it at the other end."""
    data = os.urandom(100_000)
    with Cable(tmp_path / "tty") as cable:
        async with SerialPort(cable.path) as port:
            reading = asyncio.create_task(read_all(cable.master, len(data)))
            await port.write(data, WAIT)
            assert await reading == data


async def test_reading_goes_on_while_writing_waits(tmp_path: Path) -> None:
    """A device may answer while it is still being told something."""
    with Cable(tmp_path / "tty") as cable:
        async with SerialPort(cable.path) as port:
            writing = asyncio.create_task(port.write(bytes(100_000), WAIT))
            await asyncio.sleep(0)
            cable.write(b"busy")
            async with asyncio.timeout(WAIT):
                assert await port.read() == b"busy"
            assert not writing.done()
            assert await read_all(cable.master, 100_000) == bytes(100_000)
            await writing


async def test_a_device_that_takes_nothing_ends_the_writing(tmp_path: Path) -> None:
    """Nobody waits for ever, and the message says how far it went."""
    with Cable(tmp_path / "tty") as cable:
        async with SerialPort(cable.path) as port:
            with pytest.raises(DeviceError, match=r"took only \d+ of 100000 bytes in 0\.01 s$"):
                await port.write(bytes(100_000), 0.01)
            assert not asyncio.get_running_loop().remove_writer(port._fd)
            assert not port.is_gone


async def test_a_writer_that_is_cancelled_watches_no_more(tmp_path: Path) -> None:
    """A descriptor that is closed is not watched by the loop."""
    with Cable(tmp_path / "tty") as cable:
        async with SerialPort(cable.path) as port:
            writing = asyncio.create_task(port.write(bytes(100_000), WAIT))
            await asyncio.sleep(0)
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing
            assert not asyncio.get_running_loop().remove_writer(port._fd)


async def test_writing_to_what_is_gone_says_so(tmp_path: Path) -> None:
    """An unplugged port is found by whoever writes as well."""
    with Cable(tmp_path / "tty") as cable:
        async with SerialPort(cable.path) as port:
            cable.unplug()
            with pytest.raises(DeviceError, match=r"^unplugged \("):
                await port.write(b"x")
            assert port.is_gone


async def test_a_port_that_is_not_open_is_a_bug_of_the_caller(tmp_path: Path) -> None:
    """It is told apart from a device that is away."""
    port = SerialPort(str(tmp_path))
    with pytest.raises(RuntimeError, match="is not open"):
        await port.write(b"x")
    with pytest.raises(RuntimeError, match="is not open"):
        await port.read()


async def test_what_is_discarded_is_not_read(tmp_path: Path) -> None:
    """What came before a question is no answer to it."""
    with Cable(tmp_path / "tty") as cable:
        async with SerialPort(cable.path) as port:
            assert port.discard() == 0
            cable.write(b"old")
            await readable(port)
            assert port.discard() == 3
            cable.write(b"new")
            async with asyncio.timeout(WAIT):
                assert await port.read() == b"new"
            cable.unplug()
            with pytest.raises(DeviceError, match=r"^unplugged \("):
                port.discard()


class Flooding(SerialPort):
    """Behind it is a device that always has more to say."""

    def _read(self) -> bytes:
        return bytes(16384)


async def test_a_flood_is_discarded_in_bounded_time() -> None:
    """Throwing away ends although the device writes faster than one can throw."""
    master, slave = os.openpty()
    try:
        async with Flooding(os.ttyname(slave)) as port:
            assert port.discard() == 64 * 16384
    finally:
        os.close(master)
        os.close(slave)


async def test_a_port_that_is_unplugged_while_it_settles_is_closed(tmp_path: Path) -> None:
    """What fails between the opening and the first byte leaves no descriptor behind."""
    with Cable(tmp_path / "tty") as cable:
        before = len(os.listdir("/proc/self/fd"))
        port = SerialPort(cable.path, Line(settle=3600))
        opening = asyncio.create_task(port.open())
        async with asyncio.timeout(WAIT):
            while not port.is_open:
                await asyncio.sleep(0)
        cable.unplug()
        with pytest.raises(DeviceError, match=r"^unplugged \("):
            await opening
        assert len(os.listdir("/proc/self/fd")) == before - 1  # the cable's own end


class Draining(SerialPort):
    """A line so slow that the kernel still has something to send when the port is closed, and waits for that."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.gate, self.closed = threading.Event(), threading.Event()

    @staticmethod
    def _unsent(fd: int) -> int:
        return 7

    def _open(self) -> Any:
        port = super()._open()
        close = port.close

        def slow() -> None:
            self.gate.wait(WAIT)
            close()
            self.closed.set()

        port.close = slow
        return port


async def test_closing_a_line_that_still_sends_holds_up_nobody(tmp_path: Path) -> None:
    """The kernel waits in close until everything is sent; the loop does not, and the next opening does."""
    with Cable(tmp_path / "tty") as cable:
        port, again = Draining(cable.path), SerialPort(cable.path)
        async with port:
            pass
        assert not port.closed.is_set()
        assert not port.is_open
        opening = asyncio.create_task(again.open())
        assert await asyncio.to_thread(waits_for_its_place, cable.terminal)
        assert not opening.done()
        port.gate.set()
        async with asyncio.timeout(WAIT):
            await opening
        assert port.closed.is_set()
        again.close()


class Lingering(SerialPort):
    """A driver that has the port, and its lock, long before it says so."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.has_it, self.gate = threading.Event(), threading.Event()

    def _open(self) -> Any:
        port = super()._open()
        self.has_it.set()
        self.gate.wait(WAIT)
        return port


async def test_an_opening_waits_for_one_that_was_given_up(tmp_path: Path) -> None:
    """A device that is opened again at once finds its port free, and not held by the gateway itself."""
    with Cable(tmp_path / "tty") as cable:
        port, again = Lingering(cable.path), SerialPort(cable.path)
        given_up = asyncio.create_task(port.open())
        assert await asyncio.to_thread(port.has_it.wait, WAIT)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        opening = asyncio.create_task(again.open())
        assert await asyncio.to_thread(waits_for_its_place, cable.terminal)
        assert not opening.done()
        port.gate.set()
        async with asyncio.timeout(WAIT):
            await opening
        again.close()


async def test_a_port_that_is_in_use_is_not_waited_for(tmp_path: Path) -> None:
    """Who holds it is said at once: it will not be free in a moment."""
    with Cable(tmp_path / "tty") as cable:
        async with SerialPort(cable.path):
            with pytest.raises(DeviceError, match="which is this gateway"):
                await SerialPort(cable.path).open()
            assert cable.terminal not in serial._underway._places
        assert not serial._underway._places


def waits_for_its_place(place: str) -> bool:
    """Return whether somebody waits until nobody else opens or closes the port there."""
    ends = time.monotonic() + WAIT
    while time.monotonic() < ends:
        if serial._underway._changed._waiters:  # type: ignore[attr-defined]
            return place in serial._underway._places
        time.sleep(0.001)
    return False


async def readable(port: SerialPort) -> None:
    """Wait until there is something to read, and leave it there."""
    came = asyncio.Event()
    port.watch(came.set)
    try:
        async with asyncio.timeout(WAIT):
            await came.wait()
    finally:
        port.watch(None)
