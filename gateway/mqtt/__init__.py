"""A self-contained MQTT engine: 3.1, 3.1.1 and 5.0 over TCP, TLS, WebSocket, unix sockets; needs nothing else of us."""

from gateway.mqtt.address import Address, Network, Tls
from gateway.mqtt.connection import Connection
from gateway.mqtt.dialing import connect
from gateway.mqtt.errors import ConnectError, ConnectionLost, ConnectRefused, MqttError, ProtocolError
from gateway.mqtt.listener import Forgetter, Listener, Message
from gateway.mqtt.options import Authentication, Limits, Options
from gateway.mqtt.packets import Subscription, Will
from gateway.mqtt.properties import Properties
from gateway.mqtt.reasons import in_words
from gateway.mqtt.validity import certificate_notices

__all__ = [
    "Address",
    "Authentication",
    "ConnectError",
    "ConnectRefused",
    "Connection",
    "ConnectionLost",
    "Forgetter",
    "Limits",
    "Listener",
    "Message",
    "MqttError",
    "Network",
    "Options",
    "Properties",
    "ProtocolError",
    "Subscription",
    "Tls",
    "Will",
    "certificate_notices",
    "connect",
    "in_words",
]
