"""Lines with pymodbus's own server at the far end, over TCP and over two pseudo-terminals, and devices on them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from pymodbus.simulator import DataType, SimData, SimDevice

from adapters.modbus import Modbus
from gateway import Value
from gateway.devices import RunningDevice
from gateway.devices.orders import Order, Outcome
from tests.adapters.notebook import WAIT, Notebook, running

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
