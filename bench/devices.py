"""What many devices in one process cost: 64 simulated ones at 10 readings a second each, to one mosquitto."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from bench.report import Goal, table
from bench.rig import Broker, Notified, find, free_port

DEVICES, RATE = 64, 10
"""Devices, and readings a second of each."""


def config(port: int, folder: Path, devices: int) -> str:
    """Return the config of a gateway with so many devices."""
    head = f"""
[gateway]
id = "bench"
[outbox]
path = "{folder / "outbox.db"}"
keep_free = "0B"
[uplinks.cloud]
brokers = ["mqtt://127.0.0.1:{port}"]
"""
    return head + "\n".join(
        f'[devices.d{number}]\nadapter = "simulator"\ninterval = "{1000 // RATE}ms"\n' for number in range(devices)
    )


def cost(devices: int, seconds: float) -> tuple[float, float, float]:
    """Return (CPU seconds a second, MB of memory, readings a second) of a gateway with so many devices."""
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        (folder / "gateway.toml").write_text(config(port, folder, devices))
        command = (find("sensor-gateway"), "run", "-c", str(folder / "gateway.toml"))
        with Broker(folder, port), Notified(folder, *command) as gateway:
            time.sleep(3.0)  # it starts, and every device has its turn
            taken, cpu, began = newest(gateway), gateway.cpu, time.monotonic()
            time.sleep(seconds)
            taken = newest(gateway) - taken
            cpu, passed = gateway.cpu - cpu, time.monotonic() - began
            memory = int(Path(f"/proc/{gateway.process.pid}/statm").read_text().split()[1]) * 4096 / 1e6
            return cpu / passed, memory, taken / passed


def newest(gateway: Notified) -> int:
    """Return how many readings were taken in by now: what was told before is passed over."""
    while True:
        asked = time.monotonic()
        taken = int(gateway.figures(5.0)["taken_in"])
        if time.monotonic() - asked > 0.1:  # it had to be waited for
            return taken


def measure_devices(seconds: float) -> list[Goal]:
    """Measure one device, and many."""
    found = {count: cost(count, seconds) for count in (1, DEVICES)}
    rows = [
        [str(count), f"{rate:,.0f}", f"{100 * cpu:.1f}", f"{cpu / rate * 1e5:.1f}", f"{memory:.0f}"]
        for count, (cpu, memory, rate) in found.items()
    ]
    heads = ["devices", "readings/s", "% of a core", "CPU s per 100,000", "RSS MB"]
    table(f"Simulated devices, {RATE} readings a second each, for {seconds:g} s", heads, rows)
    rate = found[DEVICES][2]
    return [Goal("readings a second of 64 devices: at least 600", rate, rate >= 600)]
