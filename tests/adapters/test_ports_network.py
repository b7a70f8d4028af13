"""Serial ports behind a network: plain sockets and RFC 2217, against servers on this machine."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from typing import Any

import pytest
import serial
from hypothesis import given
from hypothesis import strategies as st
from serial.rfc2217 import PortManager

from adapters.ports.network import Rfc2217Port, SocketPort, port_at
from adapters.ports.port import Line
from adapters.ports.rfc2217 import COM_PORT, DO, DONT, IAC, SB, SE, WILL, WONT, Rfc2217
from adapters.ports.serial import SerialPort
from adapters.ports.tap import tapped
from adapters.serial.text import SerialText
from gateway import DeviceError
from tests.adapters.notebook import WAIT, Notebook, running

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(serve: Serve, scheme: str = "socket") -> AsyncIterator[str]:
    """Serve each connection; yield the address for a `port` key."""
    writers: list[asyncio.StreamWriter] = []
    tasks: list[asyncio.Task[Any]] = []

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        try:
            await serve(reader, writer)
        except (asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(one, "127.0.0.1", 0)
    try:
        yield f"{scheme}://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in writers:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
        await listening.wait_closed()


async def until_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# ---- plain bytes


async def test_bytes_go_both_ways_as_they_are() -> None:
    """A raw socket changes nothing, 0xFF included."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            writer.write(data)

    data = bytes(range(256)) * 40
    async with server(echo) as address, SocketPort(address, Line()) as port, asyncio.timeout(WAIT):
        await port.write(data)
        got = b""
        while len(got) < len(data):
            got += await port.read()
        assert got == data


async def test_a_device_behind_a_socket_is_read_and_comes_back() -> None:
    """Its adapter knows nothing of the network; a server that hangs up is an absence, said once, and tried again."""
    hang_up = asyncio.Event()

    async def lines(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'{"n": 1}\n')
        await hang_up.wait()

    notes = Notebook()
    async with server(lines) as address:
        device = notes.device("d", SerialText(port=address))
        async with running(device):
            await notes.until(lambda: len(notes.readings) == 1)
            hang_up.set()
            await notes.until(lambda: len(notes.readings) > 1)
        assert device.failures > 0
    assert ("d", False) in notes.states


async def test_what_cannot_be_reached_says_why() -> None:
    """Refused, unknown and hung up are three things."""
    free = socket.create_server(("127.0.0.1", 0))
    address = f"socket://127.0.0.1:{free.getsockname()[1]}"
    free.close()
    before = descriptors()
    with pytest.raises(DeviceError, match=rf"^cannot open {address}: Connection refused$"):
        async with port_at(address, Line()):
            pass
    assert descriptors() == before

    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        return

    async with server(leave) as address, port_at(address, Line()) as port, asyncio.timeout(WAIT):
        with pytest.raises(DeviceError, match=rf"^the serial server hung up \({address}\)$"):
            await port.read()
        assert port.is_gone


def test_a_port_is_what_its_name_says() -> None:
    """A path is a port of this machine; the two schemes are servers."""
    kinds = {
        "/dev/ttyUSB0": SerialPort,
        "socket://a:1": SocketPort,
        "rfc2217://a:1": Rfc2217Port,
    }
    assert {name: type(port_at(name, Line())) for name in kinds} == kinds


# ---- RFC 2217, against pyserial's server


class Connection:
    """What pyserial's server writes to."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.write = writer.write


@asynccontextmanager
async def loopback() -> AsyncIterator[tuple[str, serial.SerialBase]]:
    """Yield the address of a server by pyserial, and its port, which sends back what is written to it."""
    port: Any = serial.serial_for_url("loop://", timeout=0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        manager = PortManager(port, Connection(writer))
        while data := await reader.read(4096):
            port.write(b"".join(manager.filter(data)))
            writer.write(b"".join(manager.escape(port.read(4096))))

    try:
        async with server(serve, "rfc2217") as address:
            yield address, port
    finally:
        port.close()


async def test_the_line_of_a_server_is_set_as_the_config_says() -> None:
    """Speed, size, parity, stop bits, DTR and RTS are agreed upon before the first byte."""
    line = Line(baudrate=115200, bytesize=7, parity="E", stopbits=2, dtr=False, rts=False)
    async with loopback() as (address, far), port_at(address, line) as port, asyncio.timeout(WAIT):
        assert (far.baudrate, far.bytesize, far.parity, far.stopbits) == (115200, 7, "E", 2)
        await port.write(b"through")
        assert await port.read() == b"through"
        assert (far.dtr, far.rts) == (False, False)


async def test_every_byte_survives_telnet() -> None:
    """0xFF is doubled on the way, both ways, and whoever looks on sees what the device said."""
    data = bytes(range(256)) + b"\xff\xff\xff"
    seen = bytearray()
    with tapped(seen.extend):
        async with loopback() as (address, _), port_at(address, Line()) as port, asyncio.timeout(WAIT):
            await port.write(data)
            got = b""
            while len(got) < len(data):
                got += await port.read()
    assert got == data
    assert bytes(seen) == data


async def test_a_server_that_speaks_no_rfc_2217_is_told_apart() -> None:
    """It says so itself, or says nothing; either way the port is closed again."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes([IAC, DONT, COM_PORT]))
        await until_closed(reader, writer)

    async with server(refuse, "rfc2217") as address:
        before = descriptors()
        with pytest.raises(DeviceError, match=r"does not speak RFC 2217; socket:// takes"):
            async with port_at(address, Line()):
                pass
        assert descriptors() <= before + 1  # the server's end may be closed a moment later


class Hasty(Rfc2217Port):
    """Does not wait for long."""

    patience = 0.05


async def test_a_server_that_agrees_to_nothing_is_left() -> None:
    """A plain socket server sends data and answers no question: after a while, that is said."""

    async def chat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"t=1\n")
        await until_closed(reader, writer)

    async with server(chat, "rfc2217") as address:
        with pytest.raises(DeviceError, match=r"did not agree to 9600 8N1 within 0.05 s. Does it speak RFC 2217\?$"):
            async with Hasty(address, Line()):
                pass


# ---- RFC 2217 as bytes


def sub(command: int, value: bytes) -> bytes:
    return bytes([IAC, SB, COM_PORT, command]) + value.replace(b"\xff", b"\xff\xff") + bytes([IAC, SE])


def ready(line: Line) -> Rfc2217:
    """Return the protocol after a server has agreed."""
    protocol = Rfc2217(line)
    assert protocol.feed(bytes([IAC, DO, COM_PORT])) == b""
    stops = {1: 1, 2: 2, 1.5: 3}[line.stopbits]
    agreed = sub(101, line.baudrate.to_bytes(4, "big")) + sub(102, bytes([line.bytesize])) + sub(103, b"\1")
    assert protocol.feed(agreed) == b""
    assert not protocol.is_ready
    assert protocol.feed(sub(104, bytes([stops]))) == b""
    assert protocol.is_ready
    return protocol


def test_what_is_asked_is_what_the_standard_says() -> None:
    """The numbers of RFC 2217 for 9600 8N1 with DTR down: asked once, when the server is willing."""
    protocol = Rfc2217(Line(baudrate=9600, dtr=False, rts=True))
    assert protocol.opening().startswith(bytes([255, 251, 44]))
    protocol.feed(bytes([IAC, DO, COM_PORT]) * 2)
    assert protocol.replies() == bytes.fromhex(
        "fffa2c0100002580fff0 fffa2c0208fff0 fffa2c0301fff0 fffa2c0401fff0 fffa2c0501fff0 fffa2c0509fff0 fffa2c050bfff0"
    )
    assert protocol.replies() == b""


@given(st.binary(max_size=200), st.lists(st.integers(0, 400), max_size=6))
def test_data_comes_through_however_it_is_cut(data: bytes, places: list[int]) -> None:
    """Unescaping is the reverse of escaping, with commands in between, in any pieces."""
    protocol = ready(Line())
    wire = b"".join(
        Rfc2217.escape(bytes([byte])) + (sub(107, b"\x30") if number % 50 == 7 else b"")
        for number, byte in enumerate(data)
    )
    edges = [0, *sorted(min(place, len(wire)) for place in places), len(wire)]
    assert b"".join(protocol.feed(wire[a:b]) for a, b in pairwise(edges)) == data


@given(st.binary(max_size=400))
def test_nonsense_raises_nothing_but_the_declared_error(noise: bytes) -> None:
    """Whatever a server sends, memory stays bounded, and what is raised is for the log."""
    protocol = Rfc2217(Line())
    with suppress(ValueError):
        protocol.feed(noise)
    assert len(protocol._command) <= 257
    assert len(protocol.replies()) <= 3 * len(noise) + 100


def test_what_nobody_asked_for_is_declined() -> None:
    """Echo and terminal types are refused, once for each question; a refusal has no answer."""
    protocol = Rfc2217(Line())
    protocol.feed(bytes([IAC, DO, 24, IAC, WILL, 1, IAC, WONT, 1, IAC, DONT, 24]))
    assert protocol.replies() == bytes([IAC, WONT, 24, IAC, DONT, 1])


def test_a_server_that_sets_another_speed_is_refused() -> None:
    """Bytes at a wrong speed are garbage: better said once than counted for ever."""
    protocol = Rfc2217(Line(baudrate=115200))
    protocol.feed(bytes([IAC, DO, COM_PORT]))
    with pytest.raises(ValueError, match="baudrate 9600 when asked for 115200"):
        protocol.feed(sub(101, (9600).to_bytes(4, "big")))
