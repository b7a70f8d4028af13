"""Modbus against pymodbus's own simulator, over TCP and over a serial line made of two pseudo-terminals."""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import ValidationError
from pymodbus import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer

from adapters.frames.registers import plan
from adapters.modbus import Modbus
from adapters.ports.modbus import silence
from adapters.serial.winsen_mhz19 import WinsenMhz19
from gateway.backoff import Backoff
from gateway.config import load
from gateway.devices.orders import Outcome
from tests.adapters.answering import Answering
from tests.adapters.frames.encoders import mhz19
from tests.adapters.modbus_lines import SDM, cable, failure, meter, modbus, ordered, readings, served
from tests.adapters.notebook import Notebook, running
from tests.adapters.slave import Slave, rtu
from tests.ports import free_port


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
        (rtu(1, bytes.fromhex("04 02 43 66")), "answers with what is no answer to what was asked (01 04 02 43 66 "),
    ],
    ids=["bad checksum", "echo", "another length"],
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


async def test_a_line_that_is_never_silent_is_called_that(tmp_path: Path) -> None:
    """Whatever speaks without being asked: nothing is said into the midst of it."""
    loop = asyncio.get_running_loop()
    with Answering(tmp_path / "tty", Slave()) as cable:

        def chatter() -> None:
            nonlocal timer
            cable.write(b"?")
            timer = loop.call_later(0.002, chatter)

        timer = loop.call_later(0, chatter)
        reason = await failure(modbus(cable.path, {"x": {"address": 3}}, baudrate=300, timeout=0.3))
        timer.cancel()
        assert b"".join(cable.asked).strip(b"?") == b""  # of which the terminal itself gives some back at first
    assert reason.endswith("could not be asked within 0.3 s: something on the line speaks all the time")


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


MAPS = sorted((Path(__file__).resolve().parents[2] / "config" / "devices").glob("*.toml"))


@pytest.mark.parametrize("path", MAPS, ids=lambda path: path.stem)
def test_the_ready_made_maps_are_right(path: Path, tmp_path: Path) -> None:
    """Each is part of a config that passes, also with what stands in it as a comment; few requests fetch it all."""
    text, file = path.read_text(), tmp_path / "gateway.toml"
    for given in (text, re.sub(r"^#(?=[a-z_]+ = |\[)", "", text, flags=re.MULTILINE)):
        file.write_text(f'[uplinks.cloud]\nbrokers = ["mqtt://a.example"]\n{given}')
        (device,) = load(file, environ={"HOME": str(tmp_path)}).devices.values()
        assert isinstance(device.adapter, Modbus)
        assert len(plan(device.adapter.registers, max_gap=8).requests) <= 6
