"""Measure what it costs to shape a reading, by what is declared about its metrics: `python -m bench.metrics`.

A reading of four values is taken in by a running device whose outbox does nothing. CPU time, best of several rounds.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import structlog

from adapters.simulator import Simulator
from bench.report import table
from gateway import Metric
from gateway.devices import RunningDevice

READING: dict[str, Any] = {"temperature": 217, "humidity": 40.25, "pressure": 1013.2, "state": "ok"}
COUNT, ROUNDS = 20_000, 7

FORMULA = {"product": "temperature * humidity / 1000"}
ALL: Any = ["mean", "min", "max", "last", "count", "rate"]
CASES: dict[str, tuple[dict[str, Metric], dict[str, str]]] = {
    "nothing declared": ({}, {}),
    "unit and kind": ({"temperature": Metric(unit="°C", kind="measurement")}, {}),
    "scale": ({"temperature": Metric(scale=0.1)}, {}),
    "rename": ({"temperature": Metric(rename="t")}, {}),
    "kind = enum": ({"state": Metric(kind="enum", options=["ok", "bad"])}, {}),
    "scale, offset, precision, min, max": (
        {"temperature": Metric(scale=0.1, offset=1, precision=1, min=-40, max=125)},
        {},
    ),
    "drop": ({"temperature": Metric(drop=True)}, {}),
    "deadband, unchanged": ({"temperature": Metric(deadband=1)}, {}),
    "on_change on all four, unchanged": ({name: Metric(on_change=True) for name in READING}, {}),
    "one formula": ({}, FORMULA),
    "window, six aggregates": ({"temperature": Metric(window=10, aggregate=ALL)}, {}),
    "all of it": (
        {
            "temperature": Metric(scale=0.1, offset=1, precision=1, min=-40, max=125, deadband="2%", max_silence=60),
            "humidity": Metric(min=0, max=100, precision=0, on_change=True),
            "pressure": Metric(rename="p", window=10),
            "state": Metric(kind="enum", options=["ok", "bad"], on_change=True),
        },
        FORMULA,
    ),
}


def measure(metrics: dict[str, Metric], computed: dict[str, str]) -> float:
    """Return the CPU seconds of one reading."""
    device = RunningDevice(
        "device",
        Simulator(),
        metrics,
        lambda *_: None,
        on_state=lambda *_: None,
        log=structlog.get_logger(),
        computed=computed,
        boot=lambda: 1001.0,
    )
    device.take_in(READING)
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(COUNT):
            device.take_in(READING)
        best = min(best, (time.process_time() - began) / COUNT)
    return best


async def main() -> None:
    """Print the table. A device needs a loop, though nothing waits here."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    rows = [[name, f"{measure(*declared) * 1e6:.2f}"] for name, declared in CASES.items()]
    table("A reading of four values", ["declared", "µs of CPU"], rows)


if __name__ == "__main__":
    asyncio.run(main())
