"""The Python client: an MQTT client that survives outages and power cuts, for event loops and for threads."""

from gateway.client.blocking import BlockingClient
from gateway.client.client import Client, Status
from gateway.client.delivery import Delivery, Outcome
from gateway.client.errors import (
    CalledFromCallback,
    ClientClosed,
    ClientError,
    NotConnected,
    NotDelivered,
    SubscriptionRefused,
)
from gateway.client.events import Connected, ConnectionLost, Event, Events, Reconnecting
from gateway.client.incoming import Messages
from gateway.client.options import Broker, ClientOptions
from gateway.client.taking import BlockingMessages
from gateway.mqtt import Message, Network, Tls, Will
from gateway.mqtt.options import Authentication
from gateway.outbox import Loss, OutboxError, OutboxFull, OutboxInUse, Quarantined
from gateway.reading import Publication
from gateway.uplink import BrokerState, Credentials

__all__ = [
    "Authentication",
    "BlockingClient",
    "BlockingMessages",
    "Broker",
    "BrokerState",
    "CalledFromCallback",
    "Client",
    "ClientClosed",
    "ClientError",
    "ClientOptions",
    "Connected",
    "ConnectionLost",
    "Credentials",
    "Delivery",
    "Event",
    "Events",
    "Loss",
    "Message",
    "Messages",
    "Network",
    "NotConnected",
    "NotDelivered",
    "OutboxError",
    "OutboxFull",
    "OutboxInUse",
    "Outcome",
    "Publication",
    "Quarantined",
    "Reconnecting",
    "Status",
    "SubscriptionRefused",
    "Tls",
    "Will",
]
