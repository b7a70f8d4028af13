"""The garbage collector and what the service is made of."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from tests.system.harness import Gateway, Mosquitto, Subscriber, configuration

pytestmark = pytest.mark.system

READ = """
import gc

def read():
    gc.collect()
    return {"spared": gc.get_freeze_count(), "looked_through": len(gc.get_objects())}
"""
DEVICE = """
[devices.inside]
adapter = "python"
path = "inside.py"
interval = "100ms"
"""


def test_the_collector_passes_over_what_the_service_is_made_of(folder: Path, broker: Mosquitto) -> None:
    """Once it runs, a full collection looks through a small part: the loop never stands still for all of it."""
    (folder / "inside.py").write_text(READ)
    file = configuration(folder, brokers=[broker.url])
    file.write_text(file.read_text() + DEVICE)
    with Subscriber(broker, topic="sensors/gw/inside") as subscriber, Gateway(file) as gateway:
        gateway.start()
        subscriber.wait(lambda arrivals: len(arrivals) >= 3, 20, "what is seen from inside")
        found = orjson.loads(subscriber.arrivals[-1].payload)
        assert found["looked_through"] * 5 < found["spared"]
        assert gateway.stop().status == 0
