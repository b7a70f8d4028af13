"""Every way to a broker: TCP, TLS, WebSocket, unix socket and proxies, each of which ends in an asyncio transport."""

from gateway.mqtt.ways.deadline import within
from gateway.mqtt.ways.names import Resolve
from gateway.mqtt.ways.way import Way, ways

__all__ = ["Resolve", "Way", "ways", "within"]
