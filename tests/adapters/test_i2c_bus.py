"""An I²C bus that devices share: who has it when, what one that hangs costs the others, and what is said of it."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from ctypes import string_at
from pathlib import Path
from typing import Any

import pytest
import smbus2.smbus2
from hypothesis import given
from hypothesis import strategies as st

from adapters.ports.i2c import KernelWire, NobodyAnswers, explained, open_wire, refused
from adapters.ports.i2c_bus import chip
from adapters.ports.simulated_i2c import SimulatedBus, SimulatedWire
from gateway import DeviceError, Silent, registry
from tests.adapters.chips import Bosch, Hanging, Light, sht3x
from tests.adapters.notebook import Notebook, running


class Logged:
    """A chip that notes what is written to it; all of them share a list."""

    def __init__(self, log: list[bytes]) -> None:
        self.log = log

    def transfer(self, write: bytes, read: int) -> bytes:
        self.log.append(write)
        return bytes(read)


async def test_a_turn_is_not_broken_up(tmp_path: Path) -> None:
    """What belongs together follows each other on the bus, whoever else wants it meanwhile."""
    log: list[bytes] = []
    path = str(tmp_path / "i2c")

    async def talk(address: int) -> None:
        async with chip(path, address, f"d{address}") as one:
            for _ in range(10):
                async with one.turn(5):
                    for step in range(3):
                        await one.transfer(bytes([address, step]))

    with SimulatedBus(path, {address: Logged(log) for address in (0x10, 0x11, 0x12)}):
        await asyncio.gather(*(talk(address) for address in (0x10, 0x11, 0x12)))
    assert len(log) == 90
    for at in range(0, 90, 3):
        assert log[at : at + 3] == [bytes([log[at][0], step]) for step in range(3)]


async def test_a_device_that_measures_leaves_the_bus_to_the_others(tmp_path: Path) -> None:
    """While it waits another has its turn, and it has its own again before it goes on."""
    log: list[bytes] = []
    path = str(tmp_path / "i2c")
    with SimulatedBus(path, {0x10: Logged(log), 0x11: Logged(log)}):
        async with chip(path, 0x10, "slow") as slow, chip(path, 0x11, "quick") as quick:

            async def measure() -> None:
                async with slow.turn(5):
                    await slow.transfer(b"begin")
                    await slow.wait(0)
                    await slow.transfer(b"end")

            async def ask() -> None:
                async with quick.turn(5):
                    await quick.transfer(b"one")
                    await quick.transfer(b"two")

            await asyncio.gather(measure(), ask())
    assert log == [b"begin", b"one", b"two", b"end"]


async def test_what_others_take_is_added_to_the_deadline(tmp_path: Path) -> None:
    """A device whose turn comes late after its pause has its own time all the same."""
    path = str(tmp_path / "i2c")
    with SimulatedBus(path, {0x10: Logged([]), 0x11: Logged([])}):
        async with chip(path, 0x10, "slow") as slow, chip(path, 0x11, "other") as other:
            taken, ended = asyncio.Event(), asyncio.Event()

            async def hold() -> None:
                async with other.turn(5):
                    taken.set()
                    await asyncio.sleep(0.3)
                ended.set()

            async with slow.turn(0.2):
                holding = asyncio.create_task(hold())
                await slow.wait(0)
                assert ended.is_set()
                await slow.transfer(b"x")
            await holding


async def test_a_bus_that_hangs_costs_one_thread_and_never_the_loop(tmp_path: Path) -> None:
    """Whoever asks is told who made it hang, within its own time; when it lets go, all go on by themselves."""
    hanging = Hanging()
    chips: dict[int, Any] = {0x44: hanging, 0x23: Light()}
    notes = Notebook()
    keys = {"bus": str(tmp_path / "i2c"), "interval": "10ms", "timeout": "50ms"}
    before = threading.active_count()
    with SimulatedBus(tmp_path / "i2c", chips), hanging:
        air = notes.device("air", registry.adapter("sht")(**keys))
        light = notes.device("light", registry.adapter("bh1750")(**keys))
        async with running(air):
            async with asyncio.timeout(10):
                while not hanging.asked.is_set():
                    await asyncio.sleep(0.002)
            async with running(light):
                async with asyncio.timeout(10):
                    while light.failures < 3 or air.failures < 3:
                        await asyncio.sleep(0.005)
                assert light.state == "silent"
                assert light.reason is not None
                assert "hangs since air (0x44) was asked" in light.reason
                assert "holds the clock or the data line low" in (air.reason or "")
                # One for the bus itself, one that is out; another may be just closing what it opened.
                assert threading.active_count() - before <= 3
                assert notes.readings == []
                chips[0x44] = sht3x()
                hanging.released.set()
                await notes.until(lambda: len(notes.of("light")) >= 2 and len(notes.of("air")) >= 2)


async def test_a_bus_is_closed_only_when_nobody_is_in_it_any_more(tmp_path: Path) -> None:
    """The descriptor of a device that was cancelled in the middle of a transfer stays until that comes back."""
    hanging = Hanging()
    path = str(tmp_path / "i2c")

    async def ask() -> None:
        async with chip(path, 0x44, "air") as one, one.turn(5):
            await one.transfer(b"", 1)

    with SimulatedBus(path, {0x44: hanging}), hanging:
        before = len(os.listdir("/proc/self/fd"))
        asking = asyncio.create_task(ask())
        async with asyncio.timeout(10):
            while not hanging.asked.is_set():
                await asyncio.sleep(0.002)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert len(os.listdir("/proc/self/fd")) == before + 2  # both ends of its connection
        hanging.released.set()
        async with asyncio.timeout(10):
            while len(os.listdir("/proc/self/fd")) > before:
                await asyncio.sleep(0.002)


async def test_two_devices_cannot_have_one_address(tmp_path: Path) -> None:
    """The second one is told who has it; once the first one has left, it can be had."""
    path = str(tmp_path / "i2c")
    (tmp_path / "alias").symlink_to("i2c")
    with SimulatedBus(path, {0x76: Bosch()}):
        async with chip(path, 0x76, "air"):
            with pytest.raises(DeviceError, match=r"0x76 on .*alias is read already, as device air"):
                async with chip(str(tmp_path / "alias"), 0x76, "cellar"):
                    pass
            async with chip(path, 0x77, "cellar"):
                pass
        async with chip(path, 0x76, "cellar"):
            pass


async def test_a_bus_that_is_unplugged_and_plugged_in_again(tmp_path: Path) -> None:
    """It is gone, it is not there, it is back: each in its own words, without a restart."""
    bus = SimulatedBus(tmp_path / "i2c", {0x44: sht3x()})
    notes = Notebook()
    device = notes.device("air", registry.adapter("sht")(bus=str(tmp_path / "i2c"), interval="10ms"))
    bus.plug()
    async with running(device):
        await notes.until(lambda: bool(notes.readings))
        bus.unplug()
        await notes.until(lambda: notes.states[-1:] == [("air", False)])
        assert device.reason is not None
        assert "is gone: its adapter was unplugged" in device.reason or "there is no" in device.reason
        seen = len(notes.readings)
        bus.plug()
        await notes.until(lambda: len(notes.readings) > seen)
    bus.unplug()


@given(st.integers(0, 0x7F), st.binary(max_size=40), st.integers(0, 300))
def test_a_simulated_bus_hands_on_every_transfer(address: int, write: bytes, read: int) -> None:
    """What is written comes to that chip as it is, and as many bytes come back as were asked for."""
    heard: list[tuple[bytes, int]] = []

    class Ear:
        def transfer(self, write: bytes, read: int) -> bytes:
            heard.append((write, read))
            return bytes(one % 251 for one in range(read))

    path = f"/tmp/gw-i2c-{os.getpid()}"
    with SimulatedBus(path, {address: Ear()}):
        wire = SimulatedWire(path)
        try:
            assert wire.transfer(address, write, read) == bytes(one % 251 for one in range(read))
            with pytest.raises(OSError, match=r"."):
                wire.transfer(address ^ 1, write, read)
        finally:
            wire.close()
    assert heard == [(write, read)]


def test_what_is_said_where_there_is_no_bus(tmp_path: Path) -> None:
    """What to type, by whether the kernel knows the bus, and which others there are."""
    missing = FileNotFoundError(errno.ENOENT, "No such file or directory")
    folder, kernel = tmp_path / "dev", tmp_path / "sys"
    folder.mkdir()

    def said() -> str:
        return refused("/dev/i2c-1", missing, str(folder), str(kernel))

    assert said() == (
        "there is no /dev/i2c-1; nor any other I²C bus. Fix on a Raspberry Pi: sudo raspi-config nonint do_i2c 0"
    )
    (folder / "i2c-13").write_text("")
    assert "there is: " + str(folder / "i2c-13") in said()
    (kernel / "i2c-1").mkdir(parents=True)
    assert said() == "there is no /dev/i2c-1, though the kernel has that bus. Fix: sudo modprobe i2c-dev"


def test_what_is_said_where_a_bus_cannot_be_opened(tmp_path: Path) -> None:
    """The group as the system has it, and the exact fix."""
    path = tmp_path / "i2c-1"
    path.write_text("")
    path.chmod(0o600)
    said = refused(str(path), PermissionError(errno.EACCES, "Permission denied"))
    assert "permission denied (" in said
    assert "0600; this process is user " in said
    assert "Fix: " in said
    assert "DeviceAllow=char-89 rw" in refused(str(path), PermissionError(errno.EPERM, "Operation not permitted"))
    assert refused("x", OSError(errno.EIO, "Input/output error")) == "cannot open x: Input/output error"


def test_what_is_no_bus_is_said_and_not_left_open() -> None:
    """Such as a path with a typo that leads to another device."""
    with pytest.raises(DeviceError, match="cannot open /dev/null: that is no I²C bus"):
        open_wire("/dev/null")


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (errno.EREMOTEIO, NobodyAnswers, r"nobody answers at 0x76 on /dev/i2c-1: .*\(sudo i2cdetect -y 1 shows"),
        (errno.ENXIO, NobodyAnswers, "this kind of device is at 0x76 or 0x77"),
        (errno.ETIMEDOUT, Silent, "a device holds the clock or the data line low"),
        (errno.ENODEV, DeviceError, "/dev/i2c-1 is gone: its adapter was unplugged"),
        (errno.EIO, DeviceError, "disturbed: long wires, weak pull-ups or a loose contact"),
        (errno.EOPNOTSUPP, DeviceError, "speaks SMBus only"),
        (errno.ENOMEM, DeviceError, "0x76 on /dev/i2c-1: Cannot allocate memory"),
    ],
)
def test_what_a_failed_transfer_means(code: int, kind: type[DeviceError], words: str) -> None:
    """Each error of the kernel has words of its own, and nobody at an address is told apart from a bus that is gone."""
    found = explained("/dev/i2c-1", 0x76, (0x76, 0x77), OSError(code, os.strerror(code)))
    assert type(found) is kind
    with pytest.raises(kind, match=words):
        raise found


def test_what_the_kernel_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """One transaction for writing and reading, so that nobody comes in between; the answer is what it filled in."""
    asked: list[list[tuple[int, int, bytes]]] = []

    def ioctl(fd: int, request: int, data: Any) -> int:
        if request == smbus2.smbus2.I2C_RDWR:
            messages = [data.msgs[at] for at in range(data.nmsgs)]
            asked.append([(one.addr, one.flags, string_at(one.buf, one.len)) for one in messages])
            for one in messages:
                if one.flags & 1:
                    for at in range(one.len):
                        one.buf[at] = 0x60 + at
        return 0

    monkeypatch.setattr(smbus2.smbus2, "ioctl", ioctl)
    wire = KernelWire("/dev/null")
    assert wire.takes_time
    try:
        assert wire.transfer(0x76, b"\xd0", 2) == b"\x60\x61"
        assert wire.transfer(0x76, b"\xf4\x55", 0) == b""
        assert wire.transfer(0x44, b"", 1) == b"\x60"
    finally:
        wire.close()
    assert asked == [
        [(0x76, 0, b"\xd0"), (0x76, 1, b"\0\0")],
        [(0x76, 0, b"\xf4\x55")],
        [(0x44, 1, b"\0")],
    ]
