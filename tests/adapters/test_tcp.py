"""Lines and frames over TCP and UDP, from devices that behave and from those that do not."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from adapters.lines.tcp import Tcp
from adapters.lines.udp import Udp
from adapters.ports.address import endpoint
from gateway import Adapter
from gateway.devices import RunningDevice
from gateway.testing import AdapterConformance, Case, StandIn
from tests.adapters.frames import encoders
from tests.adapters.notebook import WAIT, Notebook, running
from tests.adapters.test_cases import CASES
from tests.ports import free_port

PMS = Case(CASES / "serial-binary" / "pms5003").keys
FRAME = encoders.EXAMPLES["plantower"]


class Caller:
    """A device that connects to this machine and writes lines."""

    can_be_lost = False

    def __init__(self) -> None:
        self._to = ("127.0.0.1", free_port())
        self.keys = {"listen": f"127.0.0.1:{self._to[1]}"}

    def plug(self) -> None:
        """Do nothing."""

    def speak(self) -> None:
        """Connect, say something and hang up."""
        with socket.socket() as connection:
            if connection.connect_ex(self._to) == 0:
                connection.send(b'{"n": 1}\n')

    def lose(self) -> None:
        """Do nothing: nobody is missed."""


class TestListening(AdapterConformance):
    """`tcp` with listen, as every adapter: `tests/adapters/test_conformance.py` has the other way."""

    adapter: ClassVar[str | type[Adapter]] = "tcp"

    def stand_in(self, folder: Path) -> StandIn:
        return Caller()


class Bench:
    """A device that listens, and those that connect to it."""

    def __init__(self, **keys: Any) -> None:
        self.port = free_port()
        self.notes = Notebook()
        self.device: RunningDevice = self.notes.device("d", Tcp(listen=f"127.0.0.1:{self.port}", **keys))

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect."""
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def online(self) -> None:
        """Wait for the device."""
        await self.notes.until(lambda: self.device.state == "online")

    async def skipped(self, reason: str, count: int = 1) -> None:
        """Wait until this was thrown away so often."""
        async with asyncio.timeout(WAIT):
            while self.device.skipped.get(reason, 0) < count:
                await asyncio.sleep(0)


async def gone(reader: asyncio.StreamReader) -> None:
    """Wait until the other side has hung up."""
    async with asyncio.timeout(WAIT):
        try:
            assert await reader.read() == b""
        except ConnectionError:
            return


async def test_many_devices_at_once() -> None:
    """Their lines do not mix, however they are cut, and the last one needs no end."""
    bench = Bench()
    async with running(bench.device):
        await bench.online()
        (_, one), (_, other) = [await bench.open() for _ in range(2)]
        one.write(b'{"n"')
        await one.drain()
        other.write(b'{"n": 2}\n{"n": 3')
        await bench.notes.until(lambda: len(bench.notes.readings) == 1)
        one.write(b": 1}\n")
        await bench.notes.until(lambda: len(bench.notes.readings) == 2)
        other.write(b"}")
        other.close()
        await bench.notes.until(lambda: len(bench.notes.readings) == 3)
        one.close()
    assert [values["n"] for values in bench.notes.of("d")] == [2, 1, 3]
    assert bench.device.skipped == {}


async def test_half_a_line_of_a_connection_that_broke_is_no_reading() -> None:
    """A number may have lost its end with it."""
    bench = Bench(format="key-value")
    async with running(bench.device):
        await bench.online()
        _, writer = await bench.open()
        writer.write(b"t=20\nt=21")
        await bench.notes.until(lambda: len(bench.notes.readings) == 1)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()  # RST
        _, again = await bench.open()
        again.write(b"t=22\n")
        await bench.notes.until(lambda: len(bench.notes.readings) == 2)
        again.close()
    assert [values["t"] for values in bench.notes.of("d")] == [20, 22]


async def test_a_thousand_connections_are_no_more_than_may_be() -> None:
    """Those beyond the limit are closed at once and counted; those that were there go on."""
    bench = Bench(max_connections=3)
    async with running(bench.device):
        await bench.online()
        kept = [await bench.open() for _ in range(3)]
        kept[0][1].write(b'{"n": 0}\n')
        await bench.notes.until(lambda: len(bench.notes.readings) == 1)
        with ExitStack() as stack:
            for _ in range(1000):
                late = stack.enter_context(socket.socket())
                late.setblocking(False)
                late.connect_ex(("127.0.0.1", bench.port))
                await asyncio.sleep(0)
            await bench.skipped("more than 3 connections at once", 800)
            kept[2][1].write(b'{"n": 1}\n')
            await bench.notes.until(lambda: len(bench.notes.readings) == 2)
        for _, writer in kept:
            writer.close()


async def test_a_connection_that_brings_nothing_is_closed() -> None:
    """Who connects and stays silent does not keep a place; who speaks keeps his."""
    bench = Bench(silent_after=0.2)
    async with running(bench.device):
        await bench.online()
        reader, writer = await bench.open()
        writer.write(b'{"n": 1}\n{"n"')  # a line without an end is no reason to wait for ever
        await gone(reader)
        writer.close()
        assert bench.device.state == "online"
    assert len(bench.notes.readings) == 1


async def test_a_line_without_an_end_takes_no_memory() -> None:
    """Megabytes without a line end are thrown away as they come, and the next line is read."""
    bench = Bench(max_line=100)
    async with running(bench.device):
        await bench.online()
        _, writer = await bench.open()
        for _ in range(64):
            writer.write(b"x" * 65536)
            await writer.drain()
        writer.write(b'\n{"n": 1}\n')
        await bench.notes.until(lambda: len(bench.notes.readings) == 1)
        writer.close()
    assert bench.device.skipped == {"line longer than 100 bytes": 1}


async def test_a_device_that_floods_is_slowed_down() -> None:
    """When the gateway is behind, nothing more is read from the connection until there is room."""
    room = asyncio.get_running_loop().create_future()
    taken = 0

    def put(*_: Any) -> asyncio.Future[None] | None:
        nonlocal taken
        taken += 1
        return None if room.done() else room

    bench = Bench()
    bench.device._put = put
    async with running(bench.device):
        await bench.online()
        _, writer = await bench.open()
        sent = 0
        async with asyncio.timeout(WAIT):
            while writer.transport.get_write_buffer_size() < 1 << 16:  # until the socket takes no more
                writer.write(b'{"n": 1}\n' * 10_000)
                sent += 10_000
                await asyncio.sleep(0)
            before = taken
            for _ in range(100):  # in which there is always something to read
                await asyncio.sleep(0)
            assert taken == before
            room.set_result(None)
            while taken < sent:
                await asyncio.sleep(0)
        writer.close()
    assert before > 0


async def test_frames_instead_of_lines() -> None:
    """Over TCP they may be cut anywhere; the shape is described as for serial-binary."""
    bench = Bench(frame=PMS)
    async with running(bench.device):
        await bench.online()
        _, writer = await bench.open()
        for byte in b"\0" + FRAME + FRAME[:7]:
            writer.write(bytes([byte]))
            await writer.drain()
        await bench.notes.until(lambda: len(bench.notes.readings) == 1)
        writer.close()
        await bench.skipped("half a frame at the end")
    assert bench.notes.of("d")[0]["pm2_5"] == 4
    assert bench.device.skipped == {"bytes between frames": 1, "half a frame at the end": 1}


async def test_frames_in_datagrams() -> None:
    """Half a frame in one datagram is not completed by the next."""
    port, notes = free_port(), Notebook()
    device = notes.device("d", Udp(listen=f"127.0.0.1:{port}", frame=PMS))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        async with running(device):
            await notes.until(lambda: device.state == "online")
            for data in (FRAME[:10], FRAME[10:], FRAME + FRAME, b"", FRAME):
                sender.sendto(data, ("127.0.0.1", port))
            await notes.until(lambda: len(notes.readings) == 3)
    assert device.skipped == {"half a frame at the end": 1, "bytes between frames": 1}


async def test_a_device_that_is_connected_to_hangs_up_and_falls_silent() -> None:
    """Either is an absence with its reason, and the connection is made again."""
    notes, port, said = Notebook(), free_port(), []
    device = notes.device("d", Tcp(connect=f"localhost:{port}", silent_after=0.2))

    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said.append(writer)
        writer.write(b'{"n": 1}\n')
        if len(said) == 1:
            writer.close()

    async with running(device), asyncio.timeout(WAIT):
        while "Connection refused" not in (device.reason or ""):
            await asyncio.sleep(0)
        async with await asyncio.start_server(speak, "127.0.0.1", port):
            reasons: set[str | None] = set()
            while len(said) < 3:
                reasons.add(device.reason)
                await asyncio.sleep(0)
            for writer in said:
                writer.close()
    assert {f"the device hung up (socket://localhost:{port})", f"nothing from socket://localhost:{port} for 0.2 s"} <= {
        reason for reason in reasons if reason
    }


async def test_an_address_that_is_taken_is_said() -> None:
    """Two listeners on one port are told so."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        notes = Notebook()
        device = notes.device("d", Tcp(listen=f"127.0.0.1:{other.getsockname()[1]}"))
        async with running(device), asyncio.timeout(WAIT):
            while device.reason is None:
                await asyncio.sleep(0)
    assert "cannot listen at 127.0.0.1" in device.reason


async def test_a_bug_in_what_takes_the_bytes_is_not_hidden() -> None:
    """It fails the device, as it does where the gateway itself reads."""
    bench = Bench()

    def put(*_: Any) -> None:
        raise KeyError("a bug")

    bench.device._put = put
    async with running(bench.device):
        await bench.online()
        _, writer = await bench.open()
        writer.write(b'{"n": 1}\n')
        async with asyncio.timeout(WAIT):
            while bench.device.state != "failed":
                await asyncio.sleep(0)
        writer.close()


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"connect": "a:1", "listen": "127.0.0.1:1"},
        {"listen": "localhost:1"},
        {"listen": "127.0.0.1:0"},
        {"listen": "127.0.0.1:65536"},
        {"listen": "::1:5006"},
        {"connect": "a b:1"},
        {"connect": ":1"},
        {"connect": "a"},
        {"connect": "user@a:1"},
        {"connect": "a:1", "frame": PMS, "format": "json"},
        {"connect": "a:1", "frame": {**PMS, "header": "4"}},
        {"connect": "a:1", "max_connections": 0},
    ],
)
def test_what_makes_no_sense_is_refused(keys: dict[str, Any]) -> None:
    """A mistake is found when the config is read."""
    with pytest.raises(ValidationError):
        Tcp(**keys)


def test_addresses() -> None:
    """Names, IPv4 and IPv6 in brackets."""
    assert endpoint("pi.local:80") == ("pi.local", 80)
    assert endpoint("[::1]:5006") == ("::1", 5006)
    assert Tcp(listen="[::1]:5006").listen == "[::1]:5006"
