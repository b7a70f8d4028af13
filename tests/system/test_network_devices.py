"""Devices that are reached without a wire of their own, through the whole service and a real broker."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port
from tests.system.harness import Gateway, Mosquitto, Subscriber, configuration
from tests.system.test_commands import WAIT, Made, Site, ready

pytestmark = pytest.mark.system


def test_from_each_of_them_to_the_broker_and_back(folder: Path, broker: Mosquitto) -> None:
    """A connection, a message and a post become readings; a command becomes a program, which says what it has set."""
    tcp, http, done = free_port(), free_port(), folder / "done"
    program = "import sys; open(sys.argv[1], 'a').write(sys.argv[2]); print(sys.argv[2])"
    setting = {"command": [sys.executable, "-c", program, str(done), "{value}"], "read_back": True}
    devices = [
        Made("callers", {"adapter": "tcp", "listen": f"127.0.0.1:{tcp}"}),
        Made("zigbee", {"adapter": "mqtt", "broker": broker.url, "topics": ["zigbee2mqtt/+"]}),
        Made("weather", {"adapter": "http", "format": "json", "listen": f"127.0.0.1:{http}"}),
        Made("pump", {"adapter": "exec", "commands": {"n": setting}, "metrics": {"n": {"settable": True}}}),
    ]
    file = configuration(folder, brokers=[broker.url], devices=devices, uplink={"commands": True})
    with Subscriber(broker) as seen, Gateway(file) as gateway:
        gateway.start()
        site = Site(broker, seen, gateway)
        ready(site)

        def readings(device: str) -> list[dict[str, Any]]:
            return [json.loads(one.payload) for one in seen.arrivals if one.topic == f"sensors/gw/{device}"]

        def wait_for(device: str, metric: str, value: object) -> None:
            seen.wait(
                lambda _: any(one.get(metric) == value for one in readings(device)), WAIT, f"{metric} of {device}"
            )

        with socket.create_connection(("127.0.0.1", tcp)) as caller:
            caller.sendall(b'{"t": 1}\n')
            wait_for("callers", "t", 1)
        status = ("sensors/gw/zigbee/status", b"online")
        seen.wait(lambda _: status in [(one.topic, one.payload) for one in seen.arrivals], WAIT, "the zigbee device")
        subprocess.run(
            ["mosquitto_pub", "-p", str(broker.port), "-t", "zigbee2mqtt/kitchen", "-m", '{"t": 2}'],
            check=True,
            timeout=WAIT,
        )
        wait_for("zigbee", "kitchen.t", 2)
        with urllib.request.urlopen(f"http://127.0.0.1:{http}/", data=b'{"t": 3}', timeout=WAIT) as answer:
            assert answer.read() == b"success\n"
        wait_for("weather", "t", 3)
        result = site.ask("pump/n/set", "7")
        assert (result["result"], result["read_back"]) == ("done", 7)
    assert done.read_text() == "7"
    assert [one for one in readings("zigbee") if "kitchen.t" not in one] == []
