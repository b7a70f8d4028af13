"""Devices that speak Modbus: RTU or ASCII on a serial line, or TCP; what is where in them stands in the config."""

from __future__ import annotations

import asyncio
from typing import Literal, Self

from pydantic import Field, model_validator

from adapters.frames.registers import Plan, Register, Request, plan
from adapters.schedule import following, spread
from gateway import Adapter, Device, Duration, Value

try:
    from adapters.ports.modbus import ILLEGAL_ADDRESS, ModbusLine, Refused, Settings, line
except ImportError as error:
    MISSING: str | None = f"needs the package pymodbus ({error}); type: pip install 'sensor-gateway[modbus]'"
else:
    MISSING = None


class Modbus(Adapter):
    """Reads registers and bits of a Modbus device at regular intervals. Needs the extra modbus."""

    port: str = Field(min_length=1, description="The serial port, or tcp://host:502. Devices on one port take turns.")
    framing: Literal["auto", "rtu", "ascii", "tcp"] = Field(
        default="auto", description='How frames look; "auto" is tcp for tcp://, and else rtu.'
    )
    baudrate: int = Field(default=9600, gt=0, le=20_000_000, description="Bits per second.")
    bytesize: Literal[7, 8] = Field(default=8, description="Data bits.")
    parity: Literal["N", "E", "O"] = Field(default="N", description="None, even or odd.")
    stopbits: Literal[1, 2] = Field(default=1, description="Stop bits.")
    local_echo: bool = Field(default=False, description="The RS-485 adapter gives back what it sends.")
    unit: int = Field(default=1, ge=0, le=255, description="The device's address on the line.")
    interval: Duration = Field(default=10.0, ge=0.05, description="Time from one reading to the next.")
    timeout: Duration = Field(default=1.0, gt=0, description="The longest that the device may take for one answer.")
    max_gap: int = Field(
        default=8, ge=0, le=120, description="So many registers that nobody asks for may lie within one request."
    )
    registers: dict[str, Register] = Field(min_length=1, description="Where each metric is.")

    @model_validator(mode="after")
    def _together(self) -> Self:
        if MISSING is not None:
            raise ValueError(MISSING)
        if self.port.startswith("tcp://") != (self.kind == "tcp") and self.kind == "tcp":
            raise ValueError('framing = "tcp" goes with a port such as tcp://host:502')
        return self

    @property
    def kind(self) -> str:
        """The framing, once "auto" is decided."""
        if self.framing != "auto":
            return self.framing
        return "tcp" if self.port.startswith("tcp://") else "rtu"

    async def run(self, device: Device) -> None:
        """Ask for all registers at each interval, until the device does not answer."""
        settings = Settings(
            self.port, self.kind, self.baudrate, self.bytesize, self.parity, self.stopbits, self.local_echo
        )
        requests = plan(self.registers, max_gap=self.max_gap)
        loop = asyncio.get_running_loop()
        async with line(settings, max(self.timeout, 1.0)) as bus:
            start = loop.time() + spread(device.name, self.interval) - self.interval
            while True:
                values, requests = await self._ask(bus, requests, device)
                await device.emit(values)
                await asyncio.sleep(following(start, self.interval, loop.time()) - loop.time())

    async def _ask(self, bus: ModbusLine, requests: Plan, device: Device) -> tuple[dict[str, Value], Plan]:
        """Return all metrics, and the requests with which they were had. Raises DeviceError."""
        values: dict[str, Value] = {}
        waiting: list[Request] = list(requests.requests)
        while waiting:
            request = waiting.pop(0)
            try:
                answer = await bus.read(self.unit, request.table, request.address, request.length, self.timeout)
            except Refused as error:
                parts = requests.parts(request)
                if error.code != ILLEGAL_ADDRESS or len(parts) == 1:
                    raise
                requests = requests.with_parts(request, parts)
                waiting[:0] = parts
                continue
            try:
                values.update(requests.decode(request, answer))
            except ValueError as error:
                device.skip(str(error))
        return values, requests
