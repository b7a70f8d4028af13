"""A broker that does what a test tells it to: it refuses, stays silent, withholds answers, freezes and goes away."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from gateway.mqtt.codec import encode
from gateway.mqtt.errors import ProtocolError
from gateway.mqtt.packets import (
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Subscribe,
    Unsubscribe,
    Will,
)
from gateway.mqtt.properties import Properties
from gateway.mqtt.topics import SHARED, matches
from tests.broker_conversation import Conversation
from tests.broker_session import BrokerSession
from tests.ports import free_port

UNSUPPORTED_IN_5 = encode(Connack(reason=0x84), 5)
UNSUPPORTED_IN_3 = encode(Connack(reason=0x01), 4)


class ScriptedBroker:
    """A broker on 127.0.0.1 or a unix socket. `async with` starts and stops it; every knob may be turned while it runs.

    It takes MQTT 3.1, 3.1.1 and 5 at every QoS. It keeps no session and delivers nothing, unless it is told to.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None, unix: Path | None = None, port: int = 0) -> None:
        # Knobs.
        self.refuse: int | None = None  # answer CONNECT with this code
        self.refusal = Properties()  # beside that code, in MQTT 5
        self.mute_after: str | None = None  # "accept": no byte is read; "connect": CONNECT is read, but not answered
        self.close_on_connect = False  # close instead of answering CONNECT
        self.levels: Iterable[int] = (3, 4, 5)  # the protocol levels that it knows
        self.unsupported: bytes | None = UNSUPPORTED_IN_5  # its answer to another level; None: close
        self.hold_acks = False  # withhold PUBACKs and PUBRECs until `release`
        self.withhold: set[type[Packet]] = set()  # withhold these until `release`: Pubrec, Pubrel, Pubcomp, ...
        self.stop_acks = False  # never send another PUBACK, PUBREC or PUBCOMP
        self.puback_for_qos2 = False  # as RabbitMQ does
        self.hang_up_on: Callable[[Publish], bool] = lambda packet: False  # poison: cut instead of answering
        self.keep_sessions = False  # by client id, for clients that ask for it
        self.take_over = False  # end an older connection with the same client id, as every real broker does
        self.deliver = False  # pass published messages on to their subscribers, and retain
        self.challenges: Sequence[bytes] = ()  # of an enhanced authentication, each of which must be answered
        self.last_word: bytes | None = None  # of an enhanced authentication, with the CONNACK
        self.mute_pings = False  # do not answer PINGREQ
        self.mute_subscribes = False  # do not answer SUBSCRIBE
        self.puback_reason: Callable[[Publish], int] = lambda packet: 0  # MQTT 5: asked for each message of QoS 1
        self.puback_properties = Properties()  # beside a reason that is not 0
        self.granted: Callable[[str, int], int] = lambda name, qos: qos  # asked for each subscription
        self.suback_properties = Properties()
        self.connack = Properties()  # of the CONNACK in MQTT 5
        self.after_connack = b""  # bytes sent in the same write as CONNACK
        self.receive_buffer: int | None = None  # of the sockets of new connections, in bytes
        # What has happened.
        self.published: list[tuple[str, bytes, int, bool]] = []  # topic, payload, QoS, retain; QoS 2 once for each
        self.publishes: list[Publish] = []  # all of them, as they came, but for the topic of an alias
        self.answers: list[Puback | Pubrec | Pubcomp] = []  # to what the broker has sent
        self.releases: list[Pubrel] = []
        self.auths: list[Auth] = []
        self.unsubscribes: list[Unsubscribe] = []
        self.retained: dict[str, Publish] = {}
        self.sessions: dict[str, BrokerSession] = {}
        self.connects: list[Connect] = []
        self.subscribes: list[Subscribe] = []
        self.pings = 0
        self.disconnects: list[Disconnect] = []  # orderly goodbyes
        self.wills: list[Will] = []  # of clients that went without one
        self.errors: list[ProtocolError] = []  # what a client sent that MQTT does not allow
        self._tls, self._unix = tls, unix
        self._port = port
        self._frozen = False
        self._server: asyncio.Server | None = None
        self.conversations: list[Conversation] = []
        self.held_back: list[tuple[Conversation, bytes]] = []
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
        return len(self.conversations)

    @property
    def held(self) -> int:
        """Return how many answers are withheld."""
        return len(self.held_back)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen, again on the same port after a `stop`."""
        loop = asyncio.get_running_loop()
        if self._unix:
            self._server = await loop.create_unix_server(lambda: Conversation(self), str(self._unix))
        else:
            self._port = self._port or free_port()
            self._server = await loop.create_server(
                lambda: Conversation(self), "127.0.0.1", self._port, ssl=self._tls, reuse_address=True
            )

    async def stop(self) -> None:
        """Listen no more and drop every connection."""
        server, self._server = self._server, None
        if server is not None:
            # What was accepted in this turn fails, and stays open, if its server is closed before it is a connection.
            for one in server.sockets:
                asyncio.get_running_loop().remove_reader(one.fileno())
            await asyncio.sleep(0)
            server.close()
        if self._unix:
            self._unix.unlink(missing_ok=True)
        self.drop()
        await self.until(lambda: not self.conversations, 5.0)

    def drop(self) -> None:
        """Drop every connection now, as a crash does."""
        self.held_back.clear()
        for client in self.conversations:
            client.transport.abort()

    def freeze(self) -> None:
        """Read nothing more, from anybody, as a stopped process; connections are still accepted by the kernel."""
        self._frozen = True
        for client in self.conversations:
            client.transport.pause_reading()

    def thaw(self) -> None:
        """Read again."""
        self._frozen = False
        for client in self.conversations:
            client.transport.resume_reading()

    def release(self) -> None:
        """Send what was withheld, and withhold no more."""
        self.hold_acks = False
        self.withhold.clear()
        held, self.held_back = self.held_back, []
        for client, data in held:
            client.transport.write(data)

    def disconnect(self, reason: int, properties: Properties | None = None) -> None:
        """Say DISCONNECT to every client of MQTT 5, and close."""
        for client in self.conversations:
            client.transport.write(encode(Disconnect(reason, properties or Properties()), client.level))
            client.transport.close()

    def send(self, packet: Packet | bytes) -> None:
        """Send a packet, or bytes that are none, to every client."""
        for client in self.conversations:
            client.transport.write(packet if isinstance(packet, bytes) else encode(packet, client.level))

    def publish(self, message: Publish, origin: Conversation | None = None) -> None:
        """Deliver a message to whoever has subscribed to it, at the smaller QoS of both."""
        served: set[str] = set()  # shared filters
        for client in self.conversations:
            mine = client.session
            found = [one for one in mine.subscriptions.values() if matches(one.filter, message.topic)]
            found = [one for one in found if not (one.no_local and origin is client) and one.filter not in served]
            served.update(one.filter for one in found if one.filter.startswith(SHARED))
            if not found:
                continue
            properties = message.properties.copy()
            properties.pop("topic_alias", None)
            if identifiers := [mine.identifiers[one.filter] for one in found if one.filter in mine.identifiers]:
                properties["subscription_identifiers"] = identifiers
            client.deliver(
                replace(
                    message,
                    qos=min(message.qos, max(one.qos for one in found)),
                    retain=message.retain and (origin is None or any(one.retain_as_published for one in found)),
                    properties=properties if client.level >= 5 else Properties(),
                    packet_id=0,
                    dup=False,
                )
            )

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

    def happened(self) -> None:
        """Look at what is waited for; called by conversations."""
        for condition, holds in self._waiting:
            if not holds.done() and condition():
                holds.set_result(None)

    def came(self, client: Conversation) -> None:
        """Take in a connection; called by itself."""
        self.conversations.append(client)
        if self._server is None:  # it came while this stopped
            client.transport.abort()
            return
        if self.receive_buffer:
            sock = client.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        if self._frozen or self.mute_after == "accept":
            client.transport.pause_reading()
        self.happened()

    def went(self, client: Conversation) -> None:
        """Let go of a connection; called by itself."""
        self.conversations.remove(client)
        self.held_back = [held for held in self.held_back if held[0] is not client]
        if client.client_id and not client.durable and self.sessions.get(client.client_id) is client.session:
            del self.sessions[client.client_id]
        if client.will is not None:
            self.wills.append(client.will)
            if self.deliver:
                will = client.will
                self.publish(Publish(will.topic, will.payload, will.qos, will.retain, properties=will.properties))
        self.happened()
