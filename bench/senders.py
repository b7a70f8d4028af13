"""The three that carry a serial line to a broker: sensor-gateway, mosquitto_pub -l, and a paho-mqtt script."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.rig import Child, Notified, Tty, find

TOPIC = "sensors/bench/line"

CONFIG = """\
[gateway]
id = "bench"

[outbox]
path = "{folder}/outbox.db"

[uplinks.local]
brokers = ["mqtt://127.0.0.1:{port}"]
reconnect_min = "100ms"
reconnect_max = "200ms"
{more}
[devices.line]
adapter = "serial-text"
port = "{tty}"
baudrate = 115200
format = "json"
"""


@contextmanager
def gateway(folder: Path, line: Tty, port: int, more: str = "") -> Iterator[Notified]:
    """Run the gateway, at its defaults, from `line` to the broker on `port`; ready when it has opened the line.

    `more` is added to the uplink's table.
    """
    for old in folder.glob("outbox.db*"):
        old.unlink()
    config = folder / "gateway.toml"
    config.write_text(CONFIG.format(folder=folder, port=port, tty=line.path, more=more))
    with Notified(folder, sys.executable, "-m", "gateway", "run", "-c", str(config)) as child:
        while child.figures(20)["devices"]["line"]["state"] != "online":
            pass
        yield child


@contextmanager
def mosquitto_pub(folder: Path, line: Tty, port: int) -> Iterator[Child]:
    """Run mosquitto_pub -l with the line as its stdin. It must be told the topic; each line is a payload."""
    command = (find("mosquitto_pub"), "-l", "-q", "1", "-h", "127.0.0.1", "-p", str(port), "-t", TOPIC)
    far = os.open(line.path, os.O_RDWR | os.O_NOCTTY)
    try:
        with Child(*command, stdin=far, start_new_session=True) as child:
            time.sleep(0.5)  # it does not say when it is connected, and reads nothing before
            yield child
    finally:
        os.close(far)


@contextmanager
def paho_script(folder: Path, line: Tty, port: int) -> Iterator[Child]:
    """Run the script that people write."""
    command = (sys.executable, "-m", "bench.paho_script", line.path, str(port), TOPIC)
    with Child(*command, stdout=subprocess.PIPE, text=True) as child:
        child.line()
        time.sleep(0.2)  # its loop runs in a thread and connects on its own
        yield child


SENDERS = {"sensor-gateway": gateway, "mosquitto_pub -l": mosquitto_pub, "paho-mqtt script": paho_script}
