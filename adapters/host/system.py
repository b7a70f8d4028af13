"""The machine that the gateway runs on: how warm, how busy and how full it is, and whether its power is weak."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field

from adapters.sampled_device import SampledDevice, Skip
from gateway import Value

_THROTTLED = {
    "under_voltage": 1 << 0,
    "frequency_capped": 1 << 1,
    "throttled": 1 << 2,
    "under_voltage_since_boot": 1 << 16,
    "throttled_since_boot": 1 << 18,
}
"""Bits of the Raspberry Pi firmware's get_throttled (Raspberry Pi documentation, vcgencmd)."""


class System(SampledDevice):
    """Reads temperature, load, memory and disk of this machine, and on a Raspberry Pi whether its power is weak."""

    disk: str = Field(default="/", description="A folder on the file system that is looked at.")
    root: str = Field(default="/", description="Where /sys and /proc are.")

    def sample(self, skip: Skip) -> dict[str, Value]:
        """Return what is known; what this machine does not have is left out. See `SampledDevice.sample`."""
        values: dict[str, Value] = {}
        if (temperature := self._number("sys/class/thermal/thermal_zone0/temp")) is not None:
            values["temperature"] = temperature / 1000
        loads = self._text("proc/loadavg").split()
        if loads:
            values["load"] = float(loads[0])
        memory = dict(line.split(":", 1) for line in self._text("proc/meminfo").splitlines() if ":" in line)
        if "MemAvailable" in memory:
            values["memory_available"] = int(memory["MemAvailable"].split()[0]) * 1024
        if uptime := self._text("proc/uptime").split():
            values["uptime"] = float(uptime[0])
        disk = os.statvfs(self.disk)
        values["disk_free"] = disk.f_bavail * disk.f_frsize
        values["disk_used"] = round(100 * (1 - disk.f_bavail / disk.f_blocks), 1) if disk.f_blocks else 0.0
        if throttled := self._text("sys/devices/platform/soc/soc:firmware/get_throttled").strip():
            bits = int(throttled, 16)
            values |= {name: bool(bits & bit) for name, bit in _THROTTLED.items()}
        return values

    def _text(self, path: str) -> str:
        try:
            return (Path(self.root) / path).read_text()
        except OSError:
            return ""

    def _number(self, path: str) -> float | None:
        text = self._text(path).strip()
        return float(text) if text else None
