"""paho-mqtt as the independent peer, with all that MQTT 5 lets a message carry, as coroutines see it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

PATIENCE = 10.0
# Our names -> paho's, in the order of the specification.
NAMES = {
    "payload_format_indicator": "PayloadFormatIndicator",
    "message_expiry_interval": "MessageExpiryInterval",
    "content_type": "ContentType",
    "response_topic": "ResponseTopic",
    "correlation_data": "CorrelationData",
    "user_properties": "UserProperty",
}


class Heard(NamedTuple):
    """One message as it came; its properties by our names."""

    topic: str
    payload: bytes
    qos: int
    properties: dict[str, Any]


class PahoPeer:
    """One connected paho-mqtt client on 127.0.0.1; `async with` connects and disconnects it."""

    def __init__(self, port: int, client_id: str = "peer", protocol: int = MQTTProtocolVersion.MQTTv5) -> None:
        self._port = port
        client = self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id, protocol=protocol)
        client.reconnect_delay_set(1, 1)
        client.on_connect, client.on_subscribe, client.on_message = self._connected, self._subscribed, self._received
        self.connects = 0
        self._heard: asyncio.Queue[Heard] = asyncio.Queue()
        self._answers: asyncio.Queue[Any] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._client.connect_async("127.0.0.1", self._port)
        self._client.loop_start()
        await self._answer()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)
        self._client._reset_sockets()  # else the pair that wakes its thread stays open until it is collected

    async def subscribe(self, topic: str, qos: int) -> None:
        """Subscribe, and return when the broker has answered."""
        self._client.subscribe(topic, qos)
        await self._answer()

    async def publish(self, topic: str, payload: bytes, qos: int, said: Mapping[str, Any] | None = None) -> None:
        """Publish, and return when the broker has acknowledged it; at QoS 0, when it is written."""
        properties = Properties(PacketTypes.PUBLISH)
        for name, value in (said or {}).items():
            setattr(properties, NAMES[name], value)
        info = self._client.publish(topic, payload, qos, properties=properties if said else None)
        await asyncio.to_thread(info.wait_for_publish, PATIENCE)
        assert info.is_published(), f"paho-mqtt got no acknowledgement of {topic} at QoS {qos}"

    async def next(self) -> Heard:
        """Return the next message."""
        async with asyncio.timeout(PATIENCE):
            return await self._heard.get()

    async def _answer(self) -> Any:
        async with asyncio.timeout(PATIENCE):
            return await self._answers.get()

    # ---- called in paho-mqtt's thread

    def _connected(self, _client: paho.Client, _data: object, _flags: object, reason: Any, _more: object) -> None:
        self.connects += 1
        if self.connects == 1:
            self._tell(self._answers, reason)

    def _subscribed(self, _client: paho.Client, _data: object, _mid: int, reasons: Any, _more: object) -> None:
        self._tell(self._answers, reasons)

    def _received(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        said = message.properties
        found = {ours: getattr(said, theirs) for ours, theirs in NAMES.items() if hasattr(said, theirs)}
        self._tell(self._heard, Heard(message.topic, message.payload, message.qos, found))

    def _tell(self, queue: asyncio.Queue[Any], item: object) -> None:
        with contextlib.suppress(RuntimeError):  # the test is over, and its loop closed
            self._loop.call_soon_threadsafe(queue.put_nowait, item)
