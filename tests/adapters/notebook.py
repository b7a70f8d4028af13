"""A real running device whose readings, changes of state and log can be waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog

from gateway import Adapter, Metric, Value
from gateway.backoff import Backoff
from gateway.devices import RunningDevice

WAIT = 20.0  # seconds until a test gives up


class Notebook:
    """Notes what a device hands to the gateway; `await until(...)` waits for a condition over the notes."""

    def __init__(self) -> None:
        self.readings: list[tuple[str, dict[str, Value], float | None]] = []
        self.ages: list[float] = []  # of the readings, in seconds
        self.states: list[tuple[str, bool]] = []
        self._changed = asyncio.Event()

    def put(self, stream: str, values: dict[str, Value], time: float | None, age: float = 0.0) -> None:
        self.readings.append((stream, values, time))
        self.ages.append(age)
        self._changed.set()

    def state(self, name: str, online: bool) -> None:
        self.states.append((name, online))
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def of(self, stream: str) -> list[dict[str, Value]]:
        return [values for name, values, _ in self.readings if name == stream]

    def device(
        self, name: str, adapter: Adapter, metrics: dict[str, Metric] | None = None, **more: Any
    ) -> RunningDevice:
        more.setdefault("backoff", Backoff(0.001, 0.001))
        more.setdefault("put", self.put)
        log = structlog.get_logger()
        return RunningDevice(name, adapter, metrics or {}, on_state=self.state, log=log, **more)


class running:  # noqa: N801 - reads as a verb where it is used
    """`async with running(device, ...):` runs devices, and stops them at the end."""

    def __init__(self, *devices: RunningDevice) -> None:
        self.devices = devices
        self.tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> list[asyncio.Task[None]]:
        self.tasks = [asyncio.create_task(device.run()) for device in self.devices]
        return self.tasks

    async def __aexit__(self, *_: object) -> None:
        for task in self.tasks:
            task.cancel()
        for result in await asyncio.gather(*self.tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
