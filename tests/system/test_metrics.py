"""Metrics in a running service: formulas are computed, and open windows outlive the process, whichever way it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.system.harness import Gateway, Mosquitto, Subscriber, configuration, until

pytestmark = pytest.mark.system

WAIT = 20.0


class Made(NamedTuple):
    """A device of the configuration."""

    name: str
    keys: dict[str, object]


METER = Made(
    "meter",
    {
        "adapter": "simulator",
        "interval": "20ms",
        "signals": {"n": {"kind": "counter"}, "p": {"kind": "constant", "low": 4}},
        "metrics": {"p": {"window": "30d", "aggregate": ["count"]}},
        "computed": {"double": "p + p"},
    },
)


def remembered(folder: Path) -> int:
    """Return how many values the open window has on the card."""
    file = folder / "outbox.db.memory" / "meter+windows.json"
    contents: dict[str, Any] = json.loads(file.read_text().splitlines()[0])
    count: int = contents["open"]["p"]["count"]
    return count


def test_an_open_window_outlives_the_process(folder: Path, broker: Mosquitto) -> None:
    """After SIGKILL it goes on with what was on the card; after an orderly stop with all that came. Nothing twice."""
    file = configuration(folder, brokers=[broker.url], devices=[METER])
    with Subscriber(broker) as seen, Gateway(file) as gateway:
        gateway.start()
        until((folder / "outbox.db.memory" / "meter+windows.json").exists, WAIT, "the window on the card")
        gateway.kill()
        count = remembered(folder)
        assert count > 0
        for _ in range(2):
            gateway.start()
            gateway.wait_figures(lambda figures: figures["devices"]["meter"]["taken_in"] > 10, WAIT, "some readings")
            assert gateway.stop().status == 0
            count += gateway.figures["devices"]["meter"]["taken_in"]
            assert remembered(folder) == count
        readings = [json.loads(one.payload) for one in seen.arrivals if one.topic == "sensors/gw/meter"]
    assert readings
    assert all(set(one) - {"historical"} == {"ts", "seq", "epoch", "n", "double"} for one in readings)
    assert {one["double"] for one in readings} == {8}
