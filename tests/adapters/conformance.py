"""What stands in for the device of each built-in adapter, so that one suite runs over all of them.

A device that speaks by itself on a serial port needs nothing here: it says what its first golden case says that has
nothing to be thrown away.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from adapters.frames import sensirion_shdlc, winsen
from adapters.frames.checksums import crc16_modbus
from gateway.mqtt.packets import Publish
from gateway.testing import Case, NoDevice, SerialStandIn, StandIn
from tests.adapters.chips import CHIPS, I2cStandIn
from tests.adapters.frames import encoders
from tests.adapters.test_cases import CASES
from tests.client.beside import Beside
from tests.ports import free_port


def mhz19(folder: Path) -> StandIn:
    """An MH-Z19 that answers whenever it is asked."""
    answer = encoders.mhz19(636, 26)
    return SerialStandIn(folder, answers=lambda asked: answer * asked.count(winsen.read()), interval="5ms")


def sps30(folder: Path) -> StandIn:
    """An SPS30 that measures at once when it is told to."""

    def answers(asked: bytes) -> bytes:
        if asked == sensirion_shdlc.read():
            return encoders.sps30([1.0] * 10)
        return encoders.shdlc(0x00, 0, b"")

    return SerialStandIn(folder, answers=answers, interval="5ms")


def pulsing(**keys: Any) -> StandIn:
    """A simulated GPIO line, which an input sees pulse."""
    return NoDevice(line="GPIO17", backend="simulated", simulated={"frequency": 200}, **keys)


def modbus(folder: Path) -> StandIn:
    """A Modbus device at address 1 with the number 7 in its register 0."""
    answer = bytes.fromhex("01 03 02 00 07")
    answer += crc16_modbus(answer).to_bytes(2, "little")
    keys = {"interval": "50ms", "timeout": "200ms", "registers": {"number": {"address": 0}}}
    return SerialStandIn(folder, answers=lambda asked: answer if asked[:2] == b"\x01\x03" else b"", **keys)


class Files:
    """A file of the kernel that can be there or not."""

    can_be_lost = True

    def __init__(self, where: Path, text: str, **keys: Any) -> None:
        self._path = where
        self._text = text
        self.keys = keys

    def plug(self) -> None:
        """Make the file."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(self._text)

    def speak(self) -> None:
        """Do nothing: it is read."""

    def lose(self) -> None:
        """Take the file away."""
        self._path.unlink(missing_ok=True)


def one_wire(folder: Path) -> StandIn:
    """A thermometer in the cellar, as the kernel shows it."""
    address = "28-0316a2795dff"
    text = "72 01 4b 46 7f ff 0e 10 57 : crc=57 YES\n72 01 4b 46 7f ff 0e 10 57 t=23125\n"
    return Files(folder / address / "w1_slave", text, address=address, root=str(folder), interval="20ms")


def sysfs(folder: Path) -> StandIn:
    """A file with a number in it."""
    path = folder / "value"
    return Files(path, "42\n", files={"value": {"path": str(path)}}, interval="20ms")


def binary(folder: Path) -> StandIn:
    """A PMS5003, as the description of a frame in a golden case has it."""
    return SerialStandIn(folder, encoders.EXAMPLES["plantower"], **Case(CASES / "serial-binary" / "pms5003").keys)


def own_module(folder: Path) -> StandIn:
    """A file that somebody's own function reads."""
    module = folder / "mine.py"
    module.write_text("def read(path):\n    with open(path) as file:\n        return {'value': int(file.read())}\n")
    module.chmod(0o644)
    value = folder / "value"
    return Files(value, "42\n", path=str(module), options={"path": str(value)}, interval="20ms")


class Growing(Files):
    """A file to which something appends lines."""

    def speak(self) -> None:
        """Append a line."""
        if self._path.exists():
            with self._path.open("a") as file:
                file.write('{"n": 1}\n')


def tail(folder: Path) -> StandIn:
    """A log."""
    return Growing(folder / "log", "", path=str(folder / "log"), interval="10ms")


class Sender:
    """A device that sends datagrams to this machine."""

    can_be_lost = False

    def __init__(self) -> None:
        port = free_port()
        self._to = ("127.0.0.1", port)
        self.keys = {"listen": f"127.0.0.1:{port}"}

    def plug(self) -> None:
        """Do nothing."""

    def speak(self) -> None:
        """Send one."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b'{"n": 1}', self._to)

    def lose(self) -> None:
        """Do nothing: nobody notices."""


class Connected:
    """A device that writes lines to whoever connects to it."""

    can_be_lost = True

    def __init__(self) -> None:
        self._at = ("127.0.0.1", free_port())
        self._listening: socket.socket | None = None
        self._connections: list[socket.socket] = []
        self.keys = {"connect": f"127.0.0.1:{self._at[1]}"}

    def plug(self) -> None:
        """Listen."""
        self._listening = socket.create_server(self._at)
        self._listening.setblocking(False)

    def speak(self) -> None:
        """Write a line to everybody."""
        if self._listening is None:
            return
        with suppress(BlockingIOError):
            self._connections.append(self._listening.accept()[0])
        for connection in self._connections:
            with suppress(OSError):  # it may be gone
                connection.send(b'{"n": 1}\n')

    def lose(self) -> None:
        """Hang up, and listen no more."""
        for one in (*self._connections, *filter(None, [self._listening])):
            one.close()
        self._connections, self._listening = [], None


class Published:
    """A device that publishes at a broker."""

    can_be_lost = True

    def __init__(self) -> None:
        self._port = free_port()
        self._beside: Beside | None = None
        self.keys = {"broker": f"mqtt://127.0.0.1:{self._port}", "topics": ["rooms/+"]}

    def plug(self) -> None:
        """Start the broker."""
        self._beside = Beside(self._port)
        self._beside.__enter__()

    def speak(self) -> None:
        """Publish."""
        if self._beside is not None:
            self._beside.soon(self._beside.broker.publish, Publish("rooms/kitchen", b'{"t": 21.5}'))

    def lose(self) -> None:
        """Stop the broker."""
        if self._beside is not None:
            self._beside.__exit__()
            self._beside = None


class Station:
    """A weather station that posts to this machine."""

    can_be_lost = False

    def __init__(self) -> None:
        self._to = ("127.0.0.1", free_port())
        self.keys = {"listen": f"127.0.0.1:{self._to[1]}", "format": "wunderground"}

    def plug(self) -> None:
        """Do nothing."""

    def speak(self) -> None:
        """Post, and do not wait for an answer."""
        with socket.socket() as connection:
            if connection.connect_ex(self._to) == 0:
                connection.send(b"GET /weatherstation/updateweatherstation.php?tempf=70.5 HTTP/1.0\r\n\r\n")

    def lose(self) -> None:
        """Do nothing: nobody is missed."""


STAND_INS: dict[str, Callable[[Path], StandIn]] = {
    "gpio-counter": lambda folder: pulsing(interval="10ms"),
    "gpio-input": lambda folder: pulsing(),
    "gpio-output": lambda folder: pulsing(interval="10ms"),
    "scale": lambda folder: SerialStandIn(folder, b"ST,GS,+  12.345kg\r\n"),
    "sensirion-sps30": sps30,
    "serial-binary": binary,
    "exec": lambda folder: NoDevice(command=["echo", '{"n": 1}'], interval="100ms"),
    "file": tail,
    "modbus": modbus,
    "http": lambda folder: Station(),
    "mqtt": lambda folder: Published(),
    "one-wire": one_wire,
    "python": own_module,
    "rdm6300": Case(CASES / "rdm6300" / "two-tags").stand_in,  # one that stays is one reading
    "simulator": lambda folder: NoDevice(interval="1ms"),
    "sysfs": sysfs,
    "tcp": lambda folder: Connected(),
    "udp": lambda folder: Sender(),
    "system": lambda folder: NoDevice(interval="20ms"),
    "winsen-mhz19": mhz19,
    **{name: partial(I2cStandIn, name=name) for name in CHIPS},
}
