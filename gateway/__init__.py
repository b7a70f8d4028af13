"""sensor-gateway: carries readings and messages from an edge box to MQTT brokers. This is its face."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gateway.adapter import Adapter, Command, Device, DeviceError, Memory, Metric, Silent
from gateway.reading import RESERVED, Value, Values
from gateway.scaling import scaled
from gateway.units import Duration, Size

if TYPE_CHECKING:
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

__all__ = [
    "RESERVED",
    "Adapter",
    "Authentication",
    "BlockingClient",
    "Broker",
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


def __getattr__(name: str) -> Any:
    # The client, which an adapter does not need, is imported when it is first asked for.
    if name in __all__:
        return getattr(import_module("gateway.client"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
