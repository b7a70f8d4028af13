"""Devices that speak Modbus: RTU or ASCII on a serial line, or TCP; what is where in them stands in the config."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from adapters.frames.modbus import Framing
from adapters.frames.registers import Plan, Register, Request, plan
from adapters.ports.network import check_port
from adapters.ports.port import Line, Port
from adapters.schedule import following, spread
from adapters.serial.device import LINE, AskedDevice
from gateway import Command, Device, DeviceError, Duration, Value

try:
    from adapters.ports.modbus import ILLEGAL_ADDRESS, Refused, TcpPort, Unit
except ImportError as error:
    MISSING: str | None = f"needs the package pymodbus ({error}); type: pip install 'sensor-gateway[modbus]'"
else:
    MISSING = None

_TCP = "tcp://"
_CONNECTIONS = (_TCP, "socket://")


class Modbus(AskedDevice):
    """Reads registers and bits of a Modbus device at regular intervals, and sets them. Needs the extra modbus."""

    port: str | None = Field(
        default=None,
        min_length=1,
        description='The serial port, or "tcp://HOST:502"; or a network serial server: "socket://HOST:PORT" (plain '
        'bytes) or "rfc2217://HOST:PORT". One of port, usb and usb_port is needed. Devices on one port take turns.',
    )
    framing: Literal["auto", "rtu", "ascii", "tcp"] = Field(
        default="auto", description='How frames look; "auto" is tcp for tcp:// and socket://, and else rtu.'
    )
    local_echo: bool = Field(default=False, description="The RS-485 adapter gives back what it sends.")
    unit: int = Field(default=1, ge=0, le=255, description="The device's address on the line.")
    interval: Duration = Field(default=10.0, ge=0.05, description="Time from one reading to the next.")
    timeout: Duration = Field(default=1.0, gt=0, description="The longest that the device may take for one answer.")
    max_gap: int = Field(
        default=8, ge=0, le=120, description="So many registers that nobody asks for may lie within one request."
    )
    registers: dict[str, Register] = Field(min_length=1, description="Where each metric is.")

    @field_validator("port")
    @classmethod
    def _port(cls, given: str | None) -> str | None:
        if given is not None and given.startswith(_TCP):
            try:
                check_port(_with_port(given).replace(_TCP, "socket://"))
            except ValueError as error:
                raise ValueError(str(error).replace("socket://", _TCP)) from None
        elif given is not None:
            check_port(given)
        return given

    @model_validator(mode="after")
    def _together(self) -> Self:
        if MISSING is not None:
            raise ValueError(MISSING)
        if self.framing == "tcp" and not self._is_connection:
            raise ValueError('framing = "tcp" goes with a port such as tcp://host:502')
        return self

    @property
    def _is_connection(self) -> bool:
        return self.port is not None and self.port.startswith(_CONNECTIONS)

    @property
    def kind(self) -> Framing:
        """The framing, once "auto" is decided."""
        if self.framing != "auto":
            return self.framing
        return "tcp" if self._is_connection else "rtu"

    def serial_port(self) -> Port:
        """Return the port, not yet open, which may be a connection."""
        if self.port is None or not self.port.startswith(_TCP):
            return super().serial_port()
        return TcpPort(_with_port(self.port), Line(**{key: getattr(self, key) for key in LINE}))

    def can_set(self, metric: str) -> bool:
        """Say that coils and holding registers can be set."""
        return metric in self.registers and self.registers[metric].is_writable

    async def run(self, device: Device) -> None:
        """Ask for all registers at each interval and carry out commands, until the device does not answer."""
        commands = device.commands()
        async with self.bus(device) as bus:
            unit = Unit(bus, self.unit, framing=self.kind, timeout=self.timeout, local_echo=self.local_echo)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._serve(unit, commands, device))
                await self._poll(unit, device)

    async def _poll(self, unit: Unit, device: Device) -> None:
        """Take a reading at each interval. Raises DeviceError."""
        requests = plan(self.registers, max_gap=self.max_gap)
        loop = asyncio.get_running_loop()
        start = loop.time() + spread(device.name, self.interval) - self.interval
        while True:
            values, requests = await self._ask(unit, requests)
            await device.emit(values)
            await asyncio.sleep(following(start, self.interval, loop.time()) - loop.time())

    async def _ask(self, unit: Unit, requests: Plan) -> tuple[dict[str, Value], Plan]:
        """Return all metrics, and the requests with which they were had. Raises DeviceError."""
        values: dict[str, Value] = {}
        waiting: list[Request] = list(requests.requests)
        while waiting:
            request = waiting.pop(0)
            try:
                answer = await unit.read(request.table, request.address, request.length)
            except Refused as error:
                parts = requests.parts(request)
                if error.code != ILLEGAL_ADDRESS or len(parts) == 1:
                    raise
                requests = requests.with_parts(request, parts)
                waiting[:0] = parts
            else:
                values.update(requests.decode(request, answer))
        return values, requests

    async def _serve(self, unit: Unit, commands: AsyncIterator[Command], device: Device) -> None:
        """Carry out commands, between two questions of a poll as well. Raises DeviceError when one has no answer."""
        async for command in commands:
            register = self.registers[command.metric]
            try:
                register.encode(command.value)
                value = await _set(unit, register, command.value)
            except ValueError as error:
                command.refuse(str(error))
            except Refused as error:
                (command.refuse if error.nothing_done else command.fail)(str(error))
            except DeviceError as error:
                command.fail(str(error))
                raise
            else:
                command.done(value)
                if value is not None:
                    await device.emit({command.metric: value})


async def _set(unit: Unit, register: Register, value: Value) -> Value | None:
    """Set a register in one turn, and return what it then is, or None if it cannot be read. Raises DeviceError."""
    place = register.table, register.address
    async with unit.turn() as questions:
        now = (await questions.read(*place, 1))[0] if register.bit is not None else 0
        words = register.encode(value, now)
        multiple = register.write == "multiple" or len(words) > 1
        await questions.write(*place, words, multiple=multiple)
        try:
            return register.decode(await questions.read(*place, len(words)))
        except Refused:
            return None


def _with_port(address: str) -> str:
    """Return a tcp:// address with the port that it has if it names none: 502."""
    return address if re.search(r":\d*$", address.removeprefix(_TCP)) else f"{address}:502"
