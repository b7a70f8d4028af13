"""Devices that come and go for long: nothing leaks, and nobody waits."""

from __future__ import annotations

import asyncio
import gc
import os
from pathlib import Path

import pytest

from gateway import Adapter, registry
from tests.adapters.cable import Cable
from tests.adapters.notebook import Notebook, running

CYCLES = 1000
LINES = {
    "serial-text": b'{"n": 1}\n',
    "plantower-pms": bytes.fromhex("424d001c00000008000800000008000800d20046002d001e00000000970002c5"),
    "nova-sds011": bytes.fromhex("aac00600060058d93dab"),
    "a02yyuw": bytes.fromhex("ff07a1a7"),
    "nmea": b"$GPGGA,184353.07,1929.045,S,02410.506,E,1,04,2.6,100.00,M,-33.9,M,,0000*6D\r\n",
}
"""What five devices say, each in its own format."""


def made(name: str, path: str) -> Adapter:
    return registry.adapter(name)(port=path)


@pytest.mark.alone
async def test_a_thousand_times_unplugged_over_five_devices(tmp_path: Path) -> None:
    """After each replug the next reading comes; at the end there is no descriptor, task or object more than before."""
    notes = Notebook()
    cables = {name: Cable(tmp_path / name) for name in LINES}
    devices = {name: notes.device(name, made(name, cable.path)) for name, cable in cables.items()}
    for cable in cables.values():
        cable.plug()
    counts: list[tuple[int, int, int]] = []
    async with running(*devices.values()):
        for cycle in range(CYCLES // len(LINES)):
            for name, cable in cables.items():
                before = len(notes.of(name))
                await notes.until(lambda name=name: devices[name].state in ("online", "silent"))  # type: ignore[misc]
                cable.write(LINES[name])
                await notes.until(lambda name=name, before=before: len(notes.of(name)) > before)  # type: ignore[misc]
                cable.unplug()
                await notes.until(lambda name=name: devices[name].state == "absent")  # type: ignore[misc]
                cable.plug()
            notes.readings.clear()
            notes.states.clear()
            if cycle in (20, CYCLES // len(LINES) - 1):
                for name in LINES:
                    await notes.until(lambda name=name: devices[name].state in ("online", "silent"))  # type: ignore[misc]
                gc.collect()
                counts.append((len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks()), len(gc.get_objects())))
    for cable in cables.values():
        cable.unplug()
    (descriptors, tasks, objects), (later, tasks_later, objects_later) = counts
    assert later <= descriptors
    assert tasks_later <= tasks
    assert objects_later < objects + 2000, "what 900 more of them leave behind is nothing"
    assert all(device.failures >= CYCLES // len(LINES) for device in devices.values())
