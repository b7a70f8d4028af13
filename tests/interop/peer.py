"""The independent peer: paho-mqtt, driven by its own thread, as coroutines see it."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.interop.ways import Way

PROTOCOLS = {"3.1": MQTTProtocolVersion.MQTTv31, "3.1.1": MQTTProtocolVersion.MQTTv311, "5": MQTTProtocolVersion.MQTTv5}
PATIENCE = 10.0
"""Seconds that a broker has for anything that is asked of it."""
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
    """One message as it came; its properties, of MQTT 5, by our names."""

    topic: str
    payload: bytes
    qos: int
    retain: bool = False
    properties: Mapping[str, Any] = MappingProxyType({})


class Peer:
    """One paho-mqtt client; `async with` connects it, again too when its broker comes back, and disconnects it."""

    def __init__(self, way: Way, protocol: str = "5", client_id: str | None = None, *, clean: bool = True) -> None:
        """Prepare a client that goes this way with this protocol: "3.1", "3.1.1" or "5".

        With `clean` False the broker keeps its session; not with 5. Without a client id it gets one of its own:
        RabbitMQ deletes the queue of a client that is gone a little later, and then that of its successor.
        """
        self._way = way
        transport = "websockets" if way.scheme.startswith("ws") else "tcp"
        client = self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id or f"peer-{uuid.uuid4().hex[:8]}",
            clean_session=None if protocol == "5" else clean,
            protocol=PROTOCOLS[protocol],
            transport=transport,
        )
        client.reconnect_delay_set(1, 1)
        if way.path:
            client.ws_set_options(path=way.path)
        if way.ca is not None:
            client.tls_set(str(way.ca), *map(str, way.certificate or ()))
        if way.username is not None:
            client.username_pw_set(way.username, way.password)
        client.on_connect, client.on_subscribe, client.on_message = self._connected, self._subscribed, self._received
        self._heard: asyncio.Queue[Heard] = asyncio.Queue()
        self._answers: asyncio.Queue[Any] = asyncio.Queue()
        self._welcomed = False

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._client.connect_async("127.0.0.1", self._way.port)
        self._client.loop_start()
        try:
            reason = await self._answer()
            assert not reason.is_failure, f"paho-mqtt was refused: {reason}"
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)
        self._client._reset_sockets()  # else the pair that wakes its thread stays open until it is collected

    async def subscribe(self, topic: str, qos: int) -> int:
        """Subscribe, and return the QoS that was granted."""
        self._client.subscribe(topic, qos)
        (granted,) = await self._answer()
        return int(granted.value)

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
        if not self._welcomed:  # who comes back is not waited for
            self._welcomed = True
            self._tell(self._answers, reason)

    def _subscribed(self, _client: paho.Client, _data: object, _mid: int, reasons: Any, _more: object) -> None:
        self._tell(self._answers, reasons)

    def _received(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        said = message.properties
        found = {ours: getattr(said, theirs) for ours, theirs in NAMES.items() if hasattr(said, theirs)}
        self._tell(self._heard, Heard(message.topic, message.payload, message.qos, message.retain, found))

    def _tell(self, queue: asyncio.Queue[Any], item: object) -> None:
        with contextlib.suppress(RuntimeError):  # the test is over, and its loop closed
            self._loop.call_soon_threadsafe(queue.put_nowait, item)
