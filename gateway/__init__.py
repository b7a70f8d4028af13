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
    from gateway.config.secret import Secret
    from gateway.config.uplinks import Broker as BrokerKeys

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


# Types for keys of adapters that a config knows as well: what is secret, and how a broker is reached.
_OF_THE_CONFIG = {"Secret": ("gateway.config.secret", "Secret"), "BrokerKeys": ("gateway.config.uplinks", "Broker")}


def __getattr__(name: str) -> Any:
    # The client, which few adapters need, and the config are imported when they are first asked for.
    if name in __all__:
        module, own = _OF_THE_CONFIG.get(name, ("gateway.client", name))
        return getattr(import_module(module), own)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
