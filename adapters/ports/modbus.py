"""A Modbus line: one connection for all devices on it, who take turns. The only room that knows pymodbus."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple
from urllib.parse import urlsplit

from pymodbus import FramerType, ModbusException
from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient

from adapters.ports.refused import cannot_open
from gateway import DeviceError

_READ = {
    "holding": "read_holding_registers",
    "input": "read_input_registers",
    "coil": "read_coils",
    "discrete": "read_discrete_inputs",
}
ILLEGAL_ADDRESS = 2
_EXCEPTIONS = {
    1: "it does not know this function",
    2: "there is nothing at this address",
    3: "it refuses the value, or to give so many at once",
    4: "it has failed itself",
    5: "it is still at it",
    6: "it is busy",
    8: "its memory is faulty",
    10: "the gateway has no way to it",
    11: "the gateway hears nothing of it",
}
"""MODBUS Application Protocol Specification V1.1b3, section 7."""
_FOREVER = 3600.0  # seconds: every request has a deadline of its own
_QUIET = 0.05  # seconds that a late answer has to be over, before the next device is asked
_LONGEST = 40  # bytes of an answer in a message


class Refused(DeviceError):
    """The device has answered with an exception."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code


class Settings(NamedTuple):
    """How a line is opened: `port` is a path, or tcp://host:port."""

    port: str
    framing: str  # "rtu", "ascii" or "tcp"
    baudrate: int
    bytesize: int
    parity: str
    stopbits: int
    local_echo: bool


class ModbusLine:
    """One line. Devices on it are asked one after the other, in the order in which they want to be."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.users = 0
        self.lost = False
        self._turn = asyncio.Lock()
        self._sent = self._heard = b""
        self._client: AsyncModbusSerialClient | AsyncModbusTcpClient

    async def open(self, timeout: float) -> None:
        """Open the port or connect. Raises DeviceError."""
        settings, address = self.settings, urlsplit(self.settings.port)
        framer = {"rtu": FramerType.RTU, "ascii": FramerType.ASCII, "tcp": FramerType.SOCKET}[settings.framing]
        if address.scheme == "tcp":
            self._client = AsyncModbusTcpClient(
                address.hostname or "",
                port=address.port or 502,
                framer=framer,
                timeout=_FOREVER,
                retries=0,
                reconnect_delay=0,
                trace_packet=self._trace,
                trace_connect=self._connected,
            )
        else:
            _try(settings.port)
            self._client = AsyncModbusSerialClient(
                settings.port,
                framer=framer,
                baudrate=settings.baudrate,
                bytesize=settings.bytesize,
                parity=settings.parity,
                stopbits=settings.stopbits,
                handle_local_echo=settings.local_echo,
                timeout=_FOREVER,
                retries=0,
                reconnect_delay=0,
                trace_packet=self._trace,
                trace_connect=self._connected,
            )
        try:
            async with asyncio.timeout(timeout):
                is_open = await self._client.connect()
        except TimeoutError:
            is_open = False
        except BaseException:
            self._client.close()
            raise
        if not is_open or _is_cancelled():
            self._client.close()
            _obey()
            raise DeviceError(f"cannot connect to {settings.port}: nobody answers there")

    def close(self) -> None:
        """Close it."""
        self._client.close()

    async def read(self, unit: int, table: str, address: int, count: int, timeout: float) -> Sequence[int]:
        """Return registers, or bits, of a device, within `timeout` seconds from its turn on.

        Raises Refused if it answers with an exception, and DeviceError, with what was heard instead, if it does not.
        """
        async with self._turn:
            if self.lost:
                raise DeviceError(f"the connection to {self.settings.port} is lost")
            self._sent = self._heard = b""
            try:
                async with asyncio.timeout(timeout):
                    answer = await getattr(self._client, _READ[table])(address, count=count, device_id=unit)
            except TimeoutError:
                _obey()
                await asyncio.sleep(_QUIET)
                raise DeviceError(self._silence(unit, timeout)) from None
            except ModbusException as error:
                _obey()
                raise DeviceError(f"{self.settings.port}, device {unit}: {error}") from error
        _obey()
        if answer.isError():
            code = int(getattr(answer, "exception_code", 0))
            words = _EXCEPTIONS.get(code, f"exception {code}")
            place = f"{table} {address} to {address + count - 1}"
            raise Refused(code, f"device {unit} on {self.settings.port}, {place}: {words}")
        found: Sequence[int] = answer.registers if table in ("holding", "input") else answer.bits
        return found

    def _silence(self, unit: int, timeout: float) -> str:
        """Return what is to be said of a device that has not answered in time."""
        who = f"device {unit} on {self.settings.port}"
        if not self._heard:
            return f"{who} does not answer within {timeout:g} s: check its address, the wiring and the speed"
        if self._heard == self._sent:
            return f"{who} does not answer, and what was sent comes back: is local_echo = true what is missing?"
        shown = self._heard[:_LONGEST].hex(" ") + (" ..." if len(self._heard) > _LONGEST else "")
        return f"{who} answers with a wrong checksum, or not with all of it ({shown}): check parity, speed and wiring"

    def _trace(self, sending: bool, data: bytes) -> bytes:
        if sending:
            self._sent = bytes(data)
        else:
            self._heard = bytes(data)
        return data

    def _connected(self, connected: bool) -> None:
        self.lost = not connected


_lines: dict[tuple[asyncio.AbstractEventLoop, str], tuple[ModbusLine, asyncio.Lock]] = {}


@asynccontextmanager
async def line(settings: Settings, timeout: float) -> AsyncIterator[ModbusLine]:
    """Have a share in the line of a port: the first one opens it, and the last one closes it. Raises DeviceError."""
    key = asyncio.get_running_loop(), settings.port
    shared, opening = _lines.setdefault(key, (ModbusLine(settings), asyncio.Lock()))
    if shared.settings != settings:
        raise DeviceError(f"another device has {settings.port} open as {_words(shared.settings)}: all have to agree")
    shared.users += 1
    try:
        async with opening:
            if shared.users == 1 or shared.lost or not hasattr(shared, "_client"):
                await _reopen(shared, timeout)
        yield shared
    finally:
        shared.users -= 1
        if not shared.users:
            del _lines[key]
            if hasattr(shared, "_client"):
                shared.close()


async def _reopen(shared: ModbusLine, timeout: float) -> None:
    if hasattr(shared, "_client"):
        shared.close()
    await shared.open(timeout)
    shared.lost = False


def _is_cancelled() -> bool:
    """Say whether this task is to end: pymodbus uses asyncio.wait_for, which on Python 3.11 may not pass that on."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _obey() -> None:
    if _is_cancelled():
        raise asyncio.CancelledError


def _words(settings: Settings) -> str:
    if settings.framing == "tcp":
        return "tcp"
    return f"{settings.framing}, {settings.baudrate} {settings.bytesize}{settings.parity}{settings.stopbits}"


def _try(path: str) -> None:
    """Raise DeviceError, with the reason, if a serial port cannot be opened."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise cannot_open(path, error) from error
    try:
        if not stat.S_ISCHR(os.fstat(descriptor).st_mode):
            raise DeviceError(f"{path} is no serial port")
    finally:
        os.close(descriptor)
