"""sensor-gateway: carries readings and messages from an edge box to MQTT brokers. This is its face."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.adapter import Adapter, Command, Device, DeviceError, Memory, Metric, Silent
    from gateway.client import (
        Authentication,
        BlockingClient,
        Broker,
        CalledFromCallback,
        Client,
        ClientClosed,
        ClientError,
        Connected,
        ConnectionLost,
        Credentials,
        Delivery,
        Message,
        Network,
        NotConnected,
        NotDelivered,
        OutboxError,
        OutboxFull,
        OutboxInUse,
        Outcome,
        Publication,
        Reconnecting,
        Status,
        SubscriptionRefused,
        Tls,
        Will,
    )
    from gateway.config.secret import Secret
    from gateway.config.section import FilePath
    from gateway.config.uplinks import Broker as BrokerKeys
    from gateway.reading import RESERVED, Value, Values
    from gateway.scaling import scaled
    from gateway.units import Duration, Size

__all__ = [
    "RESERVED",
    "Adapter",
    "Authentication",
    "BlockingClient",
    "Broker",
    "BrokerKeys",
    "CalledFromCallback",
    "Client",
    "ClientClosed",
    "ClientError",
    "Command",
    "Connected",
    "ConnectionLost",
    "Credentials",
    "Delivery",
    "Device",
    "DeviceError",
    "Duration",
    "FilePath",
    "Memory",
    "Message",
    "Metric",
    "Network",
    "NotConnected",
    "NotDelivered",
    "OutboxError",
    "OutboxFull",
    "OutboxInUse",
    "Outcome",
    "Publication",
    "Reconnecting",
    "Secret",
    "Silent",
    "Size",
    "Status",
    "SubscriptionRefused",
    "Tls",
    "Value",
    "Values",
    "Will",
    "scaled",
]


# Where a name comes from, if not from the client. Each is imported when it is first asked for: an adapter needs no
# client, and what only looks at this package, as a plug-in of pytest does, needs none of it.
_ROOMS = {
    "gateway.adapter": ("Adapter", "Command", "Device", "DeviceError", "Memory", "Metric", "Silent"),
    "gateway.reading": ("RESERVED", "Value", "Values"),
    "gateway.scaling": ("scaled",),
    "gateway.units": ("Duration", "Size"),
    # Types for keys of adapters that a config knows as well.
    "gateway.config.secret": ("Secret",),
    "gateway.config.section": ("FilePath",),
    "gateway.config.uplinks": ("BrokerKeys",),
}
_WHERE = {name: room for room, names in _ROOMS.items() for name in names}
_THERE = {"BrokerKeys": "Broker"}  # what is called otherwise there


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(_WHERE.get(name, "gateway.client")), _THERE.get(name, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
