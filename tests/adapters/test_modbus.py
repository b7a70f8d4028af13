"""Modbus against pymodbus's own simulator, over TCP and over a serial line made of two pseudo-terminals."""

from __future__ import annotations

import asyncio
import os
import struct
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from pymodbus import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from adapters.frames.registers import LONGEST, Register, plan
from adapters.modbus import Modbus
from gateway.backoff import Backoff
from tests.adapters.notebook import Notebook, running
from tests.ports import free_port

SDM = {
    "voltage": {"table": "input", "address": 0, "type": "f32"},
    "current": {"table": "input", "address": 6, "type": "f32"},
    "power": {"table": "input", "address": 12, "type": "f32"},
}
"""Of Eastron's SDM120: float32, big-endian, in two registers."""


def meter(unit: int = 1, volts: float = 230.2) -> SimDevice:
    """Return a device that answers for these, and refuses everything in between."""
    registers = [
        SimData(address, values=value, datatype=DataType.FLOAT32)
        for address, value in ((0, volts), (6, 1.5), (12, 345.25))
    ]
    words = [SimData(0, values=[1, 0x8001, 0xFFFF, 7], datatype=DataType.REGISTERS)]
    bits = [SimData(0, values=[True] + [False] * 15, datatype=DataType.BITS)]
    return SimDevice(unit, simdata=(bits, bits, words, registers))


@asynccontextmanager
async def served(server: Any) -> AsyncIterator[None]:
    task = asyncio.create_task(server.serve_forever())
    try:
        async with asyncio.timeout(10):
            while not server.transport:  # it is listening, or has its port open
                assert not task.done(), task
                await asyncio.sleep(0)
        yield
    finally:
        await server.shutdown()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def cable() -> AsyncIterator[tuple[str, str]]:
    """Give the two ends of a serial line; what one writes, the other reads."""
    loop = asyncio.get_running_loop()
    ends = [os.openpty(), os.openpty()]
    for master, _ in ends:
        os.set_blocking(master, False)

    def carry(source: int, target: int) -> None:
        with suppress(OSError):
            os.write(target, os.read(source, 1024))

    (one, first), (other, second) = ends
    loop.add_reader(one, carry, one, other)
    loop.add_reader(other, carry, other, one)
    try:
        yield os.ttyname(first), os.ttyname(second)
    finally:
        for descriptor in (one, other):
            loop.remove_reader(descriptor)
        for pair in ends:
            for descriptor in pair:
                os.close(descriptor)


def modbus(port: str, registers: dict[str, Any] | None = None, **keys: Any) -> Modbus:
    keys = {"interval": 0.05, "timeout": 2.0, **keys}
    return Modbus(port=port, registers=registers or SDM, **keys)


async def readings(*adapters: Modbus, count: int = 2) -> Notebook:
    """Run devices until each has given `count` readings."""
    notes = Notebook()
    devices = [notes.device(f"d{number}", adapter) for number, adapter in enumerate(adapters)]
    async with running(*devices):
        await notes.until(lambda: all(len(notes.of(device.name)) >= count for device in devices))
    return notes


async def failure(adapter: Modbus, **metrics: Any) -> str:
    """Run a device until it fails, and return why."""
    notes = Notebook()
    device = notes.device("d", adapter)
    async with running(device):
        async with asyncio.timeout(20):
            while device.reason is None:
                await asyncio.sleep(0)
        return device.reason


async def test_registers_over_tcp() -> None:
    """Values of several registers, at each interval; that it refuses what lies in between is no harm."""
    port = free_port()
    async with served(ModbusTcpServer(meter(), address=("127.0.0.1", port))):
        notes = await readings(modbus(f"tcp://127.0.0.1:{port}"))
    assert notes.of("d0")[0] == {"voltage": pytest.approx(230.2), "current": 1.5, "power": 345.25}


async def test_words_bits_and_signs() -> None:
    """What stands in one register or in one bit of it, in coils and in discrete inputs."""
    port = free_port()
    wanted = {
        "state": {"address": 0},
        "below": {"address": 2, "type": "i16", "scale": 0.1},
        "low": {"address": 1, "bit": 0},
        "middle": {"address": 1, "bit": 7},
        "relay": {"table": "coil", "address": 0},
        "door": {"table": "discrete", "address": 1},
    }
    async with served(ModbusTcpServer(meter(), address=("127.0.0.1", port))):
        notes = await readings(modbus(f"tcp://127.0.0.1:{port}", wanted))
    assert notes.of("d0")[0] == {
        "state": 1,
        "below": -0.1,
        "low": True,
        "middle": False,
        "relay": True,
        "door": False,
    }


@pytest.mark.parametrize("framing", ["rtu", "ascii"])
async def test_two_devices_on_one_serial_line(framing: Literal["rtu", "ascii"]) -> None:
    """They share the port by themselves, and each gets its own values."""
    async with cable() as (near, far):
        devices = [meter(1, 230.0), meter(7, 117.0)]
        server = ModbusSerialServer(devices, port=far, framer=FramerType(framing), baudrate=115200)
        async with served(server):
            keys: dict[str, Any] = {"framing": framing, "baudrate": 115200}
            notes = await readings(modbus(near, unit=1, **keys), modbus(near, unit=7, **keys), count=3)
    assert {values["voltage"] for values in notes.of("d0")} == {230.0}
    assert {values["voltage"] for values in notes.of("d1")} == {117.0}


async def test_a_dead_device_on_the_line_does_not_keep_the_others_from_reading() -> None:
    """It costs them its own deadline at each attempt, and no more; what is wrong with it is said."""
    async with cable() as (near, far):
        server = ModbusSerialServer(
            [meter(1), meter(9)],
            port=far,
            baudrate=115200,
            trace_packet=lambda sending, data: b"" if sending and data[:1] == b"\x09" else data,
        )
        async with served(server):
            notes = Notebook()
            dead = notes.device("dead", modbus(near, unit=9, baudrate=115200, timeout=0.1))
            well = notes.device("well", modbus(near, unit=1, baudrate=115200))
            async with running(dead, well):
                await notes.until(lambda: len(notes.of("well")) >= 5 and dead.failures >= 2)
    assert dead.reason is not None
    assert "device 9" in dead.reason
    assert "does not answer within 0.1 s: check its address, the wiring and the speed" in dead.reason
    assert well.failures == 0


async def test_devices_that_do_not_agree_how_to_speak_are_told_so() -> None:
    """Two speeds on one line cannot be."""
    async with cable() as (near, far), served(ModbusSerialServer([meter(1)], port=far, baudrate=115200)):
        notes = Notebook()
        first = notes.device("first", modbus(near, baudrate=115200))
        async with running(first):
            await notes.until(lambda: bool(notes.of("first")))
            reason = await failure(modbus(near, baudrate=9600))
    assert "open as rtu, 115200 8N1: all have to agree" in reason


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            bytes.fromhex("01 04 04 43 66 33 34 1b 39"),
            "wrong checksum, or not with all of it (01 04 04 43 66 33 34 1b 39)",
        ),
        (None, "what was sent comes back"),
    ],
    ids=["bad checksum", "echo"],
)
async def test_no_answer_is_told_from_a_bad_one(answer: bytes | None, words: str) -> None:
    """A wrong checksum shows what came, and an echo of our own is called that."""
    master, slave = os.openpty()
    loop = asyncio.get_running_loop()

    def talk() -> None:
        heard = os.read(master, 1024)
        os.write(master, heard if answer is None else answer)

    loop.add_reader(master, talk)
    try:
        reason = await failure(modbus(os.ttyname(slave), timeout=0.3))
    finally:
        loop.remove_reader(master)
        os.close(master)
        os.close(slave)
    assert words in reason


async def test_an_exception_is_said_in_words() -> None:
    """A device that has no such register says so, and so does the gateway, with the place."""
    port = free_port()
    async with served(ModbusTcpServer(meter(), address=("127.0.0.1", port))):
        reason = await failure(modbus(f"tcp://127.0.0.1:{port}", {"x": {"address": 4000}}))
    assert reason.endswith("holding 4000 to 4000: there is nothing at this address")


async def test_a_port_that_is_not_there_is_said() -> None:
    """Neither a serial port nor a host has to be there."""
    assert "not there" in await failure(modbus("/dev/no-such-port"))
    assert "nobody answers there" in await failure(modbus(f"tcp://127.0.0.1:{free_port()}"))


async def test_it_comes_back() -> None:
    """A server that was away is read again, on the connection that takes the place of the lost one."""
    port = free_port()
    notes = Notebook()
    device = notes.device("d", modbus(f"tcp://127.0.0.1:{port}", timeout=0.5), backoff=Backoff(0.05, 0.05))
    async with running(device):
        async with asyncio.timeout(20):
            while device.failures < 2:
                await asyncio.sleep(0)
        async with served(ModbusTcpServer(meter(), address=("127.0.0.1", port))):
            await notes.until(lambda: len(notes.readings) > 1)


# ---- registers


def test_the_published_frame_of_a_meter() -> None:
    """SDM120, answer 01 04 04 43 66 33 34 1b 38: 230.2 V."""
    register = Register(table="input", address=0, type="f32")
    assert register.decode([0x4366, 0x3334]) == pytest.approx(230.2)


@given(
    kind=st.sampled_from(["i16", "u16", "i32", "u32", "i64", "u64", "f32", "f64"]),
    word_order=st.sampled_from(["big", "little"]),
    byte_order=st.sampled_from(["big", "little"]),
    data=st.data(),
)
def test_every_type_in_every_order(kind: Any, word_order: Any, byte_order: Any, data: st.DataObject) -> None:
    """decode(encode(x)) == x."""
    letter = {"i16": "h", "u16": "H", "i32": "i", "u32": "I", "i64": "q", "u64": "Q", "f32": "f", "f64": "d"}[kind]
    width = 8 * struct.calcsize(">" + letter)
    if kind[0] == "f":
        value = data.draw(st.floats(width=width, allow_nan=False, allow_infinity=False))
    else:
        low = -(1 << width - 1) if kind[0] == "i" else 0
        value = data.draw(st.integers(low, low + (1 << width) - 1))
    packed = struct.pack(">" + letter, value)
    words = [int.from_bytes(packed[at : at + 2], byte_order) for at in range(0, len(packed), 2)]
    register = Register(address=0, type=kind, word_order=word_order, byte_order=byte_order)
    assert register.decode(words if word_order == "big" else words[::-1]) == value


@given(
    places=st.lists(
        st.tuples(st.sampled_from(["holding", "input", "coil"]), st.integers(0, 400), st.sampled_from(["u16", "f64"])),
        min_size=1,
        max_size=40,
    ),
    gap=st.integers(0, 40),
)
def test_a_plan_asks_for_everything_once_and_for_no_more_than_it_may(
    places: list[tuple[Any, int, Any]], gap: int
) -> None:
    """Each metric is in one request, whole; no request is longer than the protocol allows, or has a longer gap."""
    registers = {
        f"m{number}": Register(table=table, address=address, type=kind)
        for number, (table, address, kind) in enumerate(places)
    }
    found = plan(registers, max_gap=gap)
    assert sorted(name for request in found.requests for name in request.names) == sorted(registers)
    for request in found.requests:
        assert request.length <= LONGEST[request.table]
        covered = set()
        for name in request.names:
            register = registers[name]
            assert register.table == request.table
            span = set(range(register.address, register.address + register.count))
            assert span <= set(range(request.address, request.address + request.length))
            covered |= span
        missing = sorted(set(range(request.address, request.address + request.length)) - covered)
        longest = run = 0
        for at, address in enumerate(missing):
            run = run + 1 if at and address == missing[at - 1] + 1 else 1
            longest = max(longest, run)
        assert longest <= gap
        assert set(found.decode(request, [1] * request.length)) == set(request.names)


@pytest.mark.parametrize(
    "wrong",
    [
        {"address": 0, "bit": 3, "type": "i16"},
        {"address": 0, "words": 3},
        {"address": 65535, "type": "u32"},
        {"address": -1},
        {"table": "coil", "address": 0, "bit": 1},
        {"address": 0, "typ": "u16"},
    ],
)
def test_what_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    """A map with a mistake in it is an error in the config."""
    with pytest.raises(ValidationError):
        modbus("tcp://127.0.0.1:1", {"x": wrong})


MAPS = sorted((Path(__file__).resolve().parents[2] / "config" / "devices").glob("*.toml"))


@pytest.mark.parametrize("path", MAPS, ids=lambda path: path.stem)
def test_the_ready_made_maps_are_right(path: Path) -> None:
    """Each map that is shipped is a device, and one or two requests fetch what stands together in it."""
    (table,) = tomllib.loads(path.read_text())["devices"].values()
    table.pop("metrics", None)
    assert table.pop("adapter") == "modbus"
    table["interval"] = 10.0
    found = plan(Modbus(**table).registers, max_gap=8).requests
    assert len(found) <= 6
