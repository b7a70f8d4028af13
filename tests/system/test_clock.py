"""A wall clock that really jumps, under the real service."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest

from tests.system.harness import Gateway, Mosquitto, SerialDevice, Subscriber, configuration
from tests.system.harness.wall_clock import WallClock

pytestmark = pytest.mark.system

EXACT = 0.05
"""Seconds by which a time may be wrong that is right."""


def test_only_the_wall_clock_jumps(folder: Path) -> None:
    """What the next test rests on: a process under it sees its wall clock shifted, by every call, and no other."""
    clock = WallClock(folder)
    clock.show(0.0)
    words = (
        "import ctypes, time; c = ctypes.CDLL(None); t = (ctypes.c_long * 2)(); c.gettimeofday(t, None);"
        "print(time.time(), t[0], c.time(None), time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME))"
    )
    before = time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME)
    said = subprocess.run([sys.executable, "-c", words], env=clock.environ, capture_output=True, check=True, timeout=20)
    after = time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME)
    *wall, monotonic, boot = map(float, said.stdout.split())
    assert all(-1.0 < one < 60.0 for one in wall)
    assert before[0] <= monotonic <= after[0]
    assert before[1] <= boot <= after[1]


def test_readings_from_before_the_clock_was_set_arrive_with_the_right_time(folder: Path, broker: Mosquitto) -> None:
    """The gateway starts in 1970, twice; 500 readings wait for the clock; it jumps to now: all are right, none marked.

    A reading is right if it was measured, by its own account, after it was written and before it had been read.
    """
    clock = WallClock(folder)
    clock.show(0.0)
    with (
        Subscriber(broker) as subscriber,
        SerialDevice("boiler", folder, rate=250) as boiler,
        Gateway(configuration(folder, brokers=[broker.url], devices=[boiler]), environ=clock.environ) as gateway,
    ):
        for count in (250, 500):
            gateway.start()
            boiler.wait_opened(10)
            boiler.resume()
            boiler.wait_written(count, 20)
            boiler.pause()
            boiler.wait_read(10)
            if count == 250:
                assert gateway.stop().status == 0
        taken = boiler.written
        figures = gateway.wait_figures(lambda told: told["uplinks"]["cloud"]["waiting"] == taken, 10, "all wait")
        assert figures["clock"]["state"] == "unset"
        assert 0 < figures["clock"]["held"] <= 30
        assert "readings wait for the clock" in gateway.told.status
        assert subscriber.count("boiler") == 0
        clock.right()
        gateway.wait_delivered(10)
        subscriber.quiet(0.2, 10)
        assert gateway.figures["clock"]["held"] is None
        gateway.wait_log("the clock was set: it was", 1)
        assert gateway.stop().status == 0

        to_utc = time.time() - time.monotonic()
        told = [orjson.loads(one.payload) for one in subscriber.arrivals if one.topic.endswith("/boiler")]
        assert sorted(one["n"] for one in told) == list(range(1, taken + 1))
        for one in told:
            assert not {"time_quality", "ts_min", "ts_max"} & one.keys()
            written, read = boiler.wrote_at[one["n"] - 1], boiler.read_at(one["n"])
            assert written + to_utc - EXACT <= one["ts"] / 1000 <= read + to_utc + EXACT
