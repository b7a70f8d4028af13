"""A self-contained MQTT engine: 3.1, 3.1.1 and 5.0 over TCP, TLS, WebSocket and unix sockets; it needs nothing of us."""

from gateway.mqtt.address import Address, Network, Tls
from gateway.mqtt.connection import Connection
from gateway.mqtt.dialing import connect
from gateway.mqtt.errors import ConnectError, ConnectionLost, ConnectRefused, MqttError, ProtocolError
from gateway.mqtt.listener import Listener, Message
from gateway.mqtt.options import Limits, Options
from gateway.mqtt.packets import Will
from gateway.mqtt.reasons import in_words

__all__ = [
    "Address",
    "ConnectError",
    "ConnectRefused",
    "Connection",
    "ConnectionLost",
    "Limits",
    "Listener",
    "Message",
    "MqttError",
    "Network",
    "Options",
    "ProtocolError",
    "Tls",
    "Will",
    "connect",
    "in_words",
]
