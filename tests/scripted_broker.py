"""A broker that does what a test tells it to: it refuses, stays silent, withholds answers, freezes and goes away."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

from gateway.mqtt.codec import decode, encode
from gateway.mqtt.errors import ProtocolError
from gateway.mqtt.framing import Framer
from gateway.mqtt.packets import (
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Subscribe,
    Will,
)
from gateway.mqtt.properties import Properties

UNSUPPORTED_IN_5 = encode(Connack(reason=0x84), 5)
UNSUPPORTED_IN_3 = encode(Connack(reason=0x01), 4)


class ScriptedBroker:
    """A broker on 127.0.0.1 or a unix socket. `async with` starts and stops it; every knob may be turned while it runs.

    It takes MQTT 3.1, 3.1.1 and 5 at QoS 0 and 1, keeps no session, and delivers nothing by itself: see `send`.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None, unix: Path | None = None) -> None:
        # Knobs.
        self.refuse: int | None = None  # answer CONNECT with this code
        self.mute_after: str | None = None  # "accept": no byte is read; "connect": CONNECT is read, but not answered
        self.close_on_connect = False  # close instead of answering CONNECT
        self.levels: Iterable[int] = (3, 4, 5)  # the protocol levels that it knows
        self.unsupported: bytes | None = UNSUPPORTED_IN_5  # its answer to another level; None: close
        self.hold_acks = False  # withhold PUBACKs until `release`
        self.mute_pings = False  # do not answer PINGREQ
        self.mute_subscribes = False  # do not answer SUBSCRIBE
        self.puback_reason: Callable[[Publish], int] = lambda packet: 0  # MQTT 5: asked for each message of QoS 1
        self.granted: Callable[[str, int], int] = lambda name, qos: qos  # asked for each subscription
        self.connack = Properties()  # of the CONNACK in MQTT 5
        self.after_connack = b""  # bytes sent in the same write as CONNACK
        self.receive_buffer: int | None = None  # of the sockets of new connections, in bytes
        # What has happened.
        self.published: list[tuple[str, bytes, int, bool]] = []  # topic, payload, QoS, retain
        self.connects: list[Connect] = []
        self.subscribes: list[Subscribe] = []
        self.pings = 0
        self.disconnects: list[Disconnect] = []  # orderly goodbyes
        self.wills: list[Will] = []  # of clients that went without one
        self.errors: list[ProtocolError] = []  # what a client sent that MQTT does not allow
        self._tls, self._unix = tls, unix
        self._port = 0
        self._frozen = False
        self._server: asyncio.Server | None = None
        self._clients: list[_Client] = []
        self._held: list[tuple[_Client, bytes]] = []
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    @property
    def port(self) -> int:
        """Return the TCP port, the same after `stop` and `start`."""
        return self._port

    @property
    def url(self) -> str:
        """Return where it listens."""
        if self._unix:
            return f"unix://{self._unix}"
        return f"{'mqtts' if self._tls else 'mqtt'}://127.0.0.1:{self._port}"

    @property
    def receive_maximum(self) -> int:
        """Return the receive maximum that CONNACK says."""
        return self.connack.get("receive_maximum", 0xFFFF)

    @receive_maximum.setter
    def receive_maximum(self, value: int) -> None:
        self.connack["receive_maximum"] = value

    @property
    def maximum_packet_size(self) -> int | None:
        """Return the maximum packet size that CONNACK says."""
        return self.connack.get("maximum_packet_size")

    @maximum_packet_size.setter
    def maximum_packet_size(self, value: int) -> None:
        self.connack["maximum_packet_size"] = value

    @property
    def clients(self) -> int:
        """Return how many connections there are."""
        return len(self._clients)

    @property
    def held(self) -> int:
        """Return how many PUBACKs are withheld."""
        return len(self._held)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen, again on the same port after a `stop`."""
        loop = asyncio.get_running_loop()
        if self._unix:
            self._server = await loop.create_unix_server(lambda: _Client(self), str(self._unix))
        else:
            self._server = await loop.create_server(
                lambda: _Client(self), "127.0.0.1", self._port, ssl=self._tls, reuse_address=True
            )
            self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Listen no more and drop every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._unix:
            self._unix.unlink(missing_ok=True)
        self.drop()
        await self.until(lambda: not self._clients, 5.0)

    def drop(self) -> None:
        """Drop every connection now, as a crash does."""
        self._held.clear()
        for client in self._clients:
            client.transport.abort()

    def freeze(self) -> None:
        """Read nothing more, from anybody, as a stopped process; connections are still accepted by the kernel."""
        self._frozen = True
        for client in self._clients:
            client.transport.pause_reading()

    def thaw(self) -> None:
        """Read again."""
        self._frozen = False
        for client in self._clients:
            client.transport.resume_reading()

    def release(self) -> None:
        """Send the PUBACKs that were withheld, and withhold no more."""
        self.hold_acks = False
        held, self._held = self._held, []
        for client, data in held:
            client.transport.write(data)

    def disconnect(self, reason: int, properties: Properties | None = None) -> None:
        """Say DISCONNECT to every client of MQTT 5, and close."""
        for client in self._clients:
            client.transport.write(encode(Disconnect(reason, properties or Properties()), client.level))
            client.transport.close()

    def send(self, packet: Packet | bytes) -> None:
        """Send a packet, or bytes that are none, to every client."""
        for client in self._clients:
            client.transport.write(packet if isinstance(packet, bytes) else encode(packet, client.level))

    async def wait_published(self, count: int, timeout: float = 5.0) -> None:
        """Wait until that many messages have come in all. Raises TimeoutError."""
        await self.until(lambda: len(self.published) >= count, timeout)

    async def until(self, condition: Callable[[], bool], timeout: float = 5.0) -> None:
        """Wait until the condition holds; it is looked at whenever something happens here. Raises TimeoutError."""
        if condition():
            return
        holds: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((condition, holds))
        try:
            await asyncio.wait_for(holds, timeout)
        finally:
            self._waiting.remove((condition, holds))

    def _happened(self) -> None:
        for condition, holds in self._waiting:
            if not holds.done() and condition():
                holds.set_result(None)

    def _came(self, client: _Client) -> None:
        self._clients.append(client)
        if self.receive_buffer:
            sock = client.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        if self._frozen or self.mute_after == "accept":
            client.transport.pause_reading()
        self._happened()

    def _went(self, client: _Client) -> None:
        self._clients.remove(client)
        self._held = [held for held in self._held if held[0] is not client]
        if client.will is not None:
            self.wills.append(client.will)
        self._happened()

    def _take(self, client: _Client, packet: Packet) -> None:
        match packet:
            case Connect():
                self._welcome(client, packet)
            case Publish():
                self._publish(client, packet)
            case Subscribe():
                self.subscribes.append(packet)
                if not self.mute_subscribes:
                    granted = tuple(self.granted(one.filter, one.qos) for one in packet.subscriptions)
                    client.say(encode(Suback(packet.packet_id, granted), client.level))
            case Pingreq():
                self.pings += 1
                if not self.mute_pings:
                    client.say(encode(Pingresp(), client.level))
            case Disconnect():
                self.disconnects.append(packet)
                client.will = None
                client.close()

    def _welcome(self, client: _Client, packet: Connect) -> None:
        self.connects.append(packet)
        client.level = packet.level
        properties = self.connack if packet.level >= 5 else Properties()
        if self.mute_after == "connect":
            return
        if self.close_on_connect or (packet.level not in self.levels and self.unsupported is None):
            client.close()
        elif packet.level not in self.levels:
            client.say(self.unsupported or b"")
        elif self.refuse is not None:
            client.say(encode(Connack(reason=self.refuse), packet.level))
        else:
            client.will = packet.will
            client.say(encode(Connack(properties=properties), packet.level) + self.after_connack)

    def _publish(self, client: _Client, packet: Publish) -> None:
        self.published.append((packet.topic, packet.payload, packet.qos, packet.retain))
        if not packet.qos:
            return
        reason = self.puback_reason(packet) if client.level >= 5 else 0
        answer = encode(Puback(packet.packet_id, reason), client.level)
        if self.hold_acks:
            self._held.append((client, answer))
        else:
            client.say(answer)


class _Client(asyncio.Protocol):
    """One connection, from the broker's side."""

    def __init__(self, broker: ScriptedBroker) -> None:
        self.broker = broker
        self.level = 5
        self.will: Will | None = None
        self.framer = Framer(1 << 24)
        self.transport: asyncio.Transport
        self._said: list[bytes] = []

    def say(self, data: bytes) -> None:
        """Answer, together with what else this read is answered."""
        self._said.append(data)

    def close(self) -> None:
        """Close when everything said so far is written."""
        self._flush()
        self.transport.close()

    def _flush(self) -> None:
        if self._said:
            self.transport.write(b"".join(self._said))
            self._said.clear()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.broker._came(self)

    def data_received(self, data: bytes) -> None:
        try:
            for first, body in self.framer.feed(data):
                self.broker._take(self, decode(first, body, self.level))
        except ProtocolError as error:
            self.broker.errors.append(error)
            self.transport.abort()
            return
        self._flush()
        self.broker._happened()

    def connection_lost(self, exc: Exception | None) -> None:
        self.broker._went(self)
