"""Modbus devices that are set by commands: what is written, what is answered, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pymodbus import FramerType
from pymodbus.pdu import ModbusPDU
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from gateway import Value
from gateway.devices import RunningDevice
from gateway.devices.orders import Outcome
from tests.adapters.answering import Answering
from tests.adapters.modbus_lines import cable, modbus, ordered, served
from tests.adapters.notebook import WAIT, Notebook, running
from tests.adapters.slave import Slave, rtu
from tests.ports import free_port

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
