"""Modbus against pymodbus's own simulator, over TCP and over a serial line made of two pseudo-terminals."""

from __future__ import annotations

import asyncio
import math
import os
import struct
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError
from pymodbus import FramerType
from pymodbus.pdu import ModbusPDU
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from adapters.frames.registers import LONGEST, Register, plan
from adapters.modbus import Modbus
from adapters.ports.modbus import silence
from adapters.serial.winsen_mhz19 import WinsenMhz19
from gateway import Value
from gateway.backoff import Backoff
from gateway.devices import RunningDevice
from gateway.devices.orders import Order, Outcome
from tests.adapters.answering import Answering
from tests.adapters.frames.encoders import mhz19
from tests.adapters.notebook import WAIT, Notebook, running
from tests.adapters.slave import Slave, rtu
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


async def ordered(device: RunningDevice, metric: str, value: Value) -> Outcome:
    """Return what became of a command."""
    answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    device.order(Order(metric, value, None, answer.set_result), 10)
    async with asyncio.timeout(WAIT):
        return await answer


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
    assert "d wants 9600 8N1, and first has 115200 8N1; devices on one port need the same settings" in reason


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
    port = free_port()
    assert await failure(modbus(f"tcp://127.0.0.1:{port}")) == f"cannot open tcp://127.0.0.1:{port}: Connection refused"
    assert "dead:beef" in await failure(Modbus(usb="dead:beef", registers=SDM))


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


# ---- one port for all


async def test_rtu_over_tcp(tmp_path: Path) -> None:
    """A serial server that passes bytes as they are is a line as any other; the framing has to be said."""
    port = free_port()
    async with served(ModbusTcpServer(meter(), framer=FramerType.RTU, address=("127.0.0.1", port))):
        notes = await readings(modbus(f"socket://127.0.0.1:{port}", framing="rtu"))
        with_tcp = await readings(modbus(f"tcp://127.0.0.1:{port}", framing="rtu"))
        reason = await failure(modbus(f"socket://127.0.0.1:{port}", timeout=0.1))
    assert notes.of("d0")[0]["power"] == with_tcp.of("d0")[0]["power"] == 345.25
    assert reason.endswith("check its address, and whether what is behind the port speaks Modbus TCP")


async def test_devices_behind_one_address_share_one_connection() -> None:
    """Many a Modbus server takes no second one; answers are told apart by their numbers."""
    port, connections = free_port(), []
    devices = [meter(1, 230.0), meter(2, 117.0)]
    server = ModbusTcpServer(devices, address=("127.0.0.1", port), trace_connect=connections.append)
    async with served(server):
        address = f"tcp://127.0.0.1:{port}"
        notes = await readings(modbus(address, unit=1), modbus(address, unit=2), count=3)
    assert connections.count(True) == 1
    assert {values["voltage"] for values in notes.of("d0")} == {230.0}
    assert {values["voltage"] for values in notes.of("d1")} == {117.0}


async def test_a_line_is_shared_with_a_device_of_another_kind(tmp_path: Path) -> None:
    """What is asked takes turns, whatever it speaks, and nobody gets the answer of another."""
    slave, notes = Slave(), Notebook()
    slave.words[3] = 77
    with Answering(tmp_path / "tty", lambda asked: mhz19(636, 20) if asked[0] == 0xFF else slave(asked)) as cable:
        meter = notes.device("meter", modbus(cable.path, {"x": {"address": 3}}))
        air = notes.device("air", WinsenMhz19(port=cable.path, interval="10ms"))
        async with running(meter, air):
            await notes.until(lambda: min(len(notes.of(name)) for name in ("meter", "air")) >= 5)
    assert [meter.failures, air.failures] == [0, 0]
    assert notes.of("meter")[:5] == [{"x": 77}] * 5
    assert notes.of("air")[:5] == [{"co2": 636, "temperature": 20}] * 5


async def test_it_is_away_while_it_is_unplugged(tmp_path: Path) -> None:
    """An unplugging is said at once and by its name, and it comes back with the cable."""
    notes = Notebook()
    with Answering(tmp_path / "tty", Slave()) as cable:
        device = notes.device("d", modbus(cable.path, {"x": {"address": 3}}))
        async with running(device):
            for _ in range(3):
                known = len(notes.readings)
                await notes.until(lambda known=known: len(notes.readings) > known)
                cable.unplug()
                await notes.until(lambda: device.state == "absent")
                cable.plug()
            await notes.until(lambda: device.state == "online")
    assert [online for _, online in notes.states] == [True, False] * 4


async def test_an_adapter_that_hears_itself(tmp_path: Path) -> None:
    """With local_echo its echo is no answer, also of a write, whose answer is the same; a silence is called that."""
    slave, notes = Slave(), Notebook()
    registers = {"x": {"address": 3}, "y": {"address": 100}}
    with Answering(tmp_path / "tty", lambda asked: asked + slave(asked)) as cable:
        device = notes.device("d", modbus(cable.path, registers, local_echo=True))
        async with running(device):
            await notes.until(lambda: len(notes.readings) >= 2)
            assert await ordered(device, "x", 8) == Outcome("done", read_back=8)
            slave.refuses[6] = 3
            assert (await ordered(device, "x", 9)).result == "refused"
        assert device.failures == 0
        slave.unit = 2
        reason = await failure(modbus(cable.path, registers, local_echo=True, timeout=0.05))
    assert reason.endswith("does not answer within 0.05 s: check its address, the wiring and the speed")


async def test_a_disturbed_answer_costs_no_reading(tmp_path: Path) -> None:
    """It is asked again, and the device stays online."""
    slave, notes, disturbed = Slave(), Notebook(), [b"", b"\x01\x03\x02\xff"]
    with Answering(tmp_path / "tty", lambda asked: disturbed.pop() if disturbed else slave(asked)) as cable:
        device = notes.device("d", modbus(cable.path, {"x": {"address": 3}}, timeout=0.5))
        async with running(device):
            await notes.until(lambda: len(notes.readings) >= 2)
    assert device.failures == 0


async def test_a_late_answer_is_not_taken_for_that_to_the_next_question(tmp_path: Path) -> None:
    """Answers of RTU have no number: after a silence, what may still come is over before something else is asked."""
    slave, notes, loop, asked = Slave(), Notebook(), asyncio.get_running_loop(), []
    slave.words |= {3: 1, 100: 2}

    def answer(question: bytes) -> bytes:
        """Answer the first question at last after its repetition was, and each about the second register slowly."""
        asked.append(question)
        if len(asked) == 1:
            return b""
        if len(asked) == 2:
            loop.call_later(0.1, cable.write, slave(question))
        if question[3] == 100:
            loop.call_later(0.2, cable.write, slave(question))
            return b""
        return slave(question)

    with Answering(tmp_path / "tty", answer) as cable:
        device = notes.device("d", modbus(cable.path, {"x": {"address": 3}, "y": {"address": 100}}, timeout=0.5))
        async with running(device):
            await notes.until(lambda: len(notes.readings) >= 2)
    assert notes.of("d")[:2] == [{"x": 1, "y": 2}] * 2
    assert device.failures == 0


async def test_a_late_answer_over_tcp_is_told_by_its_number() -> None:
    """It comes together with the right one, and says something else."""
    notes, numbers = Notebook(), []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            while question := await reader.readexactly(12):
                numbers.append(question[:2])
                if len(numbers) > 1:
                    for number, value in ((numbers[0], 1), (numbers[-1], 2)):
                        writer.write(number + bytes([0, 0, 0, 5, 1, 3, 2, 0, value]))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        device = notes.device("d", modbus(f"tcp://127.0.0.1:{port}", {"x": {"address": 3}}, timeout=0.3))
        async with running(device):
            await notes.until(lambda: len(notes.readings) >= 2)
    assert notes.of("d")[:2] == [{"x": 2}] * 2
    assert len(set(numbers)) == len(numbers)


async def test_a_device_that_hangs_up_between_questions_is_not_away() -> None:
    """Many do so after a while, some after each answer, and are called again. Amid a question it is a failure."""
    notes, calls, answering = Notebook(), 0, True

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        with suppress(asyncio.IncompleteReadError):
            question = await reader.readexactly(12)
            if answering:
                writer.write(question[:2] + bytes([0, 0, 0, 5, 1, 3, 2, 0, calls]))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        device = notes.device("d", modbus(f"tcp://127.0.0.1:{port}", {"x": {"address": 3}, "y": {"address": 100}}))
        async with running(device):
            await notes.until(lambda: len(notes.readings) >= 3)
            assert (device.failures, device.state) == (0, "online")
            answering = False
            await notes.until(lambda: device.state == "absent")
            assert device.reason == f"the device hung up (tcp://127.0.0.1:{port})"
    assert notes.of("d")[:3] == [{"x": 1, "y": 2}, {"x": 3, "y": 4}, {"x": 5, "y": 6}]


async def test_the_line_is_silent_between_two_frames(tmp_path: Path) -> None:
    """3.5 characters of 11 bits, by which devices find the beginning of a frame; 1.75 ms at the highest speeds."""
    slave, notes, loop, times = Slave(), Notebook(), asyncio.get_running_loop(), []

    def answer(question: bytes) -> bytes:
        times.append(loop.time())
        return slave(question)

    with Answering(tmp_path / "tty", answer) as cable:
        adapter = modbus(cable.path, {"x": {"address": 3}, "y": {"address": 100}}, baudrate=600)
        async with running(notes.device("d", adapter)):
            await notes.until(lambda: len(notes.readings) >= 2)
    assert min(later - earlier for earlier, later in pairwise(times)) >= 3.5 * 11 / 600
    assert silence(9600) == pytest.approx(0.00401, abs=1e-5)
    assert silence(115200) == 0.00175


# ---- commands

SETTABLE = {
    "level": {"address": 0, "type": "i16", "scale": 0.1, "offset": -40.0},
    "flag": {"address": 1, "bit": 3},
    "power": {"address": 10, "type": "f32", "word_order": "little"},
    "one": {"address": 14, "write": "multiple"},
    "name": {"address": 20, "type": "text", "words": 3},
    "relay": {"table": "coil", "address": 5},
    "lamp": {"table": "coil", "address": 6, "write": "multiple"},
}


def controller(unit: int = 1) -> SimDevice:
    """Return a device that can be set, except for its register 30."""
    words = SimData(0, values=[0x8001] * 30, datatype=DataType.REGISTERS)
    fixed = SimData(30, values=[7], datatype=DataType.REGISTERS, readonly=True)
    bits = SimData(0, values=[False] * 16, datatype=DataType.BITS)
    return SimDevice(unit, simdata=([bits], [bits], [words, fixed], [words]))


@asynccontextmanager
async def controlled(framing: str, **keys: Any) -> AsyncIterator[tuple[RunningDevice, Notebook, list[ModbusPDU]]]:
    """Give a running device over one of the framings, its readings, and what it was asked."""
    asked: list[ModbusPDU] = []

    def note(sending: bool, pdu: ModbusPDU) -> ModbusPDU:
        if not sending:
            asked.append(pdu)
        return pdu

    async with cable() as (near, far):
        if framing == "tcp":
            number = free_port()
            server: Any = ModbusTcpServer(controller(), address=("127.0.0.1", number), trace_pdu=note)
            near = f"tcp://127.0.0.1:{number}"
        else:
            server = ModbusSerialServer(controller(), port=far, framer=FramerType(framing), trace_pdu=note)
            keys |= {"framing": framing, "baudrate": 19200}
        async with served(server):
            notes = Notebook()
            device = notes.device("d", modbus(near, **{"registers": SETTABLE, **keys}))
            async with running(device):
                await notes.until(lambda: bool(notes.readings))
                yield device, notes, asked


@pytest.mark.parametrize("framing", ["tcp", "rtu", "ascii"])
async def test_it_is_set_and_says_what_it_then_is(framing: str) -> None:
    """Each type by its own function, between two polls that are an hour apart; what is read back is a reading."""
    async with controlled(framing, interval=3600.0) as (device, notes, asked):
        for metric, value, function in (
            ("level", 21.5, 6),
            ("flag", True, 6),
            ("power", 1.5, 16),
            ("one", 9, 16),
            ("name", "boiler", 16),
            ("relay", True, 5),
            ("relay", "off", 5),
            ("lamp", True, 15),
        ):
            asked.clear()
            expected = value if value != "off" else False
            assert await ordered(device, metric, value) == Outcome("done", read_back=expected), metric
            assert [pdu.function_code for pdu in asked if pdu.function_code > 4] == [function], metric
            await notes.until(lambda wanted={metric: expected}: notes.readings[-1][1] == wanted)
        assert device.failures == 0


async def test_a_bit_leaves_the_others_of_its_register_alone() -> None:
    """It is read, changed and written in one turn."""
    registers = {**SETTABLE, "word": {"address": 1}}
    async with controlled("tcp", registers=registers) as (device, notes, _):
        for value, word in ((True, 0x8009), (False, 0x8001)):
            assert await ordered(device, "flag", value) == Outcome("done", read_back=value)
            await notes.until(lambda wanted=word: notes.readings[-1][1].get("word") == wanted)


async def test_each_question_of_a_setting_has_the_whole_timeout(tmp_path: Path) -> None:
    """A bit takes three of them in one turn, and a device that is slow is not dead."""
    slave, notes, loop = Slave(), Notebook(), asyncio.get_running_loop()

    def answer(question: bytes) -> bytes:
        loop.call_later(0.4, cable.write, slave(question))
        return b""

    with Answering(tmp_path / "tty", answer) as cable:
        device = notes.device("d", modbus(cable.path, {"x": {"address": 3, "bit": 1}}, timeout=1.0, interval=3600.0))
        async with running(device):
            await notes.until(lambda: bool(notes.readings))
            assert await ordered(device, "x", True) == Outcome("done", read_back=True)


@pytest.mark.parametrize(
    ("metric", "value", "reason"),
    [
        ("level", 5000, "i16 goes from -3316.8 to 3236.7"),
        ("level", 21.75, "the device has steps of 0.1"),
        ("level", "warm", "not a number"),
        ("flag", 2, "a bit is set to true or false, on or off, 1 or 0"),
        ("power", 1e300, "too large for f32"),
        ("name", "too long for it", "text longer than the 6 characters that there is room for"),
        ("name", "\u20ac", "text with characters that are not in Latin-1"),
    ],
)
async def test_what_does_not_fit_is_refused_unasked(metric: str, value: Value, reason: str) -> None:
    """Nothing is rounded or cut off in silence, and the device is not troubled."""
    async with controlled("tcp", interval=3600.0) as (device, _, asked):
        asked.clear()
        assert await ordered(device, metric, value) == Outcome("refused", reason)
        assert asked == []
        assert device.failures == 0


async def test_what_the_device_refuses_is_refused_with_its_words() -> None:
    """An exception is an answer: nothing was done, the device is online, and the next command is carried out."""
    registers = {**SETTABLE, "fixed": {"address": 30}}
    async with controlled("tcp", registers=registers) as (device, _, __):
        refused = await ordered(device, "fixed", 8)
        assert refused.result == "refused"
        assert refused.reason is not None
        assert refused.reason.endswith("writing holding 30 to 30: there is nothing at this address")
        assert await ordered(device, "one", 8) == Outcome("done", read_back=8)
        assert device.failures == 0


@pytest.mark.parametrize(("code", "result"), [(3, "refused"), (4, "failed"), (6, "refused"), (11, "failed")])
async def test_an_exception_in_the_midst_of_it_is_no_refusal(tmp_path: Path, code: int, result: str) -> None:
    """A device that failed while it did it may have done it; one that is busy has not."""
    slave, notes = Slave(), Notebook()
    slave.refuses[6] = code
    with Answering(tmp_path / "tty", slave) as cable:
        device = notes.device("d", modbus(cable.path, {"x": {"address": 3}}))
        async with running(device):
            await notes.until(lambda: bool(notes.readings))
            assert (await ordered(device, "x", 8)).result == result
        assert device.failures == 0


async def test_a_write_without_an_answer_is_a_failure_of_the_device(tmp_path: Path) -> None:
    """Nobody knows whether it was carried out, it is not tried again, and the device is silent for a while."""
    slave, notes = Slave(), Notebook()
    slave.ignores.add(6)
    with Answering(tmp_path / "tty", slave) as cable:
        device = notes.device("d", modbus(cable.path, {"x": {"address": 3}}, timeout=0.3))
        async with running(device):
            await notes.until(lambda: bool(notes.readings))
            failed = await ordered(device, "x", 8)
            assert failed.result == "failed"
            assert failed.reason is not None
            assert "does not answer within 0.3 s" in failed.reason
            assert failed.reason.endswith("nobody knows whether it was carried out")
            await notes.until(lambda: [online for _, online in notes.states] == [True, False, True])
    assert slave.functions.count(6) == 1


async def test_what_cannot_be_read_back_is_done_all_the_same(tmp_path: Path) -> None:
    """The device has said that it did it; that it does not say what it is now changes nothing."""
    slave, notes = Slave(), Notebook()
    with Answering(tmp_path / "tty", slave) as cable:
        device = notes.device("d", modbus(cable.path, {"x": {"address": 3}}, interval=3600.0))
        async with running(device):
            await notes.until(lambda: bool(notes.readings))
            slave.refuses[3] = 2
            assert await ordered(device, "x", 8) == Outcome("done")
    assert slave.words[3] == 8


async def test_a_command_is_carried_out_beside_a_dead_device(tmp_path: Path) -> None:
    """Its turn comes when the dead one's deadline is over, and not later."""
    slave, notes = Slave(), Notebook()
    with Answering(tmp_path / "tty", slave) as cable:
        dead = notes.device("dead", modbus(cable.path, {"x": {"address": 3}}, unit=9, timeout=0.1))
        well = notes.device("well", modbus(cable.path, {"x": {"address": 3}}, interval=3600.0))
        async with running(dead, well):
            await notes.until(lambda: bool(notes.of("well")))
            async with asyncio.timeout(WAIT):
                while not dead.failures:
                    await asyncio.sleep(0)
            for value in range(5):
                assert await ordered(well, "x", value) == Outcome("done", read_back=value)
    assert well.failures == 0


def test_what_can_be_set() -> None:
    """Coils and holding registers; nothing else can be written, and nothing else is there."""
    registers = {
        "h": {"address": 0},
        "c": {"table": "coil", "address": 0},
        "i": {"table": "input", "address": 0},
        "d": {"table": "discrete", "address": 0},
    }
    adapter = modbus("/dev/ttyUSB0", registers)
    assert [adapter.can_set(metric) for metric in ("h", "c", "i", "d", "x")] == [True, True, False, False, False]


@pytest.mark.parametrize(
    ("keys", "framing"),
    [
        ({"port": "tcp://192.0.2.1"}, "tcp"),
        ({"port": "tcp://192.0.2.1:1502"}, "tcp"),
        ({"port": "tcp://[2001:db8::1]"}, "tcp"),
        ({"port": "socket://192.0.2.1:502"}, "tcp"),
        ({"port": "socket://192.0.2.1:4001", "framing": "rtu"}, "rtu"),
        ({"port": "rfc2217://192.0.2.1:4001"}, "rtu"),
        ({"port": "/dev/ttyUSB0"}, "rtu"),
        ({"usb": "1a86:7523"}, "rtu"),
        ({"usb_port": "1-1.2", "framing": "ascii"}, "ascii"),
    ],
)
def test_the_framing_is_that_of_the_port(keys: dict[str, Any], framing: str) -> None:
    """A connection has frames of TCP if nothing else is said, and a line those of RTU."""
    adapter = Modbus(registers=SDM, **keys)
    assert adapter.kind == framing
    if "tcp://" in str(keys.get("port")):
        assert adapter.serial_port().path in ("tcp://192.0.2.1:502", "tcp://192.0.2.1:1502", "tcp://[2001:db8::1]:502")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"port": "tcp://"}, 'must name a host and a port from 1 to 65535, as "tcp://192'),
        ({"port": "tcp://192.0.2.1:0"}, "must name a host and a port"),
        ({"port": "tcp://192.0.2.1:502/x"}, 'must be only "tcp://HOST:PORT"'),
        ({"port": "udp://192.0.2.1"}, "must be a path"),
        ({"port": "/dev/ttyUSB0", "framing": "tcp"}, "goes with a port such as"),
        ({"usb": "1a86:7523", "framing": "tcp"}, "goes with a port such as"),
        ({"port": "rfc2217://192.0.2.1:4001", "framing": "tcp"}, "goes with a port such as"),
        ({"port": "/dev/ttyUSB0", "usb": "1a86:7523"}, "leave one of them out"),
        ({}, "is missing"),
    ],
)
def test_a_port_that_cannot_be_is_refused(keys: dict[str, Any], words: str) -> None:
    """A mistake is found when the config is read."""
    with pytest.raises(ValidationError, match=words):
        Modbus(registers=SDM, **keys)


@pytest.mark.parametrize(
    ("metric", "value", "written"),
    [
        ("coil", True, "01 05 00 ac ff 00 4c 1b"),
        ("single", 3, "01 06 00 01 00 03 98 0b"),
        ("multiple", 0x000A0102, "01 10 00 01 00 02 04 00 0a 01 02 92 30"),
    ],
)
async def test_what_is_written_is_what_the_specification_has(
    tmp_path: Path, metric: str, value: Value, written: str
) -> None:
    """Its own examples: coil 173, registers 2 and 3."""
    slave, notes = Slave(), Notebook()
    registers = {
        "coil": {"table": "coil", "address": 172},
        "single": {"address": 1},
        "multiple": {"address": 1, "type": "u32"},
    }
    with Answering(tmp_path / "tty", slave) as cable:
        device = notes.device("d", modbus(cable.path, registers, interval=3600.0))
        async with running(device):
            await notes.until(lambda: bool(notes.readings))
            assert await ordered(device, metric, value) == Outcome("done", read_back=value)
    assert bytes.fromhex(written) in cable.asked


def test_the_made_up_device_is_right() -> None:
    """The questions of the data sheets of SenseAir and Peacefair are frames."""
    assert rtu(0xFE, bytes.fromhex("04 0003 0001")) == bytes.fromhex("fe 04 00 03 00 01 d5 c5")
    assert rtu(0xF8, bytes.fromhex("04 0000 000a")) == bytes.fromhex("f8 04 00 00 00 0a 64 64")


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
    kind=st.sampled_from(["i16", "u16", "i32", "u32", "f64"]),
    word_order=st.sampled_from(["big", "little"]),
    byte_order=st.sampled_from(["big", "little"]),
    scale=st.sampled_from([1.0, 0.1, 0.01, 0.001, -0.1, 0.5, 2.0, 10.0, 1 / 3, 1e-6]),
    offset=st.sampled_from([0.0, -40.0, 0.05, 273.15]),
    data=st.data(),
)
def test_what_a_register_says_can_be_written(
    kind: Any, word_order: Any, byte_order: Any, scale: float, offset: float, data: st.DataObject
) -> None:
    """encode(decode(words)) == words: the scale is inverted exactly."""
    register = Register(address=0, type=kind, word_order=word_order, byte_order=byte_order, scale=scale, offset=offset)
    words = data.draw(st.lists(st.integers(0, 0xFFFF), min_size=register.count, max_size=register.count))
    value = register.decode(words)
    if kind == "f64":
        assume(math.isfinite(value) and 1e-200 < abs(value) < 1e200)
        assert register.decode(register.encode(value)) == pytest.approx(value, rel=1e-12)
    else:
        assert register.encode(value) == words


@given(word=st.integers(0, 0xFFFF), bit=st.integers(0, 15), level=st.booleans())
def test_a_bit_is_set_in_what_the_register_has(word: int, bit: int, level: bool) -> None:
    """The bit is as it should be, and all others are as they were."""
    register = Register(address=0, bit=bit)
    (written,) = register.encode(level, word)
    assert register.decode([written]) is level
    assert written ^ word in (0, 1 << bit)


@given(
    kind=st.sampled_from(["i16", "u64", "f32", "f64", "text"]),
    scale=st.sampled_from([0.0, 1.0, 0.1, 1e-300, 1e300]),
    value=st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(), st.text(), st.booleans()),
)
def test_what_cannot_be_written_is_a_value_error(kind: Any, scale: float, value: Any) -> None:
    """Whatever somebody wants to set: it fits, or is refused in words."""
    register = Register(address=0, type=kind, words=4 if kind == "text" else 1, scale=scale)
    try:
        words = register.encode(value)
    except ValueError as error:
        said = str(error)
        assert 0 < len(said) < 100
    else:
        assert len(words) == register.count
        assert all(0 <= word <= 0xFFFF for word in words)


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
        {"address": 0, "table": "input", "write": "single"},
        {"address": 0, "type": "u32", "write": "single"},
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
