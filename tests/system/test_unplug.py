"""Devices come and go, and one that floods takes nothing from another."""

from __future__ import annotations

import statistics
from pathlib import Path

import orjson
import pytest

from tests.system.harness import Gateway, Mosquitto, SerialDevice, Subscriber, configuration

pytestmark = pytest.mark.system


def test_unplugged_and_replugged_twenty_times(folder: Path, broker: Mosquitto) -> None:
    """Every reading written while it is plugged in arrives, over twenty new terminals, and no descriptor stays."""
    with (
        Subscriber(broker) as subscriber,
        SerialDevice("boiler", folder, rate=500) as boiler,
        Gateway(configuration(folder, brokers=[broker.url], devices=[boiler])) as gateway,
    ):
        gateway.start()
        descriptors = []
        for cycle in range(20):
            boiler.wait_opened(5)
            boiler.resume()
            boiler.wait_written(25 * (cycle + 1), 5)
            boiler.pause()
            boiler.wait_read(5)
            descriptors.append(len(gateway.descriptors()))
            boiler.unplug()
            boiler.plug()
        gateway.wait_delivered(10)
        subscriber.quiet(0.2, 10)
        (stream,) = subscriber.account("boiler").values()
        assert stream.numbers == set(range(1, boiler.written + 1))
        assert (stream.gaps, stream.duplicates, stream.late) == ([], 0, 0)
        assert max(descriptors[1:]) == min(descriptors[1:])
        assert gateway.stop().status == 0
        assert len([line for line in gateway.log_lines if "unplugged" in line]) <= 20


@pytest.mark.alone
def test_flood_does_not_delay_another_device(folder: Path, broker: Mosquitto) -> None:
    """While one device floods its line, the readings of another arrive within half a second, and all of them."""
    with (
        Subscriber(broker, topic="sensors/gw/boiler") as subscriber,
        SerialDevice("flood", folder, rate=1e9, form="key-value") as flood,
        SerialDevice("boiler", folder, rate=50) as boiler,
        Gateway(configuration(folder, brokers=[broker.url], devices=[flood, boiler])) as gateway,
    ):
        gateway.start()
        for device in (flood, boiler):
            device.wait_opened(5)
        flood.resume()
        flood.wait_written(5000, 10)
        boiler.resume()
        boiler.wait_written(150, 20)
        before = flood.written
        boiler.wait_written(200, 20)
        assert flood.written > before + 1000, "no flood"
        for device in (flood, boiler):
            device.pause()
            device.wait_read(10)
        gateway.wait_delivered(30)
        subscriber.quiet(0.2, 10)
        (stream,) = subscriber.account("boiler").values()
        assert stream.numbers == set(range(1, boiler.written + 1))
        delays = [
            arrival.at - boiler.wrote_at[orjson.loads(arrival.payload)["n"] - 1] for arrival in subscriber.arrivals
        ]
        assert statistics.median(delays) < 0.5
        assert gateway.stop().status == 0
