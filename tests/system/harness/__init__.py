"""Real processes and real terminals around the service, each a context manager that leaves nothing behind."""

from __future__ import annotations

from tests.ports import free_port
from tests.system.harness.broker import Certificates, Mosquitto
from tests.system.harness.deadline import until
from tests.system.harness.gate import Gate
from tests.system.harness.gateway import Gateway, configuration
from tests.system.harness.serial_device import SerialDevice
from tests.system.harness.subscriber import Arrival, Stream, Subscriber

__all__ = [
    "Arrival",
    "Certificates",
    "Gate",
    "Gateway",
    "Mosquitto",
    "SerialDevice",
    "Stream",
    "Subscriber",
    "configuration",
    "free_port",
    "until",
]
