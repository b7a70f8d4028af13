"""A bus: devices that share one port by themselves, in turns, each with a deadline of its own."""

from __future__ import annotations

import asyncio
import os
import threading
import tomllib
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import pytest

from adapters.frames.lines import LineFramer
from adapters.ports.bus import NoAnswer, bus
from adapters.ports.port import Line
from adapters.ports.refused import PortMissing
from adapters.ports.serial import SerialPort
from adapters.serial.device import AskedDevice
from gateway import Device, DeviceError, Silent
from gateway.config.devices import duplicates
from gateway.config.files import gather
from gateway.config.models import Device as Configured
from tests.adapters.cable import Cable
from tests.adapters.notebook import WAIT, Notebook, running


def terminals() -> int:
    """Return how many descriptors of this process are ends of terminals that devices are on."""
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{fd}").startswith("/dev/pts/")
        except FileNotFoundError:
            continue
    return found


class Wire:
    """The far end of a bus: answers `a?` with what `answers` has for it, and notes what was asked."""

    def __init__(self, cable: Cable, answers: dict[bytes, bytes]) -> None:
        self.cable = cable
        self.answers = answers
        self.asked: list[bytes] = []
        self.heard = asyncio.Event()
        self._rest = b""

    def __enter__(self) -> Self:
        asyncio.get_running_loop().add_reader(self.cable.master, self._readable)
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()

    def cut(self) -> None:
        if self.cable.master >= 0:
            asyncio.get_running_loop().remove_reader(self.cable.master)

    def _readable(self) -> None:
        try:
            self._rest += os.read(self.cable.master, 4096)
        except OSError:  # nobody has the other end open, or what was there is gone with who had it
            return
        *questions, self._rest = self._rest.split(b"\n")
        for question in questions:
            self.asked.append(question)
            self.heard.set()
            if question in self.answers:
                self.cable.write(self.answers[question])


@pytest.fixture
def cable(tmp_path: Path) -> Iterator[Cable]:
    with Cable(tmp_path / "tty") as cable:
        yield cable


async def ask(turns: Any, question: bytes, timeout: float = WAIT) -> bytes:
    async with turns.turn(timeout) as turn:
        return await turn.ask(question + b"\n", LineFramer(100))


async def test_two_devices_share_one_port_by_themselves(cable: Cable) -> None:
    """Whoever means the same port, by whatever name, has it together: it is opened once, and closed by the last."""
    before = terminals()
    with Wire(cable, {b"a": b"1\n", b"b": b"2\n"}):
        async with bus(SerialPort(cable.path), "a") as one:
            async with bus(SerialPort(cable.terminal), "b") as two:
                assert one is two
                assert terminals() == before + 1
                assert await asyncio.gather(ask(one, b"a"), ask(two, b"b")) == [b"1", b"2"]
            assert await ask(one, b"a") == b"1"
        assert terminals() == before


async def test_a_dead_device_costs_the_others_no_more_than_its_own_deadline(cable: Cable) -> None:
    """The time of the next one runs from when its turn comes, and not from when it has asked for it."""
    order = []
    with Wire(cable, {b"alive": b"1\n"}):
        async with bus(SerialPort(cable.path), "dead") as line:

            async def dead() -> None:
                with pytest.raises(NoAnswer):
                    await ask(line, b"dead", 1.0)
                order.append("dead")

            async def alive() -> None:
                await ask(line, b"alive", 0.9)
                order.append("alive")

            await asyncio.gather(dead(), alive())
    assert order == ["dead", "alive"]


async def test_turns_come_in_the_order_in_which_they_are_asked_for(cable: Cable) -> None:
    """Nobody overtakes, also not whoever has just had its turn."""
    with Wire(cable, {b"%d" % n: b"x\n" for n in range(4)}) as wire:
        async with bus(SerialPort(cable.path), "d") as line:

            async def twice(n: int) -> None:
                await ask(line, b"%d" % n)
                await ask(line, b"%d" % n)

            await asyncio.gather(*(twice(n) for n in range(4)))
    assert wire.asked == [b"0", b"1", b"2", b"3"] * 2


async def test_other_settings_on_one_port_are_refused_with_both_names(cable: Cable) -> None:
    """One line has one speed; the one that was there first goes on."""
    with Wire(cable, {b"a": b"1\n"}):
        async with bus(SerialPort(cable.path, Line(baudrate=9600)), "boiler") as line:
            with pytest.raises(DeviceError) as told:
                async with bus(SerialPort(cable.path, Line(baudrate=19200)), "meter"):
                    pass
            assert str(told.value) == (
                f"cannot share {cable.path}: meter wants 19200 8N1, and boiler has 9600 8N1; "
                "devices on one port need the same settings"
            )
            assert await ask(line, b"a") == b"1"


async def test_what_differs_is_said_also_where_the_speed_is_the_same(cable: Cable) -> None:
    """DTR and the like are settings as well."""
    async with bus(SerialPort(cable.path), "boiler"):
        with pytest.raises(DeviceError, match=r"meter wants 9600 8N1, dtr down, and boiler has 9600 8N1;"):
            async with bus(SerialPort(cable.path, Line(dtr=False)), "meter"):
                pass


async def test_what_comes_between_turns_is_no_answer(cable: Cable) -> None:
    """The late answer of one device is not taken for the answer of the next, and does not wake anybody up."""
    with Wire(cable, {b"b": b"2\n"}) as wire:
        async with bus(SerialPort(cable.path), "a") as line:
            with pytest.raises(NoAnswer):
                await ask(line, b"a", 0.01)
            cable.write(b"1\n")
            await asyncio.sleep(0)
            assert await ask(line, b"b") == b"2"
    assert wire.asked == [b"a", b"b"]


async def test_an_unplugging_between_turns_closes_the_port_at_once(cable: Cable) -> None:
    """Or the kernel gives the device another name when it comes back. The next turn says so, and nobody is stuck."""
    before = terminals()
    with Wire(cable, {b"a": b"1\n"}) as wire:
        async with bus(SerialPort(cable.path), "a") as line:
            assert await ask(line, b"a") == b"1"
            wire.cut()
            cable.unplug()
            async with asyncio.timeout(WAIT):
                while terminals() > before:
                    await asyncio.sleep(0)
            with pytest.raises(DeviceError, match=r"^unplugged \("):
                await ask(line, b"a")
            with pytest.raises(PortMissing):
                async with bus(SerialPort(cable.path), "b"):
                    pass
            cable.plug()
            with pytest.raises(DeviceError, match=r"^unplugged \("):
                await ask(line, b"a")
            with Wire(cable, {b"a": b"3\n"}):
                async with bus(SerialPort(cable.path), "a") as again:
                    assert await ask(again, b"a") == b"3"
        assert terminals() == before


async def test_an_unplugging_in_a_turn_is_told_to_whoever_has_it(cable: Cable) -> None:
    """It is not a silence. Who waits for the next turn is told as well: its device has to be prepared again."""
    with Wire(cable, {}) as wire:
        async with bus(SerialPort(cable.path), "a") as line:
            asking = asyncio.create_task(ask(line, b"a"))
            next_one = asyncio.create_task(ask(line, b"b"))
            async with asyncio.timeout(WAIT):
                await wire.heard.wait()
            wire.cut()
            cable.unplug()
            cable.plug()
            for task in (asking, next_one):
                with pytest.raises(DeviceError, match=r"^unplugged \("):
                    await task


async def test_who_is_cancelled_gives_the_turn_to_the_next(cable: Cable) -> None:
    """In its turn or in the queue, a stop holds up nobody."""
    with Wire(cable, {b"c": b"3\n"}) as wire:
        async with bus(SerialPort(cable.path), "a") as line:
            tasks = [asyncio.create_task(ask(line, name)) for name in (b"a", b"b", b"c")]
            async with asyncio.timeout(WAIT):
                await wire.heard.wait()
            for task in tasks[:2]:
                task.cancel()
            assert await tasks[2] == b"3"
            assert [task.cancelled() for task in tasks[:2]] == [True, True]
    assert wire.asked == [b"a", b"c"]


class Hanging(SerialPort):
    """The driver blocks until the test lets it go on."""

    def __init__(self, path: str, gate: Any) -> None:
        super().__init__(path)
        self._gate = gate

    def _open(self) -> Any:
        self._gate.wait(WAIT)
        return super()._open()


async def test_who_leaves_while_the_port_opens_leaves_it_to_the_other(cable: Cable) -> None:
    """The second device waits for the opening by the first, and opens it itself when that one is stopped."""
    gate = threading.Event()

    async def use(name: str) -> bytes:
        async with bus(Hanging(cable.path, gate), name) as line:
            return await ask(line, b"a")

    before = terminals()
    with Wire(cable, {b"a": b"1\n"}):
        first, second = asyncio.create_task(use("a")), asyncio.create_task(use("b"))
        for _ in range(20):
            await asyncio.sleep(0)
        first.cancel()
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await first
        async with asyncio.timeout(WAIT):
            assert await second == b"1"
        async with asyncio.timeout(WAIT):
            while terminals() > before:
                await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (None, "nothing came (address, wiring, speed?)"),
        (b"q\n", "only its own question came back (echo: "),
        (b"\x00\xfe\x80", "3 bytes came that are none (parity, speed, noise?): 00 fe 80"),
        (bytes(40), "40 bytes came that are none (parity, speed, noise?): " + " ".join(["00"] * 16) + " ..."),
    ],
)
async def test_no_answer_is_told_apart(cable: Cable, reply: bytes | None, words: str) -> None:
    """Nothing, the own question, and bytes that are no answer have different causes."""

    class Never:
        def feed(self, chunk: bytes) -> list[bytes]:
            return []

    with Wire(cable, {} if reply is None else {b"q": reply}):
        async with bus(SerialPort(cable.path), "a") as line:
            with pytest.raises(NoAnswer) as told:
                async with line.turn(0.3) as turn:
                    await turn.ask(b"q\n", Never())
    assert isinstance(told.value, Silent)
    assert str(told.value).startswith("no answer within 0.3 s: ")
    assert words in str(told.value)


async def test_a_line_is_quiet_for_as_long_as_is_asked_for(cable: Cable) -> None:
    """What was written takes its time on the line, and each byte that comes late begins the silence anew."""
    loop = asyncio.get_running_loop()
    async with bus(SerialPort(cable.path, Line(baudrate=1200)), "a") as line:
        async with line.turn(WAIT) as turn:
            await turn.quiet(WAIT)  # nobody has spoken yet
            before = loop.time()
            await turn.write(b"12345678")  # 88 bits: 73 ms
        async with line.turn(WAIT) as turn:
            loop.call_later(0.08, cable.write, b"late")
            await turn.quiet(0.03)
        assert loop.time() - before >= 0.11


async def test_a_renewed_turn_has_its_whole_time_again(cable: Cable) -> None:
    """Questions that belong together are not torn apart, and each has the time that one has."""
    with Wire(cable, {b"a": b"1\n"}):
        async with bus(SerialPort(cable.path), "a") as line, line.turn(WAIT) as turn:
            first = turn.limit.when()
            assert first is not None
            await turn.ask(b"a\n", LineFramer(100))
            turn.renew()
            second = turn.limit.when()
            assert second is not None
            assert first < second <= asyncio.get_running_loop().time() + WAIT


async def test_a_timeout_of_the_adapter_itself_is_its_own(cable: Cable) -> None:
    """Only the turn's own deadline is a silence."""
    async with bus(SerialPort(cable.path), "a") as line:
        with pytest.raises(TimeoutError):
            async with line.turn(WAIT):
                raise TimeoutError


class Asked(AskedDevice):
    """Asks for its number, again and again."""

    question: str
    deadline: float = 1.0

    async def run(self, device: Device) -> None:
        """Ask until stopped."""
        async with self.bus(device) as line:
            device.online()
            while True:
                async with line.turn(self.deadline) as turn:
                    answer = await turn.ask(self.question.encode() + b"\n", LineFramer(100))
                await device.emit({"n": int(answer)})


async def test_devices_of_one_port_run_beside_each_other_and_a_dead_one(cable: Cable) -> None:
    """In the gateway: two live ones are read all the time, and the dead one is silent, with the reason."""
    notes, before = Notebook(), terminals()
    with Wire(cable, {b"a": b"1\n", b"b": b"2\n"}):
        live = [notes.device(name, Asked(port=cable.path, question=name)) for name in "ab"]
        dead = notes.device("dead", Asked(port=cable.path, question="dead", deadline=0.02))
        async with running(*live, dead):
            await notes.until(lambda: dead.failures >= 3 and all(len(notes.of(name)) >= 20 for name in "ab"))
            assert [device.state for device in live] == ["online", "online"]
            assert dead.reason is not None
            assert dead.reason.startswith("no answer within 0.02 s")
            assert [device.failures for device in live] == [0, 0]
        assert notes.of("a") == [{"n": 1}] * len(notes.of("a"))
    assert terminals() == before


async def test_all_devices_of_a_port_are_away_and_back_together(cable: Cable) -> None:
    """An unplug is told of each device, also of one that had no turn at that moment, and each begins anew."""
    notes, before = Notebook(), terminals()
    devices = [notes.device(name, Asked(port=cable.path, question=name)) for name in "ab"]
    async with running(*devices):
        for round_ in range(1, 6):
            with Wire(cable, {b"a": b"%d\n" % round_, b"b": b"%d\n" % round_}):
                await notes.until(lambda n=round_: all({"n": n} in notes.of(name) for name in "ab"))
            cable.unplug()
            await notes.until(lambda: all(device.state != "online" for device in devices))
            cable.plug()
    for name in "ab":
        assert [online for device, online in notes.states if device == name] == [True, False] * 5
    assert terminals() == before


async def test_many_join_and_leave_without_a_trace(cable: Cable) -> None:
    """The port is open while there is anybody, whoever that is."""
    before = terminals()
    async with AsyncExitStack() as stack:
        for n in range(5):
            await stack.enter_async_context(bus(SerialPort(cable.path), f"d{n}"))
        assert terminals() == before + 1
    assert terminals() == before


# ---- what the config says of two devices on one port


def said(tmp_path: Path, *tables: str) -> list[str]:
    """Return what is found wrong about devices whose tables these are."""
    file = tmp_path / "gateway.toml"
    file.write_text("\n".join(f"[devices.d{n}]\n{table}" for n, table in enumerate(tables)))
    devices = {
        name: Configured(name=name, kind="asked", adapter=Asked(question="x", **table))
        for name, table in tomllib.loads(file.read_text())["devices"].items()
    }
    return [finding.message.replace(str(file), "FILE") for finding in duplicates(devices, gather(file))]


def test_devices_that_are_asked_may_share_a_port(tmp_path: Path) -> None:
    """By any of its three names."""
    for where in ('port = "/dev/ttyUSB0"', 'usb = "1a86:7523"', 'usb_port = "1-1.2"'):
        assert said(tmp_path, where, where, where) == []


def test_devices_on_one_port_need_the_same_settings(tmp_path: Path) -> None:
    """The check names both devices, and each setting that differs, before anything is opened."""
    found = said(
        tmp_path,
        'port = "/dev/ttyUSB0"\nbaudrate = 4800',
        'port = "/dev/ttyUSB1"',
        'port = "/dev/ttyUSB0"\ndtr = false\nparity = "E"',
    )
    assert found == [
        'port: "/dev/ttyUSB0" is shared with [devices.d0] already, at FILE:2:8, and both need the same '
        'baudrate (9600 here, 4800 there), parity ("E" here, "N" there), dtr (false here, none there)'
    ]
